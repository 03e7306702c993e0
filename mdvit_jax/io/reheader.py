"""A NIfTI file into the space of another: a new sform, the voxels untouched."""

import shutil
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from mdvit_jax import errors
from mdvit_jax.io import gzip_files, headers, nifti
from mdvit_jax.io.grid import ALIGNED, Grid

_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_MAGICS = b"n+1\0", b"n+2\0"  # header and voxels in one file
_TALAIRACH = 3  # of NIfTI's xform codes; from here on they name a template


def write(path: str | Path, moving: str | Path, affine: np.ndarray, space: int) -> None:
    """Copy a NIfTI file bit by bit, but for where its header lays it.

    The sform becomes the affine; so does the qform if it can (it knows no shear),
    otherwise its code is 0. The code is that of the fixed image where that names a
    template, else 2, "aligned to another file".

    Args:
        path: ends in .nii.gz or .nii.
        moving: the file that is copied; it may be gzipped or not, as `path` may.
        affine: 4×4, its voxel indices → world RAS+ mm of the fixed image.
        space: `Grid.space` of the fixed image.

    Raises:
        UserError: the moving file is of another format.
    """
    with gzip_files.open_stream(Path(moving)) as source:
        header = _header(source, moving)
        x, y, z = (max(int(n), 1) for n in header["dim"][1:4])
        space = space if space >= _TALAIRACH else ALIGNED
        headers.set_place(header, Grid((x, y, z), affine, space=space))
        with gzip_files.open_output(Path(path)) as target:
            target.write(header.binaryblock)
            shutil.copyfileobj(source, target, 1 << 20)


def check(moving: str | Path) -> None:
    """Raise a UserError if a file cannot be copied like this."""
    nifti.read_grid(moving)
    if not str(moving).lower().endswith((".nii.gz", ".nii")):
        raise _not_nifti(moving)
    with gzip_files.open_stream(Path(moving)) as source:
        _header(source, moving)


def _header(source: BinaryIO, name: str | Path) -> nib.Nifti1Header:
    start = source.read(348)
    for size, kind in _HEADERS.items():
        if any(start[:4] == size.to_bytes(4, order) for order in ("little", "big")):
            start += source.read(size - 348)
            magic = start[4:8] if size == 540 else start[344:348]
            if magic in _MAGICS:
                return kind(start, check=False)
    raise _not_nifti(name)


def _not_nifti(name: str | Path) -> errors.UserError:
    return errors.UserError(
        f"{name} is not a NIfTI file (.nii, .nii.gz), so its header alone cannot be "
        "changed; convert it first, or use --output."
    )
