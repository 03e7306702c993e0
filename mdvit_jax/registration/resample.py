"""A moving image on the grid of another, through an affine in world millimetres."""

import numpy as np
from scipy import ndimage

from mdvit_jax.registration.transforms import Grid


def resample(
    data: np.ndarray,
    affine: np.ndarray,
    fixed_to_moving: np.ndarray,
    target: Grid,
    *,
    order: int = 1,
) -> np.ndarray:
    """The moving image at `fixed_to_moving` · x for each voxel x of a grid.

    A voxel is a box: within it, up to half a voxel outside of the outermost centres, an
    image has the values of its border, and beyond it zero, as in ITK.

    Args:
        data: the moving image [x, y, z].
        affine: 4×4, its voxel indices → world RAS+ mm.
        fixed_to_moving: 4×4, world RAS+ mm.
        target: where the result's voxels lie.
        order: 1 interpolates linearly; 0 takes the nearest voxel, for labels.

    Returns:
        `target.shape`, of the dtype of `data`.
    """
    matrix = np.linalg.inv(affine) @ fixed_to_moving @ target.affine
    # A grid that is the image's own must not be blurred by the inverse's last digits.
    matrix = np.where(np.abs(matrix - np.rint(matrix)) < 1e-9, np.rint(matrix), matrix)
    result = ndimage.affine_transform(
        data,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=target.shape,
        order=order,
        mode="nearest",
    )
    indices = np.ogrid[tuple(slice(n) for n in target.shape)]
    for row, length in zip(matrix, data.shape, strict=False):  # the last row is 0 0 0 1
        at = sum((r * i for r, i in zip(row, indices, strict=False)), row[3])
        result[(at < -0.5) | (at > length - 0.5)] = 0
    return result
