"""A brain alone on a whole head: the brain has to be found in the head.

Neither the centres nor the outlines of the two say where it is. The trained network
does, to about 10 mm, from each of the 24 orientations along the axes. Around its places
the brain is compared with the head without outlines. The brain's object is widened, so
that the dark ring of fluid and bone around a brain counts.
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from mdvit_jax.registration import (
    levels,
    network_start,
    normal_equations,
    rotations,
    search,
)
from mdvit_jax.registration.foreground import Foreground

_RING = 6.0  # mm along the axes, 8 mm on average
_CANDIDATES = 3  # places that are compared closely
_BATCH = 12  # starts of one call, as many as `search.align` has
_COARSE = 3.0  # mm; voxels that are fine enough for cubes of 48³


def align(
    pair: levels.Pair,
    start: np.ndarray | None = None,
    *,
    dof: str = "affine",
    seed: int = 0,
) -> tuple[levels.Pair, search.Alignment]:
    """Find the brain that one foreground shows in the head that the other one does.

    The brain is the one whose background has no noise, else the smaller one.

    Args:
        pair: the foregrounds.
        start: 4×4 fixed → moving, world RAS+ mm; None: those of the network.
        dof: "rigid", "similarity" or "affine".
        seed: seed of the starts drawn around the best place.

    Returns:
        The cubes around the brain, and the result on them.
    """
    fixed, moving = pair.fixed, pair.moving
    if fixed.clean == moving.clean:
        brain_is_fixed = fixed.volume < moving.volume
    else:
        brain_is_fixed = fixed.clean

    def in_order(brain, head):
        return (brain, head) if brain_is_fixed else (head, brain)

    def to_head(matrix):
        return matrix if brain_is_fixed else np.linalg.inv(matrix)

    brain, head = in_order(fixed, moving)
    if start is None:
        places = network_start.estimate(brain, head, rotations.axis_turns())
    else:
        places = to_head(start)[None]
    place = _find(brain, head, places, dof)
    brain = _widen(brain)
    matrix = to_head(place)
    around = in_order(brain, _look_at(head, brain, place))
    inner = _only_near_the_brain(
        levels.build_pair(*around, outlines=False), matrix, brain_is_fixed
    )
    return inner, search.align(inner, matrix, dof=dof, search=False, seed=seed)


def _find(
    brain: Foreground, head: Foreground, places: np.ndarray, dof: str
) -> np.ndarray:
    """The best of several places of the brain in the head, 4×4, refined at 48³."""
    dof = "affine" if dof == "affine" else "similarity"
    if dof == "similarity":
        places = np.stack([_nearest_similarity(matrix) for matrix in places])
    brain, head = _widen(_coarser(brain)), _coarser(head)
    pair = levels.build_pair(brain, head, outlines=False)
    starts = np.stack([pair.to_voxels(matrix, 24) for matrix in places])
    fits = [
        search.fit(pair, 24, starts[first : first + _BATCH], dof=dof)
        for first in range(0, len(starts), _BATCH)
    ]
    answers = np.concatenate([fit.matrix for fit in fits])
    scores = np.concatenate([search.rate(fit) for fit in fits])
    results = []
    for index in _best_places(answers, scores, brain.radius / (4 * pair.voxel)):
        place = pair.to_world(answers[index], 24)
        near = levels.build_pair(brain, _look_at(head, brain, place), outlines=False)
        matrix = near.to_voxels(place, 24)
        matrix = search.fit(near, 24, matrix, dof=dof).matrix
        fit = search.fit(near, 48, search.finer(matrix), dof=dof)
        results.append((float(search.rate(fit)), near.to_world(fit.matrix, 48)))
    return max(results, key=lambda result: result[0])[1]


def _best_places(answers: np.ndarray, scores: np.ndarray, radius: float) -> list[int]:
    """Indices of the best answers, each a voxel or more away from better ones."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        others = [search.distance(answers[index], answers[k], radius) for k in kept]
        if min(others, default=np.inf) > 1:
            kept.append(int(index))
    return kept[:_CANDIDATES]


