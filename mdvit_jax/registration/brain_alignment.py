"""Two foregrounds, heads or brains → their brains, aligned."""

from collections.abc import Callable

import numpy as np

from mdvit_jax.registration import brain_extraction, levels, similarity_metrics
from mdvit_jax.registration import search as searches
from mdvit_jax.registration.foreground import Foreground

# Two foregrounds → 4×4 fixed → moving, world RAS+ mm, from which to start.
Start = Callable[[Foreground, Foreground], np.ndarray]
_Result = tuple[levels.Pair, searches.Alignment]

# Local correlation that is convincing; and where most of the starts agree.
_ALIKE, _ALIKE_IF_AGREED, _AGREE = 0.4, 0.25, 0.6
# By how much more two brains must be alike if both are what the network takes for them:
# without their rims brains are alike by up to 0.07 more, and the answer is no better.
_CLEARLY = 0.08


def align(
    fixed: Foreground,
    moving: Foreground,
    begin: Start,
    *,
    dof: str = "affine",
    search: bool = True,
    seed: int = 0,
) -> _Result:
    """Align the brains of two foregrounds.

    Where one outline is a network's estimate, as a head's is, so is the other. Where
    none is and the answer is not convincing, what the network takes for the brains is
    tried, too: so what was stripped loosely, with bright bone around the brain, comes
    right.

    Args:
        fixed, moving: the foregrounds.
        begin: says for the two that are aligned from where to start.
        dof, search, seed: as those of `search.align`.

    Returns:
        What was aligned, on its cubes, and how.
    """

    def attempt(one: Foreground, other: Foreground) -> _Result:
        pair = levels.build_pair(one, other)
        start = begin(one, other)
        return pair, searches.align(pair, start, dof=dof, search=search, seed=seed)

    objects = brain_extraction.replace_heads(fixed, moving)
    if any(image.estimated for image in objects):
        # Outlines of one kind: stripped brains have a rim of fluid, a tenth of their
        # volume, which what the network takes for the brain does not have.
        return attempt(*(brain_extraction.extract_brains(*objects) or objects))
    result = attempt(*objects)
    likeness = _likeness(*result)
    agree = result[1].restart_agreement > _AGREE
    if likeness < (_ALIKE_IF_AGREED if agree else _ALIKE):
        brains = brain_extraction.extract_brains(*objects)
        if brains is not None:
            other = attempt(*brains)
            if _likeness(*other) > likeness + _CLEARLY:
                result = other
    return result


def _likeness(pair: levels.Pair, alignment: searches.Alignment) -> float:
    return similarity_metrics.measure(pair, alignment.matrix).correlation
