"""A brain alone on a whole head: the brain has to be found in the head.

Neither the centres nor the outlines of the two say where it is. The trained network
does, to about 10 mm, if the two heads are turned to each other by no more than some
30°. From its place on the brain is compared with the head without outlines. The brain's
object is widened, so that the dark ring of fluid and bone around a brain counts.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from mdvit_jax.data import morphology
from mdvit_jax.registration import levels, network_start, refinement, rotations, search
from mdvit_jax.registration.foreground import Foreground, coarsen

# Volume of a head, even of a cropped one, to that of its brain.
_LARGER = 1.8
_LARGEST = 2.5e6  # mm³ of a brain with a wide margin
_RING = 6.0  # mm along the axes, 8 mm on average
_EXACT_WEIGHT = 0.25  # of the ring in the end: the interior is more exact
_CLEAR = 0.33  # local correlation at 96³ from which details in common lead the way
_CANDIDATES = 3  # places that are compared closely
_BATCH = 12  # starts of one call, as many as `search.align` has
_STEPS = 8  # at 24³, to choose among the orientations
_MARGIN = 25.0  # mm kept of the head around a ball that holds the brain


def is_likely(fixed: Foreground, moving: Foreground) -> bool:
    """Whether one seems to show a brain alone, before an empty background, and one a
    head.
    """
    brain, head = fixed, moving
    if not _brain_is_first(fixed, moving):
        brain, head = head, brain
    if head.clean:  # both may be brains
        return brain.clean and head.volume > _LARGER * brain.volume
    # Of a dark head with noise little more than the brain is seen.
    return brain.clean and brain.volume < _LARGEST


def build_pair(
    fixed: Foreground, moving: Foreground, fixed_to_moving: np.ndarray
) -> levels.Pair:
    """The brain and what of the head lies around it on cubes, without outlines.

    Args:
        fixed, moving: the brain is the one whose background has no noise, else the
            smaller one.
        fixed_to_moving: 4×4, world RAS+ mm, about where the brain is in the head.
    """
    if not _brain_is_first(fixed, moving):
        return build_pair(moving, fixed, np.linalg.inv(fixed_to_moving)).swap()
    return _build_pair(_widen(fixed), moving, fixed_to_moving)


def _build_pair(
    brain: Foreground, head: Foreground, brain_to_head: np.ndarray
) -> levels.Pair:
    pair = levels.build_pair(brain, _look_at(head, brain, brain_to_head))
    points = {}
    for size, (brain_cube, head_cube) in pair.cubes.items():
        # Only those voxels of the head take part that lie in or around the brain.
        head_to_brain = np.linalg.inv(np.vstack([
            pair.to_voxels(brain_to_head, size), [0, 0, 0, 1]
        ]))  # fmt: skip
        there = _points_around(head_cube, brain_cube, head_to_brain)
        points[size] = pair.points[size][0], there
    return pair._replace(points=points, outlines=False)


def align(
    fixed: Foreground,
    moving: Foreground,
    start: np.ndarray | None,
    *,
    dof: str = "affine",
    seed: int = 0,
) -> tuple[levels.Pair, search.Alignment]:
    """Find a brain in a head; which is which, is as in `build_pair`.

    Args:
        fixed, moving: the foregrounds.
        start: 4×4 fixed → moving, world RAS+ mm, a few centimetres off at most; None:
            the network looks from all sides.
        dof: "rigid", "similarity" or "affine".
        seed: seed of the starts drawn around the best place.

    Returns:
        The cubes around the brain, and the result on them.
    """
    if not _brain_is_first(fixed, moving):
        # One order whichever is called fixed: both answers are exact inverses.
        start = None if start is None else np.linalg.inv(start)
        pair, result = align(moving, fixed, start, dof=dof, seed=seed)
        return pair.swap(), result._replace(matrix=np.linalg.inv(result.matrix))
    brain, head = coarsen(fixed), coarsen(moving)
    if start is None:
        places = [*network_start.estimate(brain, head, rotations.axis_turns())]
    else:
        places = [start]
    free = "affine" if dof == "affine" else "similarity"
    place = _find(_widen(brain), head, places, free)
    pair = build_pair(fixed, moving, place)
    result = search.align(pair, place, dof=dof, search=False, seed=seed)
    return pair, result._replace(matrix=_refine(fixed, moving, result.matrix, dof))


def _refine(
    brain: Foreground, head: Foreground, matrix: np.ndarray, dof: str
) -> np.ndarray:
    """Where details agree, trust the ring less, and in one person not at all."""
    free = "similarity" if dof == "rigid" else dof
    pair = _build_pair(_widen(brain, _EXACT_WEIGHT), head, matrix)
    fit = refinement.fit_people(pair, pair.to_voxels(matrix, 48), free)
    if fit.correlation < _CLEAR:
        return matrix
    fit = refinement.fit(pair, 96, fit.matrix, dof=free)
    matrix = pair.to_world(fit.matrix, 96)
    tight = _build_pair(brain, head, matrix)
    start = tight.to_voxels(matrix, 96)
    inner = refinement.fit(tight, 96, start, dof=free, interior=True)
    one_person = bool(inner.correlation > refinement.ONE_PERSON_INSIDE)
    if one_person:
        pair, fit = tight, inner
    best = fit.matrix
    if dof == "rigid":
        best, _ = refinement.remove_scale(pair, best, interior=one_person)
    return pair.to_world(best, 96)


def _brain_is_first(one: Foreground, other: Foreground) -> bool:
    if one.clean == other.clean:
        return one.volume < other.volume
    return one.clean


def _find(
    brain: Foreground, head: Foreground, places: Sequence[np.ndarray], dof: str
) -> np.ndarray:
    """The best of several places of the brain in the head, 4×4, refined at 48³."""
    if dof == "similarity":
        places = [_nearest_similarity(matrix) for matrix in places]
    if len(places) > 1:
        places = _best_places(brain, head, places, dof)
    results = []
    for place in places:
        near = levels.build_pair(brain, _look_at(head, brain, place))
        near = near._replace(outlines=False)
        matrix = near.to_voxels(place, 24)
        matrix = refinement.fit(near, 24, matrix, dof=dof).matrix
        fit = refinement.fit(near, 48, refinement.finer(matrix), dof=dof)
        results.append((float(search.rate(fit)), near.to_world(fit.matrix, 48)))
    return max(results, key=lambda result: result[0])[1]


def _best_places(
    brain: Foreground, head: Foreground, places: Sequence[np.ndarray], dof: str
) -> list[np.ndarray]:
    """The places that fit best at 24³, each a voxel or more away from better ones."""
    pair = levels.build_pair(brain, head)._replace(outlines=False)
    starts = np.stack([pair.to_voxels(matrix, 24) for matrix in places])
    fits = [
        refinement.fit(pair, 24, starts[first : first + _BATCH], dof=dof, steps=_STEPS)
        for first in range(0, len(starts), _BATCH)
    ]
    answers = np.concatenate([fit.matrix for fit in fits])
    scores = np.concatenate([search.rate(fit) for fit in fits])
    radius = brain.radius / (4 * pair.voxel)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        others = [search.distance(answers[index], answers[k], radius) for k in kept]
        if min(others, default=np.inf) > 1:
            kept.append(int(index))
    return [pair.to_world(answers[index], 24) for index in kept[:_CANDIDATES]]


def _look_at(head: Foreground, brain: Foreground, place: np.ndarray) -> Foreground:
    """The part of the head around where the brain is, with the brain's radius."""
    centre = place[:3] @ [*brain.centre, 1]
    head = head._replace(centre=centre, radius=brain.radius)
    # Less to resample: the voxels about a cube of the world.
    to_voxels = np.linalg.inv(head.affine)
    middle = to_voxels[:3] @ [*centre, 1]
    reach = np.abs(to_voxels[:3, :3]).sum(1) * (brain.radius + _MARGIN)
    low = np.clip(np.floor(middle - reach), 0, None).astype(int)
    high = np.clip(np.ceil(middle + reach), 0, None).astype(int)
    box = tuple(map(slice, low, high))
    if not head.inside[box].any():
        return head
    affine = head.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    image, inside, weight = head.image[box], head.inside[box], head.weight[box]
    return head._replace(image=image, inside=inside, weight=weight, affine=affine)


