"""The grid of an image: what two formats need to know besides the matrix."""

from typing import NamedTuple

import numpy as np


class Grid(NamedTuple):
    """Where an image's voxels lie.

    Attributes:
        shape: voxels along the three axes of the file.
        affine: 4×4 float64, voxel indices → world RAS+ mm.
        file: of the image, if it has one; an .lta file names it.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    file: str | None = None

    @property
    def voxel_sizes(self) -> np.ndarray:
        """Millimetres along the three axes, [3]."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def distance(self, other: "Grid") -> float:
        """How far apart two grids place a corner at most, in mm along a world axis."""
        corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(self.shape) - 1)
        apart = self.affine - other.affine
        return float(np.abs(corners @ apart[:3, :3].T + apart[:3, 3]).max())
