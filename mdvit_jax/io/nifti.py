"""One image file → its voxels and its affine, or one sentence that says why not.

NIfTI (.nii, .nii.gz), FreeSurfer (.mgz, .mgh) and Analyze or NIfTI pairs (.hdr with
.img; either may be gzipped). nibabel reads them. It leaves a gzip stream before the
checksum, allocates whatever a header claims and accepts affines that map a volume to a
plane, so all of that is checked (`image_files`, `headers`), where possible before the
voxels are read.

Raises everywhere: UserError, naming the file, for whatever cannot be used. What can be
repaired without doubt is repaired, with a warning in the log that names the file.
"""

import contextlib
import math
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from mdvit_jax import errors
from mdvit_jax.io import gzip_files, headers, voxels
from mdvit_jax.io.gzip_files import files

__all__ = [
    "Header", "Series", "Volume", "files", "load", "load_header", "load_labels",
    "load_mask", "open_series", "read",
]  # fmt: skip

_DAMAGE = (
    HeaderDataError, HeaderTypeError, ImageFileError, MGHError, OSError, EOFError,
    zlib.error, ValueError, TypeError, KeyError, OverflowError,
)  # fmt: skip


class Volume(NamedTuple):
    """An image as it is stored.

    Attributes:
        data: [x, y, z], the file's own axes.
        affine: 4×4 float64, voxel indices → world RAS+ mm.
    """

    data: np.ndarray
    affine: np.ndarray


