"""The grid and the affine of an image in the terms of ITK (ANTs, Elastix, SimpleITK).

ITK's world is LPS+ mm, ours RAS+ mm.
"""

from collections.abc import Callable, Sequence

import numpy as np

from mdvit_jax import errors
from mdvit_jax.transforms.itk_parameters import TO_LPS

# How far two axes may be from a right angle: headers are float32.
_RIGHT_ANGLES = 1e-4


def itk_geometry(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origin, spacing and direction of a grid.

    Args:
        affine: 4×4, voxel indices → world RAS+ mm.

    Returns:
        origin [3], LPS+ mm, of the first voxel's centre; spacing [3] in mm; direction
        [3, 3], whose columns are the axes of the array in LPS+.

    Raises:
        UserError: the axes are not at right angles, which ITK cannot hold.
    """
    lps = TO_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=_RIGHT_ANGLES):
        raise errors.UserError(
            "the image's axes are not at right angles (a sheared affine), which ITK's "
            "images cannot have; resample it first."
        )
    return lps[:3, 3], spacing, direction


def affine_matrix(
    transform: Callable[[Sequence[float]], Sequence[float]],
) -> np.ndarray:
    """4×4 in RAS+ mm of an affine that is a function of points in LPS+ mm."""
    origin = np.array(transform([0.0, 0, 0]))
    far = 100.0  # mm; a longer step loses less to rounding
    ends = np.array([transform(step) for step in (far * np.eye(3)).tolist()])
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = ((ends - origin) / far).T, origin
    return TO_LPS @ lps @ TO_LPS
