"""FSL's matrices (FLIRT): moving → fixed, in the scaled voxels of both images.

FSL's coordinates are voxel indices times the voxel sizes of the header (pixdim), even
where these are not those of its affine. Where the file's first axis runs with the
right-hand rule (a positive determinant of voxel → world), that axis is counted from its
other end ("radiological" order).
"""

import numpy as np

from mdvit_jax.io.grid import Grid


def from_world(fixed_to_moving: np.ndarray, fixed: Grid, moving: Grid) -> np.ndarray:
    """FLIRT's matrix, 4×4 moving → fixed, of a transform.

    Args:
        fixed_to_moving: 4×4, world RAS+ mm.
        fixed, moving: the grids of the two images.
    """
    to_fixed, to_moving = _to_world(fixed), _to_world(moving)
    moving_to_fixed = np.linalg.inv(fixed_to_moving)
    return np.linalg.inv(to_fixed) @ moving_to_fixed @ to_moving


def to_world(matrix: np.ndarray, fixed: Grid, moving: Grid) -> np.ndarray:
    """The transform of FLIRT's matrix: 4×4 fixed → moving, world RAS+ mm.

    Args:
        matrix: 4×4, FLIRT's.
        fixed, moving: the grids of the two images.
    """
    to_fixed, to_moving = _to_world(fixed), _to_world(moving)
    return to_moving @ np.linalg.inv(to_fixed @ matrix)


def _to_world(grid: Grid) -> np.ndarray:
    """FSL's coordinates of an image → world RAS+ mm."""
    sizes = grid.voxel_sizes if grid.pixdim is None else grid.pixdim
    scale = np.diag([*1 / sizes, 1.0])  # to voxel indices
    if np.linalg.det(grid.affine[:3, :3]) > 0:
        flip = np.diag([-1.0, 1, 1, 1])
        flip[0, 3] = grid.shape[0] - 1
        scale = flip @ scale
    return grid.affine @ scale
