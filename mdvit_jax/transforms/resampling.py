"""A moving image on the grid of another, through transforms in world millimetres.

A voxel is a box: up to half a voxel outside the outermost centres an image has the
values of its border, and beyond that the fill value, as in ITK.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.io import processors, voxels
from mdvit_jax.io.grid import Grid
from mdvit_jax.transforms import interpolators
from mdvit_jax.transforms.displacement import DisplacementField

INTERPOLATIONS = ("linear", "nearest", "cubic", "lanczos")
Transform = np.ndarray | DisplacementField | Sequence[np.ndarray | DisplacementField]

_SLAB = 1 << 17  # voxels that are resampled at a time, by one thread
_SOONER = 0.01  # of an image's voxels; so many are sampled sooner than it is searched
_SHARED = 0.25  # part of the border's voxels with one value, which is the background's

# Shape and first voxel of a part of the target → its values, and which are inside.
Sampler = Callable[[tuple[int, ...], np.ndarray], tuple[np.ndarray, np.ndarray]]


def resample(
    data: np.ndarray,
    affine: np.ndarray,
    fixed_to_moving: Transform,
    target: Grid,
    *,
    interpolation: str = "linear",
    fill: float = 0,
    dtype: np.dtype | None = None,
) -> np.ndarray:
    """The moving image at `fixed_to_moving` · x for each voxel x of a grid.

    Args:
        data: the moving image [x, y, z].
        affine: 4×4, its voxel indices → world RAS+ mm.
        fixed_to_moving: 4×4, world RAS+ mm, or a displacement field, or several of
            them, of which the first is applied to a point of the grid first.
        target: where the result's voxels lie.
        interpolation: "linear"; "nearest", which makes no new values, whatever their
            type; "cubic" (B-spline of order 3) and "lanczos" (a sinc within three
            voxels), which keep edges sharper and may overshoot beside them.
        fill: value outside of the moving image.
        dtype: of the result; whole numbers are rounded to, and cut off at their limits.
            None: that of `data` by the nearest voxel, otherwise float32, or float64
            where float32 does not hold the values of `data`.

    Returns:
        `target.shape`.

    Raises:
        UserError: `dtype` does not have the fill value.
    """
    if dtype is None:
        exact = np.result_type(data.dtype, np.float32)
        dtype = data.dtype if interpolation == "nearest" else exact
    path = _path(affine, fixed_to_moving, target)
    # By scipy a nearest voxel comes through float64, which has 53 bits.
    large = interpolation == "nearest" and data.dtype.itemsize > 4
    if path.steps or large or interpolation == "lanczos":
        sampler = interpolators.point_sampler(data, interpolation)
        sample: Sampler = functools.partial(_sample_points, path, data.shape, sampler)
    else:
        sample = _affine_sampler(data, interpolation, path)
    # Cubic and Lanczos have farther neighbours. Where a point lies halfway between two
    # voxels, rounding chooses the nearest one, and must not depend on the box.
    part = _shown(path, data, fill, target) if interpolation == "linear" else None
    return _fill(target.shape, part, sample, fill, np.dtype(dtype))


def resample_labels(
    data: np.ndarray,
    affine: np.ndarray,
    fixed_to_moving: Transform,
    target: Grid,
    *,
    fill: float = 0,
) -> np.ndarray:
    """Resample a label map by linear interpolation of each label's indicator.

    At each point the label with the largest weight wins (also the background); of equal
    weights (to 1e-6), the smallest label. Boundaries are smoother than with the nearest
    voxel, and there are no new labels. Only the eight voxels around a point have
    weights, so only these are compared, and only where they differ: the time does not
    depend on the number of labels.

    Args:
        data: whole numbers [x, y, z].
        affine: 4×4, its voxel indices → world RAS+ mm.
        fixed_to_moving: as in `resample`.
        target: where the result's voxels lie.
        fill: label outside of the moving image.

    Returns:
        `target.shape`, of the dtype of `data`.
    """
    data = np.ascontiguousarray(data)
    sampler = functools.partial(
        interpolators.most_weight, data, interpolators.is_mixed(data)
    )
    path = _path(affine, fixed_to_moving, target)
    sample = functools.partial(_sample_points, path, data.shape, sampler)
    part = _shown(path, data, fill, target)
    return _fill(target.shape, part, sample, fill, data.dtype)


def background_value(data: np.ndarray) -> float:
    """The value of an image outside the object, for `fill`: -1024 in most CT.

    It is the value that a quarter of the border's voxels share. If there is none, it is
    0 for an image without negative values, else the median of the border.

    Args:
        data: [x, y, z].
    """
    border = voxels.on_faces(data)
    values, counts = np.unique(border, return_counts=True)
    if counts.max() >= _SHARED * border.size:
        return values[counts.argmax()].item()
    if data.min() >= 0:
        return 0.0
    middle = float(np.median(border))
    return float(round(middle)) if data.dtype.kind in "iu" else middle


# The target, a few slices at a time


def _fill(
    shape: tuple[int, int, int],
    part: tuple[slice, ...] | None,
    sample: Sampler,
    fill: float,
    dtype: np.dtype,
) -> np.ndarray:
    """The values of a sampler in a part of the target; elsewhere the fill value."""
    outside = voxels.cast(np.array(fill), dtype)
    if dtype.kind in "iu" and outside != fill:
        raise errors.UserError(
            f"The fill value {fill:g} is none of {dtype}, the number type of the "
            "image; choose another."
        )
    result = np.full(shape, outside, dtype, order="F")
    part = part or tuple(slice(0, length) for length in shape)
    shown, (x, y, z) = result[part], (side.start for side in part)
    if not shown.size:
        return result
    thickness = max(1, _SLAB // (shown.shape[0] * shown.shape[1]))

    def fill_slab(start: int) -> None:
        slab = shown[:, :, start : start + thickness]
        values, inside = sample(slab.shape, np.array([x, y, z + start]))
        slab[...] = voxels.cast(values, dtype)
        slab[~inside] = outside

    with ThreadPoolExecutor(processors.count()) as threads:
        list(threads.map(fill_slab, range(0, shown.shape[2], thickness)))
    return result


# From voxels of the target to voxels of the moving image


class _Path(NamedTuple):
    """The way from a voxel of the target to the moving image.

    Attributes:
        steps: functions of points [3, …] that come first; none for an affine.
        matrix: 4×4 to the moving image's voxels, which comes last.
    """

    steps: tuple[Callable[[np.ndarray], np.ndarray], ...]
    matrix: np.ndarray


def _path(affine: np.ndarray, fixed_to_moving: Transform, target: Grid) -> _Path:
    if isinstance(fixed_to_moving, np.ndarray | DisplacementField):
        fixed_to_moving = [fixed_to_moving]
    steps: list[Callable[[np.ndarray], np.ndarray]] = []
    matrix = target.affine
    for transform in fixed_to_moving:
        if isinstance(transform, DisplacementField):
            steps += [functools.partial(_apply, matrix), transform.apply]
            matrix = np.eye(4)
        else:
            matrix = transform @ matrix
    matrix = np.linalg.inv(affine) @ matrix
    # A grid that is the image's own must not be blurred by the inverse's last digits.
    whole = np.rint(matrix)
    matrix = np.where(np.abs(matrix - whole) < 1e-9, whole, matrix)
    return _Path(tuple(steps), matrix)


def _apply(matrix: np.ndarray, points: Iterable[np.ndarray]) -> np.ndarray:
    """The points [3, …] under a 4×4."""
    return np.stack(list(_coordinates(matrix, points)))


def _coordinates(
    matrix: np.ndarray, points: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """The points under a 4×4, one coordinate after the other."""
    x, y, z = points
    for a, b, c, d in matrix[:3]:
        yield a * x + b * y + (c * z + d)


def _inside(positions: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Which positions, coordinate by coordinate, lie within the voxels of an image."""
    result: np.ndarray | bool = True
    for at, length in zip(positions, shape, strict=True):
        result = result & (at >= -0.5) & (at <= length - 0.5)
    return np.asarray(result)


