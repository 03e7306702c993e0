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
from mdvit_jax.data import image_files

_MOST_VOXELS = 2**30  # a whole head at 0.25 mm; more is a broken header
_MOST_OF_SERIES = 2**32  # of all volumes together; 4000 volumes of 100³
_FAR = 1e5  # mm; no scanner places a voxel there
_FLAT = 1e-3
_FORMS_AGREE = 1.0  # mm at the corners; float32 headers differ by some 1e-3

_log = logging.getLogger(__name__)


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


def check_scaling(image: Any, header_file: Path, path: Path) -> None:
    """Say so where the header's scaling is not a number; nibabel drops it silently."""
    if "scl_slope" not in image.header:
        return
    with image_files.opened(header_file) as stream:
        header = type(image.header).from_fileobj(stream, check=False)
    if not np.isfinite(header["scl_slope"]):
        _log.warning(
            "%s has scl_slope %s in its header; its values are used as stored.",
            path,
            header["scl_slope"],
        )
