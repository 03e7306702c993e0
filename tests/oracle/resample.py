"""Resampling through a normalised affine, by SciPy."""

import numpy as np
from scipy import ndimage

from oracle import affine


def voxel_positions(fixed_to_moving, shape) -> np.ndarray:
    """Where the matrix takes each voxel of a grid, in its voxels, [x, y, z, 3]."""
    size = np.array(shape)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    landed = affine.apply(fixed_to_moving, (2 * index + 1) / size - 1)
    return ((landed + 1) * size - 1) / 2


def warp(moving, fixed_to_moving, order: int = 1) -> np.ndarray:
    """`warp_affine` of one volume, with zeros beyond the border."""
    positions = np.moveaxis(voxel_positions(fixed_to_moving, moving.shape), -1, 0)
    return ndimage.map_coordinates(moving, positions, order=order, mode="grid-constant")
