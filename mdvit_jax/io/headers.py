"""What the header of an image may say, checked before its voxels are read."""

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

_MOST_VOXELS = 2**30  # a whole head at 0.25 mm; more is a broken header
_MOST_OF_SERIES = 2**32  # of all volumes together; 4000 volumes of 100³
_LARGEST_EXTENSION = 2**26  # bytes
_FAR = 1e5  # mm; no scanner places a voxel there
_FLAT = 1e-3
_FORMS_AGREE = 1.0  # mm at the corners; float32 headers differ by some 1e-3

_log = logging.getLogger(__name__)


def check_extensions(header_file: Path, path: Path) -> None:
    """Refuse extensions of sizes that cannot be; nibabel would take memory for them.

    Raises:
        UserError: one of them is larger than the file, or smaller than its own size.
        OSError, EOFError, zlib.error: the stream is damaged.
    """
    most = min(gzip_files.most_bytes(header_file), _LARGEST_EXTENSION)
    with gzip_files.opened(header_file) as stream:
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
            f"{path} has {words or 'no'} voxels, which is no volume; replace the "
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


def checked_affine(image: Any, path: Path) -> np.ndarray:
    """Voxel indices → world RAS+ mm, 4×4 float64, if it maps a volume to a volume.

    Raises:
        UserError: it does not.
    """
    affine = np.asarray(image.affine, np.float64)
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
    header = image.header
    if isinstance(header, nib.Nifti1Header):
        sform, qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
        if sform and qform:
            _warn_if_forms_disagree(image, affine, path)
        elif not sform and not qform:
            _log.warning(
                "%s does not say how it lies in space (sform and qform codes are 0); "
                "its first axis is taken to run from right to left.",
                path,
            )
    return affine


def _warn_if_forms_disagree(image: Any, sform: np.ndarray, path: Path) -> None:
    try:
        qform = image.header.get_qform()
    except (ValueError, HeaderDataError):
        return  # a broken quaternion beside a sound sform, which is the one in use
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(image.shape[:3]) - 1)
    apart = corners @ (sform - qform)[:3, :3].T + (sform - qform)[:3, 3]
    distance = np.linalg.norm(apart, axis=1).max()
    if not distance <= _FORMS_AGREE:
        _log.warning(
            "%s places its voxels in two ways, up to %.1f mm apart (sform and qform); "
            "its sform is used.",
            path,
            distance,
        )


def check_offset(image: Any, path: Path) -> None:
    """Refuse voxels that are said to begin inside of the header in the same file.

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
    """Say so where the header's scaling is not a number; nibabel drops it silently."""
    if "scl_slope" not in image.header:
        return
    kind = type(image.header)
    with gzip_files.opened(header_file) as stream:
        header = kind(stream.read(kind.template_dtype.itemsize), check=False)
    if not np.isfinite(header["scl_slope"]):
        _log.warning(
            "%s has scl_slope %s in its header; its values are used as stored.",
            path,
            header["scl_slope"],
        )
