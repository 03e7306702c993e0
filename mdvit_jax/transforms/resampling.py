"""A moving image on the grid of another, through transforms in world millimetres.

A voxel is a box: within it, up to half a voxel outside of the outermost centres, an
image has the values of its border, and beyond it the fill value, as in ITK.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import ndimage

from mdvit_jax.io import voxels
from mdvit_jax.io.grid import Grid
from mdvit_jax.transforms.displacement import DisplacementField

INTERPOLATIONS = ("linear", "nearest", "cubic", "lanczos")
Transform = np.ndarray | DisplacementField | Sequence[np.ndarray | DisplacementField]

_SLAB = 1 << 18  # voxels that are resampled at a time, by one thread
_LANCZOS = 3  # voxels on either side that take part
_SHARED = 0.25  # part of the border's voxels with one value, which is the background's

# Voxel coordinates [3, …] of the moving image → values […].
Sampler = Callable[[np.ndarray], np.ndarray]


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
    """
    if dtype is None:
        exact = np.result_type(data.dtype, np.float32)
        dtype = data.dtype if interpolation == "nearest" else exact
    sample = _sampler(data, interpolation)
    return _resample(data, affine, fixed_to_moving, target, sample, fill, dtype)


def resample_labels(
    data: np.ndarray,
    affine: np.ndarray,
    fixed_to_moving: Transform,
    target: Grid,
    *,
    fill: float = 0,
) -> np.ndarray:
    """A label map as if each of its labels were an image of its own: one-hot, linear.

    Each label's indicator, the background's too, is interpolated linearly, and the
    label with the largest weight wins; of equal ones (to 1e-6), the smallest label.
    Boundaries are smoother than those of the nearest voxel; there are no new labels.
    Only the eight voxels around a point have weights there, so these are compared with
    each other, and only where they differ: the time does not depend on the number of
    labels.

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
    sample = functools.partial(_most_weight, data, _is_mixed(data))
    return _resample(data, affine, fixed_to_moving, target, sample, fill, data.dtype)


def background_value(data: np.ndarray) -> float:
    """What an image has outside of the object, for `fill`: -1024 in most CT.

    It is the value that a quarter of the voxels on the border share. Without one it is
    0 where no value is below, otherwise the border's median.

    Args:
        data: [x, y, z].
    """
    border = np.concatenate(
        [np.take(data, (0, -1), axis).reshape(-1) for axis in range(3)]
    )
    values, counts = np.unique(border, return_counts=True)
    if counts.max() >= _SHARED * border.size:
        return values[counts.argmax()].item()
    return 0.0 if data.min() >= 0 else float(np.median(border))


# Positions: from voxels of the target to voxels of the moving image


def _resample(
    data: np.ndarray,
    affine: np.ndarray,
    fixed_to_moving: Transform,
    target: Grid,
    sample: Sampler,
    fill: float,
    dtype: np.dtype,
) -> np.ndarray:
    result = np.empty(target.shape, dtype, order="F")
    steps = _steps(affine, fixed_to_moving, target)
    outside_value = voxels.cast(np.array(fill), np.dtype(dtype))

    def fill_slab(slab: slice) -> None:
        x, y, _ = target.shape
        positions = np.indices((x, y, slab.stop - slab.start), np.float64)
        positions[2] += slab.start
        for step in steps:
            positions = step(positions)
        inside = np.ones(positions.shape[1:], bool)
        for at, length in zip(positions, data.shape, strict=True):
            inside &= (at >= -0.5) & (at <= length - 0.5)
        part = result[:, :, slab]
        part[...] = outside_value
        if inside.any():
            part[inside] = voxels.cast(sample(positions[:, inside]), np.dtype(dtype))

    with ThreadPoolExecutor() as threads:
        list(threads.map(fill_slab, _slabs(target.shape)))
    return result


def _slabs(shape: tuple[int, int, int]) -> Iterator[slice]:
    thickness = max(1, _SLAB // (shape[0] * shape[1]))
    for start in range(0, shape[2], thickness):
        yield slice(start, min(start + thickness, shape[2]))


def _steps(
    affine: np.ndarray, fixed_to_moving: Transform, target: Grid
) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Functions of points [3, …] that lead from the target's voxels to the image's."""
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
    return [*steps, functools.partial(_apply, matrix)]