class Header(NamedTuple):
    """What a file says of its image.

    Attributes:
        shape: [x, y, z], or [x, y, z, t] and more; axes of length 1 at the end of more
            than three are dropped.
        affine: 4×4 float64, voxel indices → world RAS+ mm.
        header: nibabel's, of the file's own kind.
        dtype: of the values: as stored, or float32 where the header scales them.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    header: Any
    dtype: np.dtype


class Series(NamedTuple):
    """An image of one volume or several, of which each is decoded when it is asked for.

    Attributes:
        header: `shape` is [x, y, z] or [x, y, z, t].
        volumes: [x, y, z] each, in order, once; float32, or int32 for labels.
    """

    header: Header
    volumes: Iterator[np.ndarray]


def load(path: str | Path) -> Volume:
    """Read a scan; `data` is float32, scaled as the header says, and finite.

    Voxels that are NaN or infinite become 0. A fourth axis of length 1 is dropped.

    Raises:
        UserError: the file cannot be read, is damaged, holds no single real-valued
            3D image, or the same value everywhere.
    """
    header, data = read(path)
    return Volume(data, header.affine)


def load_labels(path: str | Path) -> Volume:
    """Read a label map; `data` is int32, 0 is background.

    Floating-point files are fine if they hold whole numbers (to 1e-3, for scaled ones).

    Raises:
        UserError: as in `load`; or a value is not a whole number of 32 bits.
    """
    header, data = read(path, labels=True)
    return Volume(data, header.affine)


def read(path: str | Path, *, labels: bool = False) -> tuple[Header, np.ndarray]:
    """What a file says of its image, and the data of `load`, or of `load_labels`.

    Raises:
        UserError: as there.
    """
    header, values = _read(Path(path))
    if not labels:
        return header, voxels.as_scan(values, path)
    data, bad = voxels.as_labels(values, path)
    voxels.say_how_many(bad, path)
    if not data.any():
        raise errors.UserError(
            f"{path} holds no label, only 0; replace the file or leave the scan out."
        )
    return header, data


def load_mask(path: str | Path) -> Volume:
    """Read a mask; `data` is bool, true where the file is above 0, and somewhere is.

    Raises:
        UserError: as in `load`, but a mask may be true everywhere.
    """
    header, values = _read(Path(path))
    inside = values > 0
    if not inside.any():
        raise errors.UserError(
            f"{path} is a mask with nothing in it; replace the file or leave it out."
        )
    return Volume(inside, header.affine)


def load_header(path: str | Path) -> Header:
    """Read where an image lies, whatever its voxels hold and how many volumes it has.

    A gzip stream is read to its end, for the checksum that holds for the header too,
    but nothing of it is kept.

    Raises:
        UserError: the file cannot be read or is damaged, or its header is none of an
            image in space.
    """
    return _opened(Path(path), keep=False)[0]


def open_series(path: str | Path, *, labels: bool = False) -> Series:
    """Read an image of one volume or several, of which one may be constant or all 0.

    The bytes of a gzip file are held as they are stored, those of another are read
    volume by volume. Otherwise values are treated as in `load` and `load_labels`.

    Raises:
        UserError: the file cannot be read, is damaged, or holds neither a volume nor a
            series of volumes of real numbers. For labels, the iteration raises it where
            a value is not a whole number of 32 bits.
    """
    path = Path(path)
    header, proxy = _opened(path, accept=_accept_series)
    return Series(header, _volumes(proxy, path, labels))


def _volumes(proxy: ArrayProxy, path: Path, labels: bool) -> Iterator[np.ndarray]:
    bad_of_all = 0
    for index in range(proxy.shape[3]):
        with _damage_told(path), np.errstate(all="ignore"):
            values = np.asanyarray(proxy[..., index])
        data, bad = (
            voxels.as_labels(values, path) if labels else voxels.as_image(values)
        )
        bad_of_all += bad
        yield data
    voxels.say_how_many(bad_of_all, path)


def _read(path: Path) -> tuple[Header, np.ndarray]:
    """The checked header, and scaled voxels [x, y, z] in a real type."""
    header, proxy = _opened(path, accept=_accept_volume)
    with _damage_told(path), np.errstate(all="ignore"):  # what it scales to infinity
        values = np.asanyarray(proxy)
    return header, values[..., 0]


def _opened(
    path: Path,
    *,
    accept: Callable[[tuple[int, ...], Path], None] | None = None,
    keep: bool = True,
) -> tuple[Header, ArrayProxy]:
    """What the header says, and the voxels [x, y, z, t], not yet decoded."""
    for file in files(path):
        gzip_files.check_start(file)
    header_file, data_file = files(path)[0], files(path)[-1]
    with _damage_told(path):
        headers.check_extensions(header_file, path)
        with nib.imageglobals.LoggingOutputSuppressor(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nibabel's words name no file
            image: Any = nib.load(header_file)
        proxy = image.dataobj
        shape = headers.checked_shape(proxy, path)
        if accept:
            accept(shape, path)
        affine = headers.checked_affine(image, path)
        headers.check_scaling(image, header_file, path)
        if header_file == data_file:
            headers.check_offset(image, path)
        stream = gzip_files.voxels(proxy, data_file, path, keep=keep)
        volumes = (*shape[:3], math.prod(shape[3:]))
        stored = ArrayProxy(
            stream, (volumes, proxy.dtype, proxy.offset, proxy.slope, proxy.inter)
        )
    plain = (proxy.slope, proxy.inter) == (1, 0)
    dtype = proxy.dtype.newbyteorder("=") if plain else np.dtype(np.float32)
    return Header(shape, affine, image.header, dtype), stored


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise errors.UserError(
            f"{path} does not fit into the memory that is free; free some, or use a "
            "machine with more."
        ) from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise errors.UserError(
            f"{path} is damaged, or no image of the format that its name says "
            f"({reason}); get or make the file again."
        ) from error


def _accept_volume(shape: tuple[int, ...], path: Path) -> None:
    if len(shape) > 3:
        raise errors.UserError(
            f"{path} has {'×'.join(map(str, shape))} voxels, which is "
            f"{math.prod(shape[3:])} volumes where one is needed; extract one of them, "
            "or their mean, into a file."
        )


def _accept_series(shape: tuple[int, ...], path: Path) -> None:
    if len(shape) > 4:
        raise errors.UserError(
            f"{path} has {'×'.join(map(str, shape))} voxels, which is neither a volume "
            "nor a series of volumes; vectors, as of a deformation, cannot be used."
        )