def _points_around(head, brain, head_to_brain: np.ndarray) -> np.ndarray:
    """Points of a head's cube in or around the brain, under a 4×4 in voxels."""
    middle = (len(brain.inside) - 1) / 2
    linear, shift = head_to_brain[:3, :3], head_to_brain[:3, 3]
    offset = shift + middle - linear @ np.full(3, middle)
    inside = ndimage.affine_transform(brain.inside, linear, offset, order=1)
    return levels.choose_points(head._replace(inside=inside))


def _widen(brain: Foreground, ring: float = 1.0) -> Foreground:
    """The brain with a dark ring of some weight, beyond which nothing counts."""
    steps = np.linalg.norm(brain.affine[:3, :3], axis=0)
    reach = np.maximum(np.rint(_RING / steps), 1).astype(int)
    border = [(r, r) for r in reach]
    inside = morphology.dilate(np.pad(brain.inside, border), reach)
    affine = brain.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ reach
    # A row more, as weights go on beyond the outermost voxels.
    row = [(1, 1)] * 3
    affine[:3, 3] -= affine[:3, :3].sum(1)
    weight = np.where(np.pad(brain.inside, border), 1, ring) * inside
    weight = weight.astype(np.float32) * np.pad(brain.weight, border, mode="edge")
    return brain._replace(
        image=np.pad(np.pad(brain.image, border), row),
        inside=np.pad(inside, row),
        weight=np.pad(weight, row),
        affine=affine,
        radius=brain.radius + _RING,
    )


def _nearest_similarity(matrix: np.ndarray) -> np.ndarray:
    """A 4×4 without shear and with one scale."""
    u, sizes, vt = np.linalg.svd(matrix[:3, :3])
    result = matrix.copy()
    result[:3, :3] = np.cbrt(np.prod(sizes)) * u @ vt
    return result
