"""Pairs of images to register, and how good a transform is on each.

Every function here is pure: the same arguments make the same case. A transform is a
4×4 `fixed_to_moving` in world RAS+ mm.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from benchmarks.registration import contrasts, damages, scans
from mdvit_jax.data import template
from mdvit_jax.evaluation import metrics, regions
from mdvit_jax.io.image import Image
from mdvit_jax.studies import perturbations
from mdvit_jax.transforms import Grid, resample

_REGIONS = regions.label_values("neuromorphometrics")


class Case(Protocol):
    """Two images, and a measure of a transform between them."""

    @property
    def fixed(self) -> Image: ...  # noqa: D102
    @property
    def moving(self) -> Image: ...  # noqa: D102
    def measure(self, fixed_to_moving: np.ndarray) -> float: ...  # noqa: D102


class KnownAffine(NamedTuple):
    """A brain and the same brain moved by a known affine.

    Attributes:
        fixed, moving: in [0, 1], 0 outside of the brain.
        truth: 4×4 `fixed_to_moving`, world RAS+ mm.
        brain_points: [n, 3] world RAS+ mm, all voxels of the fixed brain.
    """

    fixed: Image
    moving: Image
    truth: np.ndarray
    brain_points: np.ndarray

    def measure(self, fixed_to_moving: np.ndarray) -> float:
        """Mean distance over the brain from where a point belongs, in mm."""
        error = (np.asarray(fixed_to_moving, np.float64) - self.truth)[:3]
        offsets = self.brain_points @ error[:, :3].T + error[:, 3]
        return float(np.linalg.norm(offsets, axis=1).mean())


class LabelledPair(NamedTuple):
    """Two people with labels of the Neuromorphometrics protocol.

    Attributes:
        fixed, moving: in [0, 1], 0 outside of the brain.
        fixed_labels, moving_labels: on the grids of their files.
    """

    fixed: Image
    moving: Image
    fixed_labels: Image
    moving_labels: Image

    def measure(self, fixed_to_moving: np.ndarray) -> float:
        """Mean Dice of the 12 regions, the moving labels warped by nearest voxel."""
        labels, affine = self.moving_labels.data, self.moving_labels.affine
        grid = self.fixed_labels.grid
        warped = resample(
            labels, affine, fixed_to_moving, grid, interpolation="nearest"
        )
        region_dice = metrics.region_dice(self.fixed_labels.data, warped, _REGIONS)
        return float(np.nanmean(list(region_dice.values())))


class MaskedPair(NamedTuple):
    """Two brains with their masks.

    Attributes:
        fixed, moving: in [0, 1], 0 outside of the brain.
        fixed_mask, moving_mask: 1 inside, on the grids of their files.
    """

    fixed: Image
    moving: Image
    fixed_mask: Image
    moving_mask: Image

    def measure(self, fixed_to_moving: np.ndarray) -> float:
        """Dice of the brains, the moving mask interpolated linearly and cut at 0.5."""
        mask, affine = self.moving_mask.data, self.moving_mask.affine
        warped = resample(mask, affine, fixed_to_moving, self.fixed_mask.grid)
        return metrics.dice(self.fixed_mask.data > 0, warped >= 0.5)


def known_affine(person: int, contrast: str) -> KnownAffine:
    """A brain of ds002748 moved by `small_affine`, with the contrast changed.

    Args:
        person: 1 … 40, who also seeds the affine: all contrasts have the same.
        contrast: a key of `contrasts.CONTRASTS`, of the moving image.
    """
    return _known_affine(person, contrast, any_rotation=False)


def any_orientation(person: int) -> KnownAffine:
    """The same with a uniformly random rotation after the small affine.

    Args:
        person: 1 … 40, who also seeds both.
    """
    return _known_affine(person, "gamma 1", any_rotation=True)


def damaged_scan(person: int, damage: str) -> KnownAffine:
    """`known_affine`, the moving scan with one of `damages.SCAN_DAMAGES`."""
    case = known_affine(person, "gamma 1")
    *_, moved = _move_person(person, any_rotation=False)
    function = damages.SCAN_DAMAGES[damage]
    moving = damages.apply(function, case.moving, moved.mask, person)
    return case._replace(moving=moving)


def damaged_image(make: Callable[[], KnownAffine], damage: str, seed: int):
    """A case, its moving image with one of `damages.IMAGE_DAMAGES`."""
    case = make()
    function = damages.IMAGE_DAMAGES[damage]
    moving = damages.apply(function, case.moving, case.moving.data > 0, seed)
    return case._replace(moving=moving)


def own_copy(make: Callable[[], KnownAffine], damage: str, seed: int) -> KnownAffine:
    """The fixed image of a case and its copy with one of `damages.COPY_CHANGES`."""
    case = make()
    function = damages.COPY_CHANGES[damage]
    moving = damages.apply(function, case.fixed, case.fixed.data > 0, seed)
    return case._replace(moving=moving, truth=np.eye(4))


def labelled_pair(fixed: str, moving: str, contrast: str) -> LabelledPair:
    """Two scans of oasis1_malf, the moving one with its contrast changed.

    Args:
        fixed, moving: of `scans.OASIS`; `scans.oasis_pairs` has them paired.
        contrast: a key of `contrasts.CONTRASTS`.
    """
    scan = scans.oasis(moving)
    data = contrasts.change(scan.image.data, scan.mask, contrast)
    labels = scans.oasis_labels(fixed), scans.oasis_labels(moving)
    return LabelledPair(
        scans.oasis(fixed).image, scan.image._replace(data=data), *labels
    )


def to_template(moving: str) -> MaskedPair:
    """MNI152 at 1 mm, fixed, and a scan of oasis1_malf."""
    image, _, mask = template.mni152()
    scan = scans.oasis(moving)
    fixed = scans.image(image.data, image.affine)
    masks = [
        scans.image(inside.astype(np.float32), affine)
        for inside, affine in (
            (mask.data > 0, image.affine),
            (scan.mask, scan.image.affine),
        )
    ]
    return MaskedPair(fixed, scan.image, *masks)


def at_spacing(spacing: float, make: Callable, *args) -> Case:
    """A case whose images are smoothed and resampled to cubic voxels of `spacing` mm.

    What it measures stays on the grids that it was made with.
    """
    case: KnownAffine | LabelledPair | MaskedPair = make(*args)
    fixed, moving = (resample_coarser(i, spacing) for i in (case.fixed, case.moving))
    return case._replace(fixed=fixed, moving=moving)


def small_affine(random: np.random.Generator, centre: np.ndarray) -> np.ndarray:
    """`perturbations.draw_affine` about a centre, with rotations within ±30°.

    Args:
        random: the source of its numbers.
        centre: [3] world RAS+ mm.

    Returns:
        4×4, world RAS+ mm.
    """
    linear, translation = perturbations.draw_affine(random, degrees=30)
    return affine_about(centre, linear, translation)


def affine_about(centre: np.ndarray, linear: np.ndarray, translation) -> np.ndarray:
    """4×4 of x ↦ linear · (x − centre) + centre + translation."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre - linear @ centre + translation
    return matrix


