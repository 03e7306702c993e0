"""Two foregrounds, heads or brains → their brains, aligned."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mdvit_jax.registration import (
    brain_extraction,
    levels,
    rotations,
    similarity_metrics,
)
from mdvit_jax.registration import search as searches
from mdvit_jax.registration.foreground import Foreground

# Two foregrounds → places to start from, [n, 4, 4] fixed → moving, world RAS+ mm.
Start = Callable[[Foreground, Foreground], np.ndarray]

# Local correlation below which other brains are tried; the same where more than this
# share of the starts agree.
_ALIKE, _ALIKE_IF_AGREED, _AGREE = 0.4, 0.25, 0.6
# How much higher the fitness must be with what the network takes for the brains:
# without their rims it is up to 0.05 higher, and the answer no better.
_CLEARLY = 0.06
# Degrees of turn up to which the network finds the same brain. Beyond, the Dice of its
# brains is up to 0.025 lower; where it looks at them upright, it is not.
_TURNED = 30.0


class BrainAlignment(NamedTuple):
    """Two brains, and how they were aligned.

    Attributes:
        pair: what was aligned, on its cubes.
        alignment: the matrix, and how sure it is.
        measures: of the pair under the matrix.
    """

    pair: levels.Pair
    alignment: searches.Alignment
    measures: similarity_metrics.Measures


def align(
    fixed: Foreground,
    moving: Foreground,
    begin: Start,
    *,
    dof: str = "affine",
    search: bool = True,
    seed: int = 0,
) -> BrainAlignment:
    """Align the brains of two foregrounds.

    Where one outline is a network's estimate, as a head's is, so is the other. Where
    none is and the answer is not convincing, what the network takes for the brains is
    tried, too: so what was stripped loosely, with bright bone around the brain, comes
    right, and so do two strippings of which one leaves a wide rim. Where the answer
    turns one by 30° or more, the network looks at each again as the other one lies.

    Args:
        fixed, moving: the foregrounds.
        begin: says for the two that are aligned from where to start.
        dof, search, seed: as those of `search.align`.

    Raises:
        UserError: as `levels.build_pair`.
    """
    attempt = functools.partial(_align, dof=dof, search=search, seed=seed)
    look_again = functools.partial(_look_again, fixed, moving, dof=dof, seed=seed)
    objects = brain_extraction.replace_heads(fixed, moving)
    if any(image.estimated for image in objects):
        # Outlines of one kind: stripped brains have a rim of fluid, a tenth of their
        # volume, which what the network takes for the brain does not have.
        brains = brain_extraction.extract_brains(*objects)
        if brains is None:
            return attempt(*objects, begin(*objects))
        return look_again(attempt(*brains, begin(*brains)))
    result = attempt(*objects, begin(*objects))
    likeness = result.measures.correlation
    agree = result.alignment.restart_agreement > _AGREE
    if likeness < (_ALIKE_IF_AGREED if agree else _ALIKE):
        brains = brain_extraction.extract_brains(*objects)
        if brains is not None:
            other = attempt(*brains, begin(*brains))
            if _fitness(other) > _fitness(result) + _CLEARLY:
                return look_again(other)
    return result


def _fitness(result: BrainAlignment) -> float:
    """How well two brains fit: outlines and interior at 24³, the interior at 48³."""
    return result.alignment.score + result.measures.correlation


def _align(
    fixed: Foreground,
    moving: Foreground,
    places: np.ndarray,
    *,
    dof: str,
    search: bool,
    seed: int,
) -> BrainAlignment:
    """Align two foregrounds as they are, from the places [n, 4, 4] on."""
    pair = levels.build_pair(fixed, moving)
    alignment = searches.align(pair, places, dof=dof, search=search, seed=seed)
    measures = similarity_metrics.measure(pair, alignment.matrix)
    return BrainAlignment(pair, alignment, measures)


def _look_again(
    fixed: Foreground,
    moving: Foreground,
    result: BrainAlignment,
    *,
    dof: str,
    seed: int,
) -> BrainAlignment:
    """Look for the brains again where one head is turned far from the other.

    The network was trained on heads that are mostly upright, and finds another brain in
    a turned one. Which of the two is turned is not known: each is looked at as the
    other one lies, and the brains with the best score at 24³ are taken. The local
    correlation at 48³ could not decide: the less of a brain is seen, the higher it is.

    Args:
        fixed, moving: the heads, or brains.
        result: of the brains that were found in them at first.
        dof, seed: as those of `align`.

    Returns:
        The best result, with what the first one says of other places and orientations.
    """
    first = result.alignment
    # Rounded: the same bits whichever image is called fixed.
    turn = rotations.nearest(first.matrix[:3, :3]).round(9)
    if rotations.angle(turn, np.eye(3)) < _TURNED:
        return result
    pairs = (
        (result.pair.fixed, brain_extraction.extract_brain(moving, turn.T)),
        (brain_extraction.extract_brain(fixed, turn), result.pair.moving),
    )
    results = [result]
    for one, other in pairs:
        if one is not None and other is not None:
            places = first.matrix[None]
            again = _align(one, other, places, dof=dof, search=False, seed=seed)
            alignment = again.alignment._replace(
                restart_agreement=first.restart_agreement,
                searched=first.searched,
                runner_up_score=first.runner_up_score,
            )
            results.append(again._replace(alignment=alignment))
    return max(results, key=lambda result: result.alignment.score)
