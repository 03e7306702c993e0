"""A NIfTI file into the space of another: a new sform, the voxels untouched."""

import contextlib
import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np

from mdvit_jax import errors
from mdvit_jax.io import nifti
from mdvit_jax.io.grid import ALIGNED, Grid

_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_MAGICS = b"n+1\0", b"n+2\0"  # header and voxels in one file
_TALAIRACH = 3  # of NIfTI's xform codes; from here on they name a template
_SPACE, _MILLIMETRE = 0x07, 2  # of NIfTI's xyzt_units
_REPRESENTED = 1e-3  # mm at the corners, by which a qform may miss


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
    with _open(moving, "rb") as source:
        header = _header(source, moving)
        _set_place(header, affine, space if space >= _TALAIRACH else ALIGNED)
        with _open(path, "wb", zipped=str(path).lower().endswith(".gz")) as target:
            target.write(header.binaryblock)
            shutil.copyfileobj(source, target, 1 << 20)


def check(moving: str | Path) -> None:
    """Raise a UserError if a file cannot be copied like this."""
    nifti.read_grid(moving)
    if not str(moving).lower().endswith((".nii.gz", ".nii")):
        raise _not_nifti(moving)
    with _open(moving, "rb") as source:
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
        f"{name} is no NIfTI file (.nii, .nii.gz), so its header alone cannot be "
        "changed; convert it first, or use --output."
    )


def _set_place(header: nib.Nifti1Header, affine: np.ndarray, code: int) -> None:
    x, y, z = (max(int(n), 1) for n in header["dim"][1:4])
    # The unit of time stays as it is: nibabel refuses some that files have.
    header["xyzt_units"] = int(header["xyzt_units"]) & ~_SPACE | _MILLIMETRE
    header.set_sform(affine, code)
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    header.set_qform(affine, code, strip_shears=True)
    grid = Grid((x, y, z), affine)
    if grid.distance(grid._replace(affine=header.get_qform())) > _REPRESENTED:
        header["qform_code"] = 0


@contextlib.contextmanager
def _open(path: str | Path, mode: str, *, zipped: bool | None = None) -> Iterator[Any]:
    with open(path, mode) as file:
        if zipped is None:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
        if not zipped:
            yield file
            return
        # No name and no time, so that equal voxels give equal files.
        with gzip.GzipFile("", mode, 1, file, mtime=0) as unzipped:
            yield unzipped
