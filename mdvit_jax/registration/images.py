"""Images as files that a registration reads and writes."""

from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from mdvit_jax import atomic, errors
from mdvit_jax.data import nifti
from mdvit_jax.registration.transforms import Grid

_ENDINGS: dict[str, Any] = {
    ".nii.gz": nib.Nifti1Image, ".nii": nib.Nifti1Image,
    ".mgz": nib.freesurfer.MGHImage, ".mgh": nib.freesurfer.MGHImage,
}  # fmt: skip
_MGH_TYPES = (np.uint8, np.int16, np.int32, np.float32)


class Image(NamedTuple):
    """An image and what its file says of it.

    Attributes:
        data: [x, y, z], the file's own axes; float32, or int32 for labels.
        affine: 4×4 float64, voxel indices → world RAS+ mm.
        header: nibabel's, of the file's own kind.
        dtype: as which its values are to be written again.
    """

    data: np.ndarray
    affine: np.ndarray
    header: Any
    dtype: np.dtype

    @property
    def grid(self) -> Grid:
        """Where its voxels lie."""
        x, y, z = self.data.shape
        return Grid((x, y, z), self.affine)


def load(path: str | Path, *, labels: bool = False) -> Image:
    """Read an image, or a label map, with all the checks of `nifti.load`.

    Raises:
        UserError: the file cannot be used.
    """
    volume = nifti.load_labels(path) if labels else nifti.load(path)
    image: Any = nib.load(nifti.files(path)[0])  # has just been read without a fault
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    plain = (slope, intercept) == (1, 0)
    dtype = image.get_data_dtype() if plain else np.dtype(np.float32)
    if labels and dtype.kind == "f":
        dtype = np.dtype(np.int32)
    return Image(volume.data, volume.affine, image.header, dtype.newbyteorder("="))


def ending_of(path: str | Path) -> str:
    """The ending by which an image can be written; a UserError if it has none."""
    name = Path(path).name.lower()
    ending = next((e for e in _ENDINGS if name.endswith(e)), None)
    if ending is None:
        raise errors.UserError(
            f"{path} has none of the endings {', '.join(_ENDINGS)}; choose one."
        )
    return ending


def save(path: str | Path, data: np.ndarray, like: Image, dtype: np.dtype) -> None:
    """Write data on the grid of another image, whose header is kept, all at once.

    Args:
        path: ends in .nii.gz, .nii, .mgz or .mgh.
        data: [x, y, z].
        like: the image whose grid this is.
        dtype: of the file; whole numbers are rounded to, and cut off at their limits.

    Raises:
        UserError: another ending, or a folder that cannot be written to.
    """
    path = Path(path)
    ending = ending_of(path)
    kind = _ENDINGS[ending]
    if kind is nib.freesurfer.MGHImage and dtype not in _MGH_TYPES:
        dtype = np.dtype(np.float32)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        data = np.clip(np.rint(data), limits.min, limits.max)
    header = kind.header_class.from_header(like.header)
    header.set_data_dtype(dtype)
    if kind is nib.Nifti1Image:
        header["cal_max"] = header["cal_min"] = 0  # were the other image's brightness
    image = kind(data.astype(dtype), like.affine, header)
    try:
        with atomic.replacing(path) as beside:
            nib.save(image, beside)
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be written ({error.strerror}); name another place."
        ) from error
