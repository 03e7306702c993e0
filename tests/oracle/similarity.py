"""The paper's dissimilarities, written from their formulas."""

import numpy as np

from oracle import pooling

# Eqs. 8–10 as printed: three matrices in a row along z, each with x down its rows and y
# along its columns.
_X = [
    [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    [[-2, -4, -2], [0, 0, 0], [2, 4, 2]],
    [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
]
_Y = [
    [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    [[-2, 0, 2], [-4, 0, 4], [-2, 0, 2]],
    [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
]
_Z = [
    [[-1, -2, -1], [-2, -4, -2], [-1, -2, -1]],
    [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
    [[1, 2, 1], [2, 4, 2], [1, 2, 1]],
]
KERNELS = [np.moveaxis(np.array(kernel, float), 0, -1) for kernel in (_X, _Y, _Z)]


def sobel(volume, axis: int, strides=(1, 1, 1)) -> np.ndarray:
    """Valid cross-correlation with the kernel of one derivative (Eqs. 5–7)."""
    volume = np.asarray(volume, float)
    response = 0.0
    for tap in np.ndindex(3, 3, 3):
        seen = tuple(
            slice(t, n - 2 + t, s)
            for t, n, s in zip(tap, volume.shape, strides, strict=True)
        )
        response = response + KERNELS[axis][tap] * volume[seen]
    return response


def ntg(fixed, warped, stride=1) -> float:
    """Eq. 2; `stride` is Δ along each derivative's own axis, or three triples."""
    if isinstance(stride, int):
        stride = [[stride if k == axis else 1 for k in range(3)] for axis in range(3)]
    fixed, warped = np.asarray(fixed, float), np.asarray(warped, float)
    difference = energy = 0.0
    for axis, strides in enumerate(stride):
        difference += np.abs(sobel(fixed - warped, axis, strides)).sum()
        energy += np.abs(sobel(fixed, axis, strides)).sum()
        energy += np.abs(sobel(warped, axis, strides)).sum()
    return difference / (energy + 1e-5)


def ncc(fixed, warped, window: int) -> float:
    """1 − mean(cc²): cross² / (variance · variance + ε) in the window of each voxel."""
    fixed, warped = np.pad(fixed, window // 2), np.pad(warped, window // 2)
    squared = []
    for index in np.ndindex(*(n - window + 1 for n in fixed.shape)):
        here = tuple(slice(i, i + window) for i in index)
        f, w = (
            v[here].astype(float) - v[here].mean(dtype=float) for v in (fixed, warped)
        )
        squared.append((f * w).sum() ** 2 / ((f * f).sum() * (w * w).sum() + 1e-5))
    return 1 - np.mean(squared)


def pyramid(loss, fixed, warped, levels: int, kernel: int) -> float:
    """Eq. 3: the loss at full size, half the loss at half the size, and so on."""
    total = 0.0
    for level in range(levels):
        total += loss(fixed, warped) / 2**level
        fixed, warped = pooling.pool(fixed, kernel), pooling.pool(warped, kernel)
    return total
