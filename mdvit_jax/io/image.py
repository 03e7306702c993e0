"""An image in memory: read from a file with all checks, and written to one."""

from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from mdvit_jax import errors
from mdvit_jax.io import atomic, gzip_files, headers, nifti, output_paths, voxels
from mdvit_jax.io.grid import Grid

_LONGEST = 2**15 - 1  # axis of NIfTI
_TIME, _SECOND, _MILLISECOND, _MICROSECOND = 0x38, 8, 16, 24
_IN_MILLISECONDS = {_SECOND: 1e3, _MICROSECOND: 1e-3}  # the unit of FreeSurfer's files
_MGH_TYPES = (np.uint8, np.int16, np.int32, np.float32)
# Of a NIfTI header: what the values mean, whatever grid they lie on.
_MEANING = (
    "descrip", "aux_file", "cal_min", "cal_max",
    "intent_code", "intent_name", "intent_p1", "intent_p2", "intent_p3",
)  # fmt: skip
_MGH_MEANING = ("tr", "flip_angle", "te", "ti")


class Image(NamedTuple):
    """An image and where it lies.

    Attributes:
        grid: of its voxels; `grid.file` is the path, if it has one.
        data: [x, y, z], the file's own axes; finite; integers as they are stored, or
            float32.
        header: nibabel's, of the file's own kind; None without a file.
        dtype: the number type in which results are written.
    """

    grid: Grid
    data: np.ndarray
    header: Any
    dtype: np.dtype

    @property
    def affine(self) -> np.ndarray:
        """4×4 float64, voxel indices → world RAS+ mm."""
        return self.grid.affine

    @property
    def path(self) -> str | None:
        """Its file, for messages."""
        return self.grid.file


def from_array(data: np.ndarray, affine: np.ndarray) -> Image:
    """An array [x, y, z] and its 4×4 (voxel indices → world RAS+ mm) as an image."""
    x, y, z = data.shape
    return Image(Grid((x, y, z), affine), data, None, data.dtype)


def load(path: str | Path) -> Image:
    """Read a scan.

    Voxels that are NaN or infinite become 0, with a warning. A fourth axis of length 1
    is dropped.

    Raises:
        UserError: the file cannot be read, is damaged, holds no single real-valued
            3D image, or the same value everywhere.
    """
    grid, header, values = _read(path)
    return Image(grid, voxels.as_scan(values, path), header, values.dtype)


def load_labels(path: str | Path) -> Image:
    """Read a label map; `data` are integers, 0 is background.

    Floating-point files are fine if they hold whole numbers (to 1e-3, for scaled ones).

    Raises:
        UserError: as in `load`; or a value is not a whole number, or all are 0.
    """
    grid, header, values = _read(path)
    values, count = voxels.replace_non_finite(values)
    voxels.warn_of_non_finite(count, path)
    data = voxels.whole_numbers(values, path)
    if not data.any():
        raise errors.UserError(
            f"{path} holds no label, only 0; replace the file or leave the scan out."
        )
    return Image(grid, data, header, data.dtype)


def load_mask(path: str | Path) -> Image:
    """Read a mask; `data` is bool, true where the file is above 0, and somewhere is.

    Raises:
        UserError: as in `load`, but a mask may be true everywhere.
    """
    grid, header, values = _read(path)
    inside = values > 0
    if not inside.any():
        raise errors.UserError(
            f"{path} is a mask with nothing in it; replace the file or leave it out."
        )
    return Image(grid, inside, header, np.dtype(np.uint8))


def _read(path: str | Path) -> tuple[Grid, Any, np.ndarray]:
    grid, _, header, stored = nifti.open_file(path, check_shape=nifti.accept_one_volume)
    return grid, header, stored.read(0)


def save(
    path: str | Path,
    data: np.ndarray,
    grid: Grid,
    *,
    dtype: np.dtype | None = None,
    header: Any = None,
) -> None:
    """Write values on a grid, all at once.

    Args:
        path: ends in .nii.gz, .nii, .mgz or .mgh.
        data: [x, y, z], or [x, y, z, t].
        grid: where they lie.
        dtype: of the file; None is that of the data. See `voxels.cast`.
        header: nibabel's, of the image whose values these are: what they mean, and how
            far apart the volumes of a series are, is taken from it.

    Raises:
        UserError: another ending, a folder that cannot be written to, or a shape or
            values that the format cannot hold.
    """
    path = Path(path)
    data = voxels.cast(data, stored_dtype(path, dtype or data.dtype, data))
    image: nib.spatialimages.SpatialImage
    if output_paths.is_mgh(path):
        kind = nib.freesurfer.MGHImage
        image = kind(data, grid.affine, _header(kind, header, data))
    else:
        if max(data.shape) > _LONGEST:
            words = "×".join(map(str, data.shape))
            raise errors.UserError(
                f"{path} cannot hold {words} voxels: NIfTI counts to {_LONGEST} along "
                "an axis; name an output that ends in .mgz, or a smaller reference."
            )
        image = to_nibabel(data, grid, header=header)
    try:
        with (
            atomic.replacing(path) as beside,
            gzip_files.open_output(beside) as stream,
        ):
            image.to_stream(stream)
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be written ({error.strerror}); name another place."
        ) from error


def to_nibabel(data: np.ndarray, grid: Grid, *, header: Any = None) -> nib.Nifti1Image:
    """Values on a grid as nibabel's image.

    Args:
        data: [x, y, z], or [x, y, z, t].
        grid: where they lie.
        header: as in `save`.
    """
    new_header = _header(nib.Nifti1Image, header, data)
    result = nib.Nifti1Image(data, grid.affine, new_header)
    headers.set_place(result.header, grid)
    return result


def stored_dtype(path: str | Path, dtype: np.dtype, data: np.ndarray) -> np.dtype:
    """The type as which a file holds values: the one wanted, or one that is as exact.

    FreeSurfer's files have only some types. Whole numbers become int32 there.

    Args:
        path: of the file.
        dtype: the one wanted.
        data: the values, of any shape.

    Raises:
        UserError: they do not fit int32.
    """
    if not output_paths.is_mgh(path) or dtype in _MGH_TYPES:
        return dtype
    if dtype.kind == "f":
        return np.dtype(np.float32)
    limits, low, high = np.iinfo(np.int32), data.min().item(), data.max().item()
    if low < limits.min or high > limits.max:
        extreme = max(low, high, key=abs)
        raise errors.UserError(
            f"{path} cannot hold the value {extreme:.0f}: FreeSurfer's files have "
            "whole numbers of 32 bits at most; name an output that ends in .nii.gz."
        )
    return np.dtype(np.int32)


def _header(kind: Any, source: Any, data: np.ndarray) -> Any:
    """A header for values whose own image had the header `source`."""
    header = kind.header_class()
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    if source is not None:
        for field in _MGH_MEANING if kind is nib.freesurfer.MGHImage else _MEANING:
            if field in header and field in source:
                header[field] = source[field]
        if data.ndim == 4:
            _keep_time(header, source)
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