def move_scan(scan: scans.Scan, fixed_to_moving: np.ndarray) -> scans.Scan:
    """A brain in another place: the only interpolation in making a case.

    The image by cubic splines, cut to [0, 1]; the mask linearly, cut at 0.5, and the
    image is 0 outside of it. The grid is the scan's own, made larger where the brain
    would not lie two voxels inside of it.
    """
    affine = scan.image.affine
    (box,) = ndimage.find_objects(scan.mask.astype(np.uint8))
    corner = np.array([axis.start for axis in box])
    # Where the brain's box comes to lie among the moving grid's indices.
    ends = np.array([*np.ndindex(2, 2, 2)]) * (np.shape(scan.mask[box]) - np.ones(3))
    ends += corner
    to_moving = np.linalg.inv(affine) @ fixed_to_moving @ affine
    reach = ends @ to_moving[:3, :3].T + to_moving[:3, 3]
    first = np.floor(reach.min(axis=0)).astype(int) - 2
    last = np.ceil(reach.max(axis=0)).astype(int) + 3
    before = np.maximum(-first, 0)
    shape = np.maximum(last, scan.mask.shape) + before
    # Indices of the new box → indices of the old one.
    matrix = np.linalg.inv(to_moving)
    offset = matrix[:3, :3] @ first + matrix[:3, 3] - corner

    def interpolated(data: np.ndarray, order: int) -> np.ndarray:
        return ndimage.affine_transform(
            data[box].astype(np.float32),
            matrix[:3, :3],
            offset,
            output_shape=tuple(last - first),
            order=order,
            mode="grid-constant",
        )

    target = tuple(
        slice(a, b) for a, b in zip(first + before, last + before, strict=True)
    )
    mask = np.zeros(shape, bool)
    mask[target] = interpolated(scan.mask, 1) >= 0.5
    data = np.zeros(shape, np.float32)
    data[target] = np.clip(interpolated(scan.image.data, 3), 0, 1) * mask[target]
    padded = affine.copy()
    padded[:3, 3] -= affine[:3, :3] @ before
    return scans.Scan(scans.image(data, padded), mask)


def resample_coarser(image: Image, spacing: float) -> Image:
    """An image smoothed and resampled to cubic voxels along its own axes.

    Args:
        image: with voxels of at most `spacing`.
        spacing: in mm. The Gaussian has, with a voxel of the image, its full width at
            half maximum.
    """
    sizes = image.grid.voxel_sizes
    widths = np.sqrt(np.maximum(spacing**2 - sizes**2, 0)) / sizes
    smooth = ndimage.gaussian_filter(image.data, widths / np.sqrt(8 * np.log(2)))
    step = spacing / sizes
    x, y, z = np.ceil(np.array(image.data.shape) / step).astype(int)
    to_fine = np.eye(4)
    to_fine[:3, :3] = np.diag(step)
    to_fine[:3, 3] = (step - 1) / 2  # the first voxels begin at the same corner
    grid = Grid((x, y, z), image.affine @ to_fine)
    data = resample(smooth, image.affine, np.eye(4), grid)
    return scans.image(data, grid.affine)


def _known_affine(person: int, contrast: str, *, any_rotation: bool) -> KnownAffine:
    scan = scans.person(person)
    points, truth, moved = _move_person(person, any_rotation=any_rotation)
    data = contrasts.change(moved.image.data, moved.mask, contrast)
    return KnownAffine(scan.image, moved.image._replace(data=data), truth, points)


@functools.lru_cache(maxsize=1)
def _move_person(
    person: int, *, any_rotation: bool
) -> tuple[np.ndarray, np.ndarray, scans.Scan]:
    """The points of the brain, the affine, and the brain after it."""
    scan = scans.person(person)
    affine = scan.image.affine
    points = np.argwhere(scan.mask) @ affine[:3, :3].T + affine[:3, 3]
    centre = points.mean(axis=0)
    random = np.random.default_rng(person)
    truth = small_affine(random, centre)
    if any_rotation:
        rotation = Rotation.random(rng=random).as_matrix()
        truth = affine_about(truth[:3] @ [*centre, 1], rotation, np.zeros(3)) @ truth
    moved = move_scan(scan, truth)
    for cached in (points, truth, moved.image.data, moved.mask):
        cached.setflags(write=False)
    return points, truth, moved