def _look_at(head: Foreground, brain: Foreground, place: np.ndarray) -> Foreground:
    """The head with cubes around where the brain is."""
    return head._replace(centre=place[:3] @ [*brain.centre, 1], radius=brain.radius)


def _only_near_the_brain(
    pair: levels.Pair, fixed_to_moving: np.ndarray, brain_is_fixed: bool
) -> levels.Pair:
    """Let only those voxels of the head take part that lie in or around the brain."""
    points = {}
    for size, (fixed, moving) in pair.cubes.items():
        matrix = pair.to_voxels(fixed_to_moving, size)
        there, back = pair.points[size]
        if brain_is_fixed:
            inverse = normal_equations.invert(jnp.asarray(matrix))
            back = _points_around(moving, fixed, np.asarray(inverse))
        else:
            there = _points_around(fixed, moving, matrix)
        points[size] = there, back
    return pair._replace(points=points)


def _points_around(head, brain, head_to_brain: np.ndarray) -> np.ndarray:
    middle = (len(brain.inside) - 1) / 2
    linear, shift = head_to_brain[:, :3], head_to_brain[:, 3]
    offset = shift + middle - linear @ np.full(3, middle)
    inside = ndimage.affine_transform(brain.inside, linear, offset, order=1)
    return levels.choose_points(head._replace(inside=inside))


def _widen(brain: Foreground) -> Foreground:
    """The brain with a dark ring, beyond which nothing counts."""
    steps = np.linalg.norm(brain.affine[:3, :3], axis=0)
    reach = np.maximum(np.rint(_RING / steps), 1).astype(int)
    border = [(r, r) for r in reach]
    inside = ndimage.maximum_filter(np.pad(brain.inside, border), 2 * reach + 1)
    affine = brain.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ reach
    # A row more, as weights go on beyond the outermost voxels.
    row = [(1, 1)] * 3
    affine[:3, 3] -= affine[:3, :3].sum(1)
    weight = np.pad(brain.weight, border, mode="edge") * inside
    return brain._replace(
        image=np.pad(np.pad(brain.image, border), row),
        inside=np.pad(inside, row),
        weight=np.pad(weight, row),
        affine=affine,
        radius=brain.radius + _RING,
    )


def _coarser(foreground: Foreground) -> Foreground:
    """The foreground in larger voxels, means of whole cubes of its own."""
    steps = np.linalg.norm(foreground.affine[:3, :3], axis=0)
    factor = np.maximum(np.floor(_COARSE / steps), 1).astype(int)
    padding = [(0, -n % f) for n, f in zip(foreground.image.shape, factor, strict=True)]

    def mean(volume: np.ndarray, mode: Literal["constant", "edge"]) -> np.ndarray:
        padded = np.pad(volume.astype(np.float32), padding, mode=mode)
        for axis, f in enumerate(factor):
            shape = padded.shape
            split = (*shape[:axis], shape[axis] // f, f, *shape[axis + 1 :])
            padded = padded.reshape(split).mean(axis + 1)
        return padded

    affine = foreground.affine @ np.diag([*factor, 1.0])
    affine[:3, 3] += foreground.affine[:3, :3] @ ((factor - 1) / 2)
    return foreground._replace(
        image=mean(foreground.image, "constant"),
        inside=mean(foreground.inside, "constant") >= 0.5,
        weight=mean(foreground.weight, "edge"),
        affine=affine,
    )


def _nearest_similarity(matrix: np.ndarray) -> np.ndarray:
    """A 4×4 without shear and with one scale."""
    u, sizes, vt = np.linalg.svd(matrix[:3, :3])
    result = matrix.copy()
    result[:3, :3] = np.cbrt(np.prod(sizes)) * u @ vt
    return result
