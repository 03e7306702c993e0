"""Read an image file: grid, header and voxels, or one sentence why it cannot be used.

NIfTI (.nii, .nii.gz), FreeSurfer (.mgz, .mgh) and Analyze or NIfTI pairs (.hdr with
.img; either may be gzipped). nibabel reads them. It leaves a gzip stream before the
checksum, allocates whatever a header claims and accepts affines that map a volume to a
plane, so all of that is checked (`gzip_files`, `headers`), where possible before the
voxels are read.

All functions raise a UserError that names a file that cannot be used. Faults that can
be repaired without doubt are repaired, with a warning in the log that names the file.
"""

import contextlib
import math
import warnings
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
from mdvit_jax.io import gzip_files, headers
from mdvit_jax.io.grid import Grid

_DAMAGE: tuple[type[Exception], ...] = (
    HeaderDataError, HeaderTypeError, ImageFileError, MGHError, OSError, EOFError,
    *gzip_files.DAMAGE, ValueError, TypeError, KeyError, OverflowError,
)  # fmt: skip
_SLAB = 1 << 22  # voxels that are scaled at a time

# Raises a UserError for a shape that the caller cannot use, of the file named.
CheckShape = Callable[[tuple[int, ...], Path], None]


class StoredVoxels(NamedTuple):
    """The voxels of a file, decoded when they are asked for.

    Attributes:
        proxy: nibabel's, of shape [x, y, z, t].
        path: of the file, for messages.
    """

    proxy: ArrayProxy
    path: Path

    @property
    def dtype(self) -> np.dtype:
        """Of `read`: as stored, or float32 where the header scales the values."""
        stored = self.proxy.dtype.newbyteorder("=")
        scaled = (self.proxy.slope, self.proxy.inter) != (1, 0)
        wide = stored.kind == "f" and stored.itemsize > 8
        return np.dtype(np.float32 if scaled else np.float64 if wide else stored)

    def read(self, volume: int) -> np.ndarray:
        """One volume [x, y, z] in `dtype`; NaN and infinity are still in it."""
        shape = self.proxy.shape[:3]
        with sentence_for_damage(self.path), np.errstate(all="ignore"):
            if (self.proxy.slope, self.proxy.inter) == (1, 0):
                values = np.asanyarray(self.proxy[..., volume])
                if not values.dtype.isnative and values.flags.writeable:
                    native = values.dtype.newbyteorder()
                    # In place, as a copy may be large.
                    values = values.byteswap(inplace=True).view(native)
                return values.astype(self.dtype, copy=False)
            # nibabel scales in float64, which is large.
            result = np.empty(shape, self.dtype, order="F")
            step = max(1, _SLAB // math.prod(shape[:2]))
            for z in range(0, shape[2], step):
                result[:, :, z : z + step] = self.proxy[:, :, z : z + step, volume]
        return result


def open_file(
    path: str | Path, *, check_shape: CheckShape | None = None, keep_voxels: bool = True
) -> tuple[Grid, tuple[int, ...], Any, StoredVoxels]:
    """Open an image and check it to the last byte.

    All bytes of a gzip file are held, inflated but not decoded; those of another are
    read volume by volume.

    Args:
        path: of the file.
        check_shape: sees the shape before any voxel is read; None: any will do.
        keep_voxels: False keeps nothing of a gzip stream; the voxels cannot be read.

    Returns:
        The grid; the further axes, () or (t,) or more; nibabel's header; the voxels.

    Raises:
        UserError: the file cannot be read, is damaged, or holds no image in space.
    """
    path = Path(path)
    files = gzip_files.image_files(path)
    for file in files:
        gzip_files.check_start(file)
    header_file, data_file = files[0], files[-1]
    with sentence_for_damage(path):
        headers.check_extensions(header_file, path)
        with nib.imageglobals.LoggingOutputSuppressor(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nibabel's words name no file
            image: Any = nib.load(header_file)
        proxy = image.dataobj
        shape = headers.checked_shape(proxy, path)
        if check_shape is not None:
            check_shape(shape, path)
        grid = headers.checked_grid(image, path)
        headers.check_orientation(image.header, header_file, path)
        headers.check_scaling(image, header_file, path)
        if header_file == data_file:
            headers.check_offset(image, path)
        stream = gzip_files.voxel_stream(proxy, data_file, path, keep=keep_voxels)
        volumes = (*shape[:3], math.prod(shape[3:]))
        scaling = proxy.slope, proxy.inter
        stored = ArrayProxy(
            stream, (volumes, proxy.dtype, proxy.offset, *scaling), mmap=False
        )
    return grid, shape[3:], image.header, StoredVoxels(stored, path)


def read_grid(path: str | Path) -> Grid:
    """Read where an image lies, whatever its voxels hold and how many volumes it has.

    A gzip stream is read to its end, for the checksum that holds for the header too,
    but nothing of it is kept.

    Raises:
        UserError: the file cannot be read or is damaged, or its header is not
            that of an image in space.
    """
    return open_file(path, keep_voxels=False)[0]


@contextlib.contextmanager
def sentence_for_damage(path: Path) -> Iterator[None]:
    """Turn the errors of nibabel and the system in the block into a UserError.

    Args:
        path: of the file, for the message.

    Raises:
        UserError: the file is damaged, or does not fit into memory.
    """
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
            f"{path} is damaged, or not an image of the format that its name says "
            f"({reason}); get or make the file again."
        ) from error


def accept_one_volume(shape: tuple[int, ...], path: Path) -> None:
    """One volume only.

    Raises:
        UserError: there are several.
    """
    if len(shape) > 3:
        raise errors.UserError(
            f"{path} has {'×'.join(map(str, shape))} voxels, which is "
            f"{math.prod(shape[3:])} volumes where one is needed; take one of them, or "
            "their mean."
        )


def accept_series(shape: tuple[int, ...], path: Path) -> None:
    """A volume, or a series of volumes.

    Raises:
        UserError: the file holds vectors or more.
    """
    if len(shape) > 4:
        raise errors.UserError(
            f"{path} has {'×'.join(map(str, shape))} voxels, which is neither a volume "
            "nor a series of volumes; vectors, as of a deformation, cannot be used."
        )
