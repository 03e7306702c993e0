"""A moving image on the grid of another, through an affine in world millimetres.

A voxel is a box: within it, up to half a voxel outside of the outermost centres, an
image has the values of its border, and beyond it zero, as in ITK.
"""

import numpy as np
from scipy import ndimage

from mdvit_jax.io.grid import Grid


def resample(
    data: np.ndarray,
    affine: np.ndarray,
    fixed_to_moving: np.ndarray,
    target: Grid,
    *,
    order: int = 1,
) -> np.ndarray:
    """The moving image at `fixed_to_moving` · x for each voxel x of a grid.

    Args:
        data: the moving image [x, y, z].
        affine: 4×4, its voxel indices → world RAS+ mm.
        fixed_to_moving: 4×4, world RAS+ mm.
        target: where the result's voxels lie.
        order: 1 interpolates linearly; 0 takes the nearest voxel, for labels.

    Returns:
        `target.shape`, of the dtype of `data`.
    """
    matrix = _voxels_to_voxels(affine, fixed_to_moving, target)
    result = ndimage.affine_transform(
        data,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=target.shape,
        order=order,
        mode="nearest",
    )
    for at, length in zip(
        _positions(matrix, np.ogrid[_box(target)]), data.shape, strict=True
    ):
        result[(at < -0.5) | (at > length - 0.5)] = 0
    return result


def resample_labels(
    data: np.ndarray, affine: np.ndarray, fixed_to_moving: np.ndarray, target: Grid
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
        fixed_to_moving: 4×4, world RAS+ mm.
        target: where the result's voxels lie.

    Returns:
        `target.shape`, of the dtype of `data`.
    """
    matrix = _voxels_to_voxels(affine, fixed_to_moving, target)
    data = np.ascontiguousarray(data)
    mixed = _mixed(data)
    result = np.zeros(target.shape, data.dtype)
    box = _box(target)
    for x in range(target.shape[0]):  # positions of all at once would be large
        slab = np.ogrid[x : x + 1, box[1], box[2]]
        inside: np.ndarray | bool = True
        lower, fractions = [], []
        for at, length in zip(_positions(matrix, slab), data.shape, strict=True):
            inside = inside & (at >= -0.5) & (at <= length - 0.5)
            at = np.clip(at, 0, length - 1)
            floor = np.minimum(at.astype(np.intp), max(length - 2, 0))
            lower.append(floor)
            fractions.append(at - floor)
        corner = np.ravel_multi_index(np.broadcast_arrays(*lower), data.shape)
        found = data.ravel()[corner]
        vote = mixed.ravel()[corner] & inside
        found[vote] = _winners(
            data,
            corner[vote],
            [np.broadcast_to(f, vote.shape)[vote] for f in fractions],
        )
        result[x] = np.where(inside, found, 0)[0]
    return result


def _voxels_to_voxels(affine, fixed_to_moving, target: Grid) -> np.ndarray:
    matrix = np.linalg.inv(affine) @ fixed_to_moving @ target.affine
    # A grid that is the image's own must not be blurred by the inverse's last digits.
    return np.where(np.abs(matrix - np.rint(matrix)) < 1e-9, np.rint(matrix), matrix)


def _box(grid: Grid) -> tuple[slice, ...]:
    return tuple(slice(length) for length in grid.shape)


def _positions(matrix: np.ndarray, indices) -> list[np.ndarray]:
    """Where voxels of the target lie along the three axes of the moving image."""
    return [
        sum((r * i for r, i in zip(row[:3], indices, strict=True)), row[3])
        for row in matrix[:3]
    ]


def _steps(shape: tuple[int, ...]) -> list[int]:
    """How far the next voxel along each axis is in memory; 0 where there is none."""
    whole = (shape[1] * shape[2], shape[2], 1)
    return [step if n > 1 else 0 for step, n in zip(whole, shape, strict=True)]


def _mixed(data: np.ndarray) -> np.ndarray:
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
    labels, weights = [], []
    for shift in np.ndindex(2, 2, 2):
        jump = sum(s * step for s, step in zip(shift, _steps(data.shape), strict=True))
        labels.append(data.ravel()[corner + jump])
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