def _grid_points(shape: tuple[int, ...], first: np.ndarray) -> list[np.ndarray]:
    """Voxel indices of a part of a grid, along each axis."""
    axes = np.ogrid[tuple(map(slice, first, first + shape))]
    return [axis.astype(np.float64) for axis in axes]


def _shown(
    path: _Path, data: np.ndarray, fill: float, target: Grid
) -> tuple[slice, ...] | None:
    """The part of a grid that shows more than the fill value, or None for all of it.

    Other voxels lie outside of the image, or between voxels that have the fill value.
    """
    if math.prod(target.shape) < _SOONER * data.size:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        background = voxels.cast(np.array(fill), data.dtype)
    # Without a determinant (NaN), too.
    if path.steps or background != fill or not abs(np.linalg.det(path.matrix)) > 1e-6:
        return None
    box = voxels.bounding_box(data != background)
    if any(side.start == side.stop for side in box):
        return box
    ends = np.array([(side.start - 1, side.stop) for side in box])
    corners = np.stack(np.meshgrid(*ends), -1).reshape(-1, 3)
    reached = (corners - path.matrix[:3, 3]) @ np.linalg.inv(path.matrix[:3, :3]).T
    # A voxel more, for rounding.
    low, high = np.floor(reached.min(0)) - 1, np.ceil(reached.max(0)) + 2
    first, last = (np.clip(end, 0, target.shape).astype(int) for end in (low, high))
    return tuple(map(slice, first, last))


# Samplers: values of the moving image, and whether they are within it


def _affine_sampler(data: np.ndarray, interpolation: str, path: _Path) -> Sampler:
    coefficients, options = interpolators.spline(data, interpolation)
    linear, offset = path.matrix[:3, :3], path.matrix[:3, 3]

    def sample(
        shape: tuple[int, ...], first: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        values = ndimage.affine_transform(
            coefficients,
            linear,
            offset + linear @ first,
            output_shape=shape,
            **options,
        )
        positions = _coordinates(path.matrix, _grid_points(shape, first))
        return values, _inside(positions, data.shape)

    return sample


def _sample_points(
    path: _Path,
    moving_shape: tuple[int, ...],
    sample: interpolators.PointSampler,
    shape: tuple[int, ...],
    first: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    points = np.stack(np.broadcast_arrays(*_grid_points(shape, first)))
    for step in path.steps:
        points = step(points)
    positions = _apply(path.matrix, points)
    inside = _inside(positions, moving_shape)
    sampled = sample(positions[:, inside])
    values = np.zeros(shape, sampled.dtype)
    values[inside] = sampled
    return values, inside
