"""Values of an image between its voxels: splines, windowed sinc, votes of labels."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

_LANCZOS = 3  # voxels on either side that take part

# Voxel coordinates [3, n] within an image's box → values [n].
PointSampler = Callable[[np.ndarray], np.ndarray]


def spline(data: np.ndarray, interpolation: str) -> tuple[np.ndarray, dict[str, Any]]:
    """The coefficients and keywords with which scipy.ndimage interpolates.

    Args:
        data: [x, y, z].
        interpolation: "nearest", "linear" or "cubic".
    """
    exact = np.result_type(data.dtype, np.float32)
    order, mode, output = {
        "nearest": (0, "nearest", data.dtype),
        "linear": (1, "nearest", exact),
        "cubic": (3, "mirror", exact),
    }[interpolation]
    if order > 1:
        data = ndimage.spline_filter(data, order, output=output, mode=mode)
    return data, {"order": order, "mode": mode, "output": output, "prefilter": False}


def point_sampler(data: np.ndarray, interpolation: str) -> PointSampler:
    """A function that interpolates an image at positions.

    Args:
        data: [x, y, z].
        interpolation: one of `resampling.INTERPOLATIONS`.

    Returns:
        Positions [3, n] in voxels → values [n].
    """
    if interpolation == "nearest":
        return functools.partial(_nearest, data)
    if interpolation == "lanczos":
        return functools.partial(_lanczos, np.ascontiguousarray(data))
    coefficients, options = spline(data, interpolation)
    return functools.partial(ndimage.map_coordinates, coefficients, **options)


def _nearest(data: np.ndarray, positions: np.ndarray) -> np.ndarray:
    index = [
        np.clip(np.floor(at + 0.5).astype(np.intp), 0, length - 1)
        for at, length in zip(positions, data.shape, strict=True)
    ]
    return data[tuple(index)]


def _lanczos(data: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """A windowed sinc whose weights sum to 1; border values continue outside.

    Args:
        data: [x, y, z], contiguous.
        positions: [3, n].
    """
    near = np.arange(1 - _LANCZOS, _LANCZOS + 1)[:, None]
    steps = (data.shape[1] * data.shape[2], data.shape[2], 1)
    places, weights = [], []
    for at, length, step in zip(positions, data.shape, steps, strict=True):
        low = np.floor(at)
        offsets = (low - at) + near
        kernel = np.sinc(offsets) * np.sinc(offsets / _LANCZOS)
        weights.append(kernel / kernel.sum(axis=0))
        places.append(step * np.clip(low.astype(np.intp) + near, 0, length - 1))
    values, result = data.ravel(), np.zeros(positions.shape[1])
    for i, wx in zip(places[0], weights[0], strict=True):
        for j, wy in zip(places[1], weights[1], strict=True):
            line, along = i + j, np.zeros_like(result)
            for k, wz in zip(places[2], weights[2], strict=True):
                along += wz * values.take(line + k)
            result += wx * wy * along
    return result


def most_weight(
    data: np.ndarray, mixed: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    """The label with the largest weight of linear interpolation at [3, n] points.

    Args:
        data: whole numbers [x, y, z], contiguous.
        mixed: of `is_mixed`.
        positions: [3, n], voxel coordinates within the image's box.
    """
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


def is_mixed(data: np.ndarray) -> np.ndarray:
    """Where the 2×2×2 voxels that begin at a voxel hold several labels, [x, y, z]."""
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
