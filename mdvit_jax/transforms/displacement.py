"""Displacement fields as ANTs and ITK write them: NIfTI files of vectors."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mdvit_jax.io.grid import Grid


class DisplacementField(NamedTuple):
    """A deformation: a point x of the fixed image's world belongs to x + vector(x).

    Attributes:
        grid: where the vectors stand.
        vectors: [3, x, y, z] float32, world RAS+ mm.
    """

    grid: Grid
    vectors: np.ndarray

    def apply(self, points: np.ndarray) -> np.ndarray:
        """The points [3, …], world RAS+ mm, after the deformation.

        Between the vectors it is linear; outside of the grid, points stay.
        """
        to_voxels = np.linalg.inv(self.grid.affine)
        at = np.tensordot(to_voxels[:3, :3], points, 1)
        at += to_voxels[:3, 3].reshape(3, *[1] * (points.ndim - 1))
        inside = np.ones(points.shape[1:], bool)
        for axis, length in zip(at, self.grid.shape, strict=True):
            inside &= (axis >= -0.5) & (axis <= length - 0.5)
        result = points.copy()
        for row, vectors in zip(result, self.vectors, strict=True):
            shift = ndimage.map_coordinates(vectors, at, order=1, mode="nearest")
            row += np.where(inside, shift, 0)
        return result
