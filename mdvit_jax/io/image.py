"""Images as files that a registration reads and writes."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import nibabel as nib
import numpy as np

from mdvit_jax import errors
from mdvit_jax.io import atomic, nifti
from mdvit_jax.io.grid import Grid

_ENDINGS: dict[str, Any] = {
    ".nii.gz": nib.Nifti1Image, ".nii": nib.Nifti1Image,
    ".mgz": nib.freesurfer.MGHImage, ".mgh": nib.freesurfer.MGHImage,
}  # fmt: skip
_LONGEST = 2**15 - 1  # axis of NIfTI
_TIME, _SECOND, _MILLISECOND, _MICROSECOND = 0x38, 8, 16, 24  # of NIfTI's xyzt_units
_IN_MILLISECONDS = {_SECOND: 1e3, _MICROSECOND: 1e-3}  # the unit of FreeSurfer's files
_MGH_TYPES = (np.uint8, np.int16, np.int32, np.float32)


class Frame(NamedTuple):
    """Where an image lies, and what its file says of it.

    Attributes:
        shape: [x, y, z]; of the file's own axes.
        affine: 4×4 float64, voxel indices → world RAS+ mm.
        header: nibabel's, of the file's own kind.
        path: of the file.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    header: Any
    path: str

    @property
    def grid(self) -> Grid:
        """Where its voxels lie."""
        return Grid(self.shape, self.affine, self.path)


class Image(NamedTuple):
    """An image and what its file says of it.

    Attributes:
        data: [x, y, z], the file's own axes; float32, or int32 for labels.
        affine: 4×4 float64, voxel indices → world RAS+ mm.
        header: nibabel's, of the file's own kind.
        dtype: as which its values are to be written again.
        path: of its file, by which messages call it; None if it has none.
    """

    data: np.ndarray
    affine: np.ndarray
    header: Any
    dtype: np.dtype
    path: str | None = None

    @property
    def grid(self) -> Grid:
        """Where its voxels lie."""
        x, y, z = self.data.shape
        return Grid((x, y, z), self.affine, self.path)


class Series(NamedTuple):
    """An image of one volume or several, which are decoded one at a time.

    Attributes:
        frame: where each of them lies.
        lengths: () for one volume in three dimensions, (t,) for a series.
        dtype: as which its values are to be written again.
        volumes: [x, y, z], in order, once; float32, or int32 for labels.
    """

    frame: Frame
    lengths: tuple[int, ...]
    dtype: np.dtype
    volumes: Iterator[np.ndarray]


class _Placed(Protocol):
    @property
    def affine(self) -> np.ndarray: ...
    @property
    def header(self) -> Any: ...


def load(path: str | Path, *, labels: bool = False) -> Image:
    """Read an image, or a label map, with all the checks of `nifti.load`.

    Raises:
        UserError: the file cannot be used.
    """
    header, data = nifti.read(path, labels=labels)
    dtype = _written_as(header.dtype, labels)
    return Image(data, header.affine, header.header, dtype, str(path))


def load_frame(path: str | Path) -> Frame:
    """Read where an image lies, of whatever voxels and however many volumes.

    Raises:
        UserError: the file is damaged, or its header is none of an image in space.
    """
    return _frame(nifti.load_header(path), path)


def open_series(path: str | Path, *, labels: bool = False) -> Series:
    """Read an image, or a label map, of one volume or several.

    Raises:
        UserError: the file cannot be used; some faults show in the iteration only.
    """
    header, volumes = nifti.open_series(path, labels=labels)
    dtype = _written_as(header.dtype, labels)
    return Series(_frame(header, path), header.shape[3:], dtype, volumes)


def _frame(header: nifti.Header, path: str | Path) -> Frame:
    x, y, z = header.shape[:3]
    return Frame((x, y, z), header.affine, header.header, str(path))


def _written_as(dtype: np.dtype, labels: bool) -> np.dtype:
    return np.dtype(np.int32) if labels and dtype.kind == "f" else dtype


def ending_of(path: str | Path) -> str:
    """The ending by which an image can be written; a UserError if it has none."""
    name = Path(path).name.lower()
    ending = next((e for e in _ENDINGS if name.endswith(e)), None)
    if ending is None:
        raise errors.UserError(
            f"{path} has none of the endings {', '.join(_ENDINGS)}; choose one."
        )
    return ending


