"""Checks of an image's header, before its voxels are read."""

import logging
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError

from mdvit_jax import errors
from mdvit_jax.io import gzip_files
from mdvit_jax.io.grid import Grid

_MOST_VOXELS = 2**30  # a whole head at 0.25 mm; more is a broken header
_MOST_OF_SERIES = 2**32  # of all volumes together; 4000 volumes of 100³
_LARGEST_EXTENSION = 2**26  # bytes
_FAR = 1e5  # mm; no scanner places a voxel there
_FLAT = 1e-3
_LARGEST_VOXEL = 100.0  # mm
_FORMS_AGREE = 1.0  # mm at the corners; float32 headers differ by some 1e-3
_REPRESENTED = 1e-3  # mm at the corners, by which a qform may miss
# Of NIfTI's xyzt_units: the bits of the unit of length, the code of the millimetre, and
# the millimetres in the units of the other codes, metre and micrometre.
_UNIT_BITS, _MILLIMETRE_CODE, _UNIT_FACTORS = 0x07, 2, {1: 1e3, 3: 1e-3}

_log = logging.getLogger(__name__)


def check_extensions(header_file: Path, path: Path) -> None:
    """Refuse extensions of impossible sizes; nibabel would allocate memory for them.

    Raises:
        UserError: one of them is larger than the file, or smaller than its own size.
        OSError, EOFError, or one of `gzip_files.DAMAGE`: the stream is damaged.
    """
    most = min(gzip_files.most_bytes(header_file), _LARGEST_EXTENSION)
    with gzip_files.open_stream(header_file) as stream:
        start = stream.read(nib.Nifti2Header.sizeof_hdr + 1)
        kinds = nib.Nifti1Header, nib.Nifti2Header
        kind = next((k for k in kinds if k.may_contain_header(start)), None)
        if kind is None or not any(start[kind.sizeof_hdr : kind.sizeof_hdr + 1]):
            return
        header = kind(start[: kind.sizeof_hdr], check=False)
        single = header["magic"].item() in (b"n+1", b"n+2")
        end = header["vox_offset"] if single else np.inf
        position = stream.seek(kind.sizeof_hdr + 4)
        while position + 16 <= end and len(words := stream.read(8)) == 8:
            size = int(np.frombuffer(words, f"{header.endianness}i4")[0])
            if not 8 <= size <= most:
                raise errors.UserError(
                    f"{path} has an extension of {size} bytes in its header, which "
                    "cannot be; get or make the file again."
                )
            position = stream.seek(position + size)


def checked_shape(proxy: ArrayProxy, path: Path) -> tuple[int, ...]:
    """The shape of an image of real numbers that may be one of a head.

    Returns:
        At least three lengths; a fourth and further axes of length 1 are dropped.

    Raises:
        UserError: it holds no real numbers or no volume, or claims too many voxels.
    """
    shape = tuple(int(length) for length in proxy.shape)
    words = "×".join(map(str, shape))
    if proxy.dtype.kind not in "iufb":
        kind = "complex numbers" if proxy.dtype.kind == "c" else "colours or vectors"
        raise errors.UserError(
            f"{path} holds {kind} where real numbers are needed; convert it to one "
            "magnitude image."
        )
    if len(shape) < 3 or min(shape) < 1:
        raise errors.UserError(
            f"{path} has {words or 'no'} voxels, which is not a volume; replace the "
            "file or leave the scan out."
        )
    if math.prod(shape[:3]) > _MOST_VOXELS or math.prod(shape) > _MOST_OF_SERIES:
        raise errors.UserError(
            f"{path} claims {words} voxels, more than a scan of a head can have; its "
            "header is damaged, so get or make the file again."
        )
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def checked_grid(image: Any, path: Path) -> Grid:
    """Where the voxels lie in millimetres, if the affine maps a volume to a volume.

    Args:
        image: nibabel's.
        path: of it, for messages; it is the grid's file where there is such a file.

    Raises:
        UserError: it does not.
    """
    header = image.header
    unit = _millimetres_in_unit(image, path)
    affine = np.array(image.affine, np.float64)
    affine[:3] *= unit
    affine = checked_affine(affine, path)
    space, pixdim = 1, None
    if isinstance(header, nib.Nifti1Header):
        sform, qform = int(header["sform_code"]), int(header["qform_code"])
        space = max(0, sform if sform > 0 else qform)
        sizes = unit * np.abs(header["pixdim"][1:4].astype(np.float64))
        pixdim = sizes if np.isfinite(sizes).all() and sizes.all() else None
        if sform > 0 and qform > 0:
            _warn_if_forms_disagree(image, unit, path)
    x, y, z = (*image.shape, 1, 1, 1)[:3]
    return Grid((x, y, z), affine, str(path), pixdim, space)


