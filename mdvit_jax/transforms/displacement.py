"""Displacement fields as ANTs and ITK write them: NIfTI files of vectors."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.io import nifti
from mdvit_jax.io.grid import Grid

ENDINGS = (".nii", ".nii.gz")
_VECTORS = (1006, 1007)  # NIfTI's intents of displacements and of vectors
_FSL = range(2006, 2020)  # its intents of FSL's fields and coefficients


class DisplacementField(NamedTuple):
    """A deformation: it maps a point x of the fixed image's world to x + vector(x).

    Attributes:
        grid: where the vectors stand.
        vectors: [3, x, y, z] float32, world RAS+ mm.
    """

    grid: Grid
    vectors: np.ndarray

    def apply(self, points: np.ndarray) -> np.ndarray:
        """The points [3, …], world RAS+ mm, after the deformation.

        The vectors are interpolated linearly between voxels, and 0 outside the grid.
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


def read(path: str | Path) -> DisplacementField:
    """A displacement field of ANTs or ITK: [x, y, z, 1, 3], LPS+ mm, intent "vector".

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    grid, lengths, header, stored = nifti.open_file(path)
    intent = int(header["intent_code"]) if "intent_code" in header else 0
    name = header["intent_name"].item() if "intent_name" in header else b""
    problem = None
    if intent in _FSL:
        problem = "is a warp of FSL's; convert it (wb_command -convert-warpfield)"
    elif name == b"Mapping":
        problem = "is a deformation of SPM's; convert it to ITK's displacements"
    elif lengths != (1, 3) or intent not in _VECTORS:
        problem = (
            "is not a displacement field: that is an image of x×y×z×1×3 voxels with "
            "the intent code 1007 (vector), as ANTs writes it"
        )
    if problem:
        raise errors.UserError(f"{path} {problem}.")
    rows = [stored.read(axis).astype(np.float32, copy=False) for axis in range(3)]
    vectors = np.stack(rows)
    if not np.isfinite(vectors).all():
        raise errors.UserError(
            f"{path} holds vectors that are NaN or infinite; make the field again."
        )
    vectors[:2] *= -1  # from LPS+
    return DisplacementField(grid, vectors)
