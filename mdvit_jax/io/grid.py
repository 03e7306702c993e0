"""Where the voxels of an image lie in the world."""

from typing import NamedTuple

import numpy as np

ALIGNED = 2  # NIfTI's xform code of a world that another image brought


class Grid(NamedTuple):
    """Where an image's voxels lie.

    Attributes:
        shape: voxels along the three axes of the file.
        affine: 4×4 float64, voxel indices → world RAS+ mm.
        file: path of the image, if it has one; messages and .lta files name it.
        pixdim: [3] mm, the voxel sizes in a NIfTI header, in which FSL counts; they
            may differ from the affine's. None: the affine's.
        space: NIfTI's xform code of the world: 0 unknown, 1 the scanner's, 2 another
            image's, 3 Talairach's, 4 MNI152.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    file: str | None = None
    pixdim: np.ndarray | None = None
    space: int = ALIGNED

    @property
    def voxel_sizes(self) -> np.ndarray:
        """Millimetres along the three axes, [3]."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def distance(self, other: "Grid") -> float:
        """The largest distance between the corners of two grids, mm along an axis."""
        corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(self.shape) - 1)
        apart = self.affine - other.affine
        return float(np.abs(corners @ apart[:3, :3].T + apart[:3, 3]).max())