def _millimetres_in_unit(image: Any, path: Path) -> float:
    """Millimetres in the unit of a NIfTI header; 1 where that is absurd."""
    if not isinstance(image.header, nib.Nifti1Header):
        return 1.0
    unit = _UNIT_FACTORS.get(int(image.header["xyzt_units"]) & _UNIT_BITS, 1.0)
    if unit == 1:
        return 1.0
    name = "metres" if unit > 1 else "micrometres"
    largest = unit * np.abs(image.affine[:3, :3]).max()
    if largest > _LARGEST_VOXEL:
        _log.warning(
            "%s says that it is in %s, which would make its voxels %.3g mm large; "
            "it is taken to be in millimetres.",
            path,
            name,
            largest,
        )
        return 1.0
    _log.warning("%s is in %s, which are converted to millimetres.", path, name)
    return unit


def checked_affine(affine: Any, path: Path) -> np.ndarray:
    """A 4×4 float64, voxel indices → world RAS+ mm, that maps a volume to a volume.

    Raises:
        UserError: it does not.
    """
    affine = np.asarray(affine, np.float64)
    sound = np.isfinite(affine).all() and np.abs(affine).max() < _FAR
    if sound:
        steps = np.linalg.norm(affine[:3, :3], axis=0)  # mm along each voxel axis
        # The part of the volume that orthogonal axes of these steps would span.
        sound = (
            steps.min() > 1 / _FAR
            and abs(np.linalg.det(affine[:3, :3] / steps)) > _FLAT
        )
    if not sound:
        raise errors.UserError(
            f"{path} has an affine that does not map its voxels to a volume in space; "
            "repair the header's sform or qform (nibabel, fslorient)."
        )
    return affine


def check_orientation(header: Any, file: Path | None, path: Path) -> None:
    """Warn where a header does not say which side is left.

    It may be NIfTI without sform and qform, Analyze 7.5 (unless SPM's .mat file lies
    beside it), or FreeSurfer's without "good RAS".

    Args:
        header: nibabel's.
        file: that holds it; None: only NIfTI is looked at.
        path: of the image, for the message.
    """
    known, reason = True, ""
    if isinstance(header, nib.Nifti1Header):
        known = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
        reason = "sform and qform codes are 0"
    elif file is not None and isinstance(header, nib.AnalyzeHeader):
        stem = file.name.removesuffix(".gz").rpartition(".")[0]
        known = file.with_name(f"{stem}.mat").exists()
        reason = "Analyze 7.5"
    elif file is not None:
        with gzip_files.open_stream(file) as stream:
            known = stream.read(30)[28:] != b"\0\0"
        reason = "goodRASFlag is 0"
    if not known:
        _log.warning(
            "%s does not say how it lies in space (%s), so which side is left is not "
            "known; its first axis is taken to run from right to left.",
            path,
            reason,
        )


def _warn_if_forms_disagree(image: Any, unit: float, path: Path) -> None:
    try:
        qform = image.header.get_qform()
    except (ValueError, HeaderDataError):
        return  # a broken quaternion beside a sound sform, which is the one in use
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(image.shape[:3]) - 1)
    difference = unit * (image.affine - qform)
    apart = corners @ difference[:3, :3].T + difference[:3, 3]
    distance = np.linalg.norm(apart, axis=1).max()
    if not distance <= _FORMS_AGREE:
        _log.warning(
            "%s places its voxels in two ways, up to %.1f mm apart (sform and qform); "
            "its sform is used.",
            path,
            distance,
        )


def check_offset(image: Any, path: Path) -> None:
    """Refuse voxels whose offset lies within the header of the same file.

    Raises:
        UserError: they are; nibabel takes a vox_offset of 0 as it stands.
    """
    offset = image.dataobj.offset
    if offset < getattr(image.header, "sizeof_hdr", 0):  # mgh has a fixed one
        raise errors.UserError(
            f"{path} says that its voxels begin at byte {offset}, inside of its "
            "header; get or make the file again."
        )


def check_scaling(image: Any, header_file: Path, path: Path) -> None:
    """Warn where the header's scaling is not a number; nibabel drops it silently."""
    if "scl_slope" not in image.header:
        return
    kind = type(image.header)
    with gzip_files.open_stream(header_file) as stream:
        header = kind(stream.read(kind.template_dtype.itemsize), check=False)
    if not np.isfinite(header["scl_slope"]):
        _log.warning(
            "%s has scl_slope %s in its header; its values are used as stored.",
            path,
            header["scl_slope"],
        )


def set_place(header: nib.Nifti1Header, grid: Grid) -> None:
    """Make a NIfTI header place its voxels on a grid, in millimetres.

    The qform does so too if it can: it has no shear, and its code is 0 then.
    """
    # The unit of time is kept: nibabel refuses to set some that files have.
    time = int(header["xyzt_units"]) & ~_UNIT_BITS
    header["xyzt_units"] = time | _MILLIMETRE_CODE
    header.set_sform(grid.affine, grid.space)
    header["pixdim"][1:4] = grid.voxel_sizes
    header.set_qform(grid.affine, grid.space, strip_shears=True)
    if grid.distance(grid._replace(affine=header.get_qform())) > _REPRESENTED:
        header["qform_code"] = 0