def check_output(path: str | Path) -> None:
    """See beforehand whether an image can be written there.

    Raises:
        UserError: another ending, or no folder that can be written to.
    """
    ending_of(path)
    check_place(path)


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two paths name one file, which need not be there yet."""
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def check_not_read(path: str | Path, inputs: Iterable[str | Path]) -> None:
    """See beforehand that no input would be written over; a UserError if one would."""
    for other in inputs:
        if same_file(path, other):
            raise errors.UserError(
                f"{path} would be written over {other}, which is read; name another "
                "output."
            )


def check_new(path: str | Path, overwrite: bool) -> None:
    """Raise a UserError if the file is there and may not be replaced."""
    if not overwrite and os.path.exists(path):
        raise errors.UserError(
            f"{path} is there already; name another file, or add --overwrite."
        )


def check_place(path: str | Path) -> None:
    """See beforehand whether a file can be written there; a UserError if not."""
    folder, reason = Path(path).parent, None
    if not folder.is_dir():
        reason = f"there is no folder {folder}"
    elif not os.access(folder, os.W_OK):
        reason = f"nothing can be written to the folder {folder}"
    elif Path(path).is_dir():
        reason = "it is a folder"
    if reason:
        raise errors.UserError(
            f"{path} cannot be written ({reason}); name another place."
        )


def dtype_in(path: str | Path, dtype: np.dtype) -> np.dtype:
    """The type itself, or float32 where the format of a file has not got it."""
    if _ENDINGS[ending_of(path)] is nib.freesurfer.MGHImage and dtype not in _MGH_TYPES:
        return np.dtype(np.float32)
    return dtype


def as_stored(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in a type; whole numbers are rounded to, and cut off at their limits."""
    if dtype.kind not in "iu" or data.dtype == dtype:
        return data.astype(dtype, copy=False)
    limits, data = np.iinfo(dtype), np.rint(data)
    # As a float, the largest whole number may be the next one, which overflows.
    above, below = data >= limits.max, data <= limits.min
    stored = np.where(above | below, 0, data).astype(dtype)
    stored[above], stored[below] = limits.max, limits.min
    return stored


def save(
    path: str | Path,
    data: np.ndarray,
    like: _Placed,
    dtype: np.dtype,
    *,
    time_of: Any = None,
) -> None:
    """Write data on the grid of another image, whose header is kept, all at once.

    Args:
        path: ends in .nii.gz, .nii, .mgz or .mgh.
        data: [x, y, z], or [x, y, z, t].
        like: the image whose grid this is.
        dtype: of the file; see `as_stored`.
        time_of: header that says how far apart the volumes of a series are.

    Raises:
        UserError: another ending, a folder that cannot be written to, or a shape that
            the format has not got.
    """
    path = Path(path)
    kind = _ENDINGS[ending_of(path)]
    dtype = dtype_in(path, dtype)
    if kind is nib.Nifti1Image and max(data.shape) > _LONGEST:
        words = "×".join(map(str, data.shape))
        raise errors.UserError(
            f"{path} cannot hold {words} voxels: NIfTI counts to {_LONGEST} along an "
            "axis; name an output that ends in .mgz, or a smaller reference."
        )
    header = _header(kind, like.header)
    header.set_data_dtype(dtype)
    header.set_data_shape(data.shape)
    if data.ndim == 4 and time_of is not None:
        _keep_time(header, time_of)
    image = kind(as_stored(data, dtype), like.affine, header)
    try:
        with atomic.replacing(path) as beside:
            nib.save(image, beside)
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be written ({error.strerror}); name another place."
        ) from error


def _header(kind: Any, like: Any) -> Any:
    """A header for a kind of image, with what another one says of the same family."""
    family = nib.Nifti1Header if kind is nib.Nifti1Image else kind.header_class
    if not isinstance(like, family):
        header = kind.header_class()
        if family is nib.Nifti1Header:
            header.set_xyzt_units("mm")
        return header
    like = like.copy()
    like.set_data_shape((1, 1, 1))  # another kind may not have that of the other
    header = kind.header_class.from_header(like)
    if family is nib.Nifti1Header:
        header["cal_max"] = header["cal_min"] = 0  # were the other image's brightness
        header["vox_offset"] = 0  # wherever it was in the other's file
    return header


def _keep_time(header: Any, source: Any) -> None:
    """Let volumes be as far apart as another header says, in its unit if possible."""
    timed, from_mgh = "xyzt_units" in source, "tr" in source
    step = float(source["tr"] if from_mgh else source["pixdim"][4])
    step = step if np.isfinite(step) and step > 0 else 0.0
    unit = int(source["xyzt_units"]) & _TIME if timed else _MILLISECOND * from_mgh
    if "tr" in header:
        header["tr"] = step * _IN_MILLISECONDS.get(unit, 1.0)
        return
    header["pixdim"][4] = step
    header["xyzt_units"] = int(header["xyzt_units"]) & ~_TIME | unit
    header["toffset"] = source.get("toffset", 0)