def _apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The points [3, …] under a 4×4."""
    x, y, z = points
    return np.stack([a * x + b * y + c * z + d for a, b, c, d in matrix[:3]])


# Samplers: values of the moving image at voxel coordinates [3, n] within its box


def _sampler(data: np.ndarray, interpolation: str) -> Sampler:
    if interpolation == "nearest":
        return functools.partial(_nearest, data)
    if interpolation == "lanczos":
        return functools.partial(_lanczos, data)
    exact = np.result_type(data.dtype, np.float32)
    order, mode = 1, "nearest"
    if interpolation == "cubic":
        order, mode = 3, "mirror"
        data = ndimage.spline_filter(data, order, output=exact, mode=mode)
    return functools.partial(
        ndimage.map_coordinates,
        data,
        output=exact,
        order=order,
        mode=mode,
        prefilter=False,
    )


def _nearest(data: np.ndarray, positions: np.ndarray) -> np.ndarray:
    index = [
        np.clip(np.floor(at + 0.5).astype(np.intp), 0, length - 1)
        for at, length in zip(positions, data.shape, strict=True)
    ]
    return data[tuple(index)]


def _lanczos(data: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """A windowed sinc whose weights sum to 1; beyond the border, its values go on."""
    near = range(1 - _LANCZOS, _LANCZOS + 1)
    indices, weights = [], []
    for at, length in zip(positions, data.shape, strict=True):
        low = np.floor(at)
        offsets = (low - at) + np.array(near)[:, None]
        kernel = np.sinc(offsets) * np.sinc(offsets / _LANCZOS)
        weights.append(kernel / kernel.sum(axis=0))
        index = low.astype(np.intp) + np.array(near)[:, None]
        indices.append(np.clip(index, 0, length - 1))
    result = np.zeros(positions.shape[1])
    for i, wx in zip(indices[0], weights[0], strict=True):
        for j, wy in zip(indices[1], weights[1], strict=True):
            row = wx * wy
            for k, wz in zip(indices[2], weights[2], strict=True):
                result += row * wz * data[i, j, k]
    return result


def _most_weight(
    data: np.ndarray, mixed: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    lower, fractions = [], []
    for at, length in zip(positions, data.shape, strict=True):
        at = np.clip(at, 0, length - 1)
        floor = np.minimum(at.astype(np.intp), max(length - 2, 0))
        lower.append(floor)
        fractions.append(at - floor)
    corner = np.ravel_multi_index(lower, data.shape)
    result = data.ravel()[corner]
    vote = mixed.ravel()[corner]
    result[vote] = _winners(data, corner[vote], [f[vote] for f in fractions])
    return result


def _is_mixed(data: np.ndarray) -> np.ndarray:
    """Where a voxel and its seven next ones upwards do not all hold the same label."""
    mixed = np.zeros(data.shape, bool)
    for shift in np.ndindex(2, 2, 2):
        low = tuple(slice(0, n - s) for s, n in zip(shift, data.shape, strict=True))
        high = tuple(slice(s, None) for s in shift)
        mixed[low] |= data[low] != data[high]
    return mixed


def _winners(data: np.ndarray, corner: np.ndarray, fractions) -> np.ndarray:
    """The label with the largest weight of eight, [n].

    Args:
        data: [x, y, z], contiguous.
        corner: [n], where in memory the lowest of the eight voxels is.
        fractions: [n] for each axis, of the way to the next voxel.
    """
    steps = (data.shape[1] * data.shape[2], data.shape[2], 1)
    # An axis of one voxel has no next one.
    strides = [s if n > 1 else 0 for s, n in zip(steps, data.shape, strict=True)]
    labels, weights = [], []
    for shift in np.ndindex(2, 2, 2):
        labels.append(data.ravel()[corner + int(np.dot(shift, strides))])
        factors = [f if s else 1 - f for s, f in zip(shift, fractions, strict=True)]
        weights.append(factors[0] * factors[1] * factors[2])
    winner, most = labels[0], np.full(corner.shape, -1.0)
    for label in labels:
        total = sum(
            w * (label == other) for other, w in zip(labels, weights, strict=True)
        )
        total = np.round(total, 6)
        wins = (total > most) | ((total == most) & (label < winner))
        winner, most = np.where(wins, label, winner), np.where(wins, total, most)
    return winner
