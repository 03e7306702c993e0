"""Templates that have a name instead of a file: the MNI152 brain that nilearn ships.

An image file has an ending, so that none can be called like one of these.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from mdvit_jax import errors
from mdvit_jax.io.grid import Grid
from mdvit_jax.io.image import Image

NAMES = ("mni152", "mni152-2mm")
_FILE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
_BRAIN = 0.2  # of the largest value; nilearn's brain mask is what is brighter
_MNI152 = 4  # NIfTI's xform code of that world


def is_name(source: Any) -> bool:
    """Whether a caller's image is one of these."""
    return isinstance(source, str | Path) and str(source) in NAMES


def source_file(source: str | Path) -> Path:
    """The file that a path or a name is read from.

    Raises:
        UserError: a name whose file is not installed.
    """
    if not is_name(source):
        return Path(source)
    # Found without an import of nilearn, which takes two seconds.
    package = importlib.util.find_spec("nilearn")
    path = Path(package.origin or "").parent / _FILE if package else None
    if path is None or not path.is_file():
        raise errors.UserError(
            f"{source} is the template that nilearn brings; install it (pip install "
            '"nilearn>=0.14,<0.15"), or name the file of a template.'
        )
    return path


@functools.cache
def load(name: str) -> Image:
    """The template of a name; its array is shared and cannot be written to.

    ICBM 2009a, non-linear symmetric, uint8, 0 outside of nilearn's brain mask. Of
    "mni152" the voxels have 1 mm; "mni152-2mm" is every second of them, as nilearn's
    own template of 2 mm.

    Raises:
        UserError: nilearn is not installed.
    """
    file: Any = nib.load(source_file(name))
    data = np.asanyarray(file.dataobj)
    data = np.where(data > _BRAIN * data.max(), data, 0).astype(np.uint8)
    step = 2 if name == "mni152-2mm" else 1
    data = np.ascontiguousarray(data[::step, ::step, ::step])
    data.setflags(write=False)
    affine = np.asarray(file.affine, np.float64) @ np.diag([step, step, step, 1.0])
    x, y, z = data.shape
    grid = Grid((x, y, z), affine, file=name, space=_MNI152)
    return Image(grid, data, file.header, data.dtype)
