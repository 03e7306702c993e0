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

# Two foregrounds → 4×4 fixed → moving, world RAS+ mm, from which to start.
Start = Callable[[Foreground, Foreground], np.ndarray]

# Local correlation that is convincing; and where most of the starts agree.
_ALIKE, _ALIKE_IF_AGREED, _AGREE = 0.4, 0.25, 0.6
# By how much better two brains must fit if both are what the network takes for them:
# by up to 0.05 more they do without their rims, and the answer is no better.
_CLEARLY = 0.06
# Degrees up to which the network sees the same brain. In heads turned farther the Dice
# of its brains is lower by up to 0.025, and by nothing where it looks at them upright.
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
    right, and so do two strippings of which one leaves a wide rim.

    Args:
        fixed, moving: the foregrounds.
        begin: says for the two that are aligned from where to start.
        dof, search, seed: as those of `search.align`.
    """
    attempt = functools.partial(_align, dof=dof, search=search, seed=seed)
    objects = brain_extraction.replace_heads(fixed, moving)
    if any(image.estimated for image in objects):
        # Outlines of one kind: stripped brains have a rim of fluid, a tenth of their
        # volume, which what the network takes for the brain does not have.
        brains = brain_extraction.extract_brains(*objects)
        if brains is None:
            return attempt(*objects, begin)
        result = attempt(*brains, begin)
        attempt = functools.partial(_align, dof=dof, search=False, seed=seed)
        return _look_upright(fixed, moving, result, attempt)
    result = attempt(*objects, begin)
    likeness = result.measures.correlation
    agree = result.alignment.restart_agreement > _AGREE
    if likeness < (_ALIKE_IF_AGREED if agree else _ALIKE):
        brains = brain_extraction.extract_brains(*objects)
        if brains is not None:
            other = attempt(*brains, begin)
            if _fitness(other) > _fitness(result) + _CLEARLY:
                result = other
    return result


def _fitness(result: BrainAlignment) -> float:
    """How well two brains fit: outlines and interior at 24³, the interior at 48³."""
    return result.alignment.score + result.measures.correlation


def _align(fixed: Foreground, moving: Foreground, begin: Start, **options):
    pair = levels.build_pair(fixed, moving)
    alignment = searches.align(pair, begin(fixed, moving), **options)
    measures = similarity_metrics.measure(pair, alignment.matrix)
    return BrainAlignment(pair, alignment, measures)


def _look_upright(
    fixed: Foreground,
    moving: Foreground,
    result: BrainAlignment,
    attempt: Callable[..., BrainAlignment],
) -> BrainAlignment:
    """Look for the brains again where one head is turned far from the other.

    The network was trained on heads that are mostly upright, and finds another brain in
    a turned one. Which of the two is turned is not known: each is looked at as the
    other one lies, and the outlines that agree best decide.

    Args:
        fixed, moving: the heads, or brains.
        result: of the brains found at first.
        attempt: aligns two brains from a start.
    """
    matrix = result.alignment.matrix
    turn = rotations.nearest(matrix[:3, :3])
    if rotations.angle(turn, np.eye(3)) < _TURNED:
        return result
    pairs = (
        (result.pair.fixed, brain_extraction.extract_brain(moving, turn.T)),
        (brain_extraction.extract_brain(fixed, turn), result.pair.moving),
    )
    results = [result]
    for brains in pairs:
        if None not in brains:
            again = attempt(*brains, lambda one, other: matrix)
            first = result.alignment._replace(
                matrix=again.alignment.matrix, score=again.alignment.score
            )
            results.append(again._replace(alignment=first))
    return max(results, key=lambda result: result.alignment.score)
