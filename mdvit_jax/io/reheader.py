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
from mdvit_jax.io import image
from mdvit_jax.io.grid import Grid

_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_MAGICS = b"n+1\0", b"n+2\0"  # header and voxels in one file
_ALIGNED, _TALAIRACH = 2, 3  # of NIfTI's xform codes; from 3 on they name a template
_SPACE, _MILLIMETRE = 0x07, 2  # of NIfTI's xyzt_units
_REPRESENTED = 1e-3  # mm at the corners, by which a qform may miss


def write(path: str | Path, moving: str | Path, affine: np.ndarray, like: Any) -> None:
    """Copy a NIfTI file bit by bit, but for where its header lays it.

    The sform becomes the affine; so does the qform if it can (it knows no shear),
    otherwise its code is 0. The code is that of the fixed image where that names a
    template, else 2, "aligned to another file".

    Args:
        path: ends in .nii.gz or .nii.
        moving: the file that is copied; it may be gzipped or not, as `path` may.
        affine: 4×4, its voxel indices → world RAS+ mm of the fixed image.
        like: nibabel's header of the fixed image.

    Raises:
        UserError: the moving file is of another format.
    """
    with _opened(moving, "rb") as source:
        header = _header(source, moving)
        _place(header, affine, _code(like))
        with _opened(path, "wb", zipped=str(path).lower().endswith(".gz")) as target:
            target.write(header.binaryblock)
            shutil.copyfileobj(source, target, 1 << 20)


def check(moving: str | Path) -> None:
    """See beforehand whether a file can be copied so; a UserError if not."""
    image.load_frame(moving)
    if not str(moving).lower().endswith((".nii.gz", ".nii")):
        raise _no_nifti(moving)
    with _opened(moving, "rb") as source:
        _header(source, moving)


def _header(source: BinaryIO, name: str | Path) -> nib.Nifti1Header:
    start = source.read(348)
    for size, kind in _HEADERS.items():
        if any(start[:4] == size.to_bytes(4, order) for order in ("little", "big")):
            start += source.read(size - 348)
            magic = start[4:8] if size == 540 else start[344:348]
            if magic in _MAGICS:
                return kind(start, check=False)
    raise _no_nifti(name)


def _no_nifti(name: str | Path) -> errors.UserError:
    return errors.UserError(
        f"{name} is no NIfTI file (.nii, .nii.gz), so its header alone cannot be "
        "changed; convert it first, or use --output."
    )


def _place(header: nib.Nifti1Header, affine: np.ndarray, code: int) -> None:
    x, y, z = (max(int(n), 1) for n in header["dim"][1:4])
    # Of time, whatever is there: nibabel reads no units that NIfTI has not got.
    header["xyzt_units"] = int(header["xyzt_units"]) & ~_SPACE | _MILLIMETRE
    header.set_sform(affine, code)
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    header.set_qform(affine, code, strip_shears=True)
    found = Grid((x, y, z), header.get_qform())
    if found.distance(Grid((x, y, z), affine)) > _REPRESENTED:
        header["qform_code"] = 0


def _code(like: Any) -> int:
    code = int(like["sform_code"]) if "sform_code" in like else 0
    return code if code >= _TALAIRACH else _ALIGNED


@contextlib.contextmanager
def _opened(
    path: str | Path, mode: str, *, zipped: bool | None = None
) -> Iterator[Any]:
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
