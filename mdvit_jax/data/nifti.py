"""One image file → its voxels and its affine, or one sentence that says why not.

NIfTI (.nii, .nii.gz), FreeSurfer (.mgz, .mgh) and Analyze or NIfTI pairs (.hdr with
.img; either may be gzipped). nibabel reads them. It leaves a gzip stream before the
checksum, allocates whatever a header claims and accepts affines that map a volume to a
plane, so all of that is checked here, before the voxels are read where possible.

Raises everywhere: UserError, naming the file, for whatever cannot be used. What can be
repaired without doubt is repaired, with a warning in the log that names the file.
"""

import gzip
import io
import logging
import math
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from mdvit_jax import errors

ENDINGS = (".nii.gz", ".nii", ".mgz", ".mgh", ".hdr", ".img", ".hdr.gz", ".img.gz")

_DAMAGE = (
    HeaderDataError, HeaderTypeError, ImageFileError, OSError, EOFError, zlib.error,
    ValueError, TypeError, KeyError, OverflowError, MemoryError,
)  # fmt: skip
_DEFLATE_LIMIT = 1032  # no byte of a gzip file stands for more bytes than this
_MOST_VOXELS = 2**30  # a whole head at 0.25 mm; more is a broken header
_FAR = 1e5  # mm; no scanner places a voxel there
_FLAT = 1e-3
_FORMS_AGREE = 1.0  # mm at the corners; float32 headers differ by some 1e-3

_log = logging.getLogger(__name__)


class Volume(NamedTuple):
    """An image as it is stored.

    Attributes:
        data: [x, y, z], the file's own axes.
        affine: 4×4 float64, voxel indices → world RAS+ mm.
    """

    data: np.ndarray
    affine: np.ndarray


def load(path: str | Path) -> Volume:
    """Read a scan; `data` is float32, scaled as the header says, and finite.

    Voxels that are NaN or infinite become 0. A fourth axis of length 1 is dropped.

    Raises:
        UserError: the file cannot be read, is damaged, holds no single real-valued
            3D image, or the same value everywhere.
    """
    values, affine = _read(Path(path))
    with np.errstate(over="ignore"):
        data = _finite(values.astype(np.float32), path)
    if data.min() == data.max():
        raise errors.UserError(
            f"{path} holds the value {data.flat[0]:g} everywhere, so there is nothing "
            "to register in it; replace the file or leave the scan out."
        )
    return Volume(data, affine)


def load_labels(path: str | Path) -> Volume:
    """Read a label map; `data` is int32, 0 is background.

    Floating-point files are fine if they hold whole numbers (to 1e-3, for scaled ones).

    Raises:
        UserError: as in `load`; or a value is not a whole number of 32 bits.
    """
    values, affine = _read(Path(path))
    if values.dtype.kind == "f":
        values = _finite(values, path)
        whole = np.rint(values)
        if np.abs(values - whole).max() > 1e-3:
            raise errors.UserError(
                f"{path} holds values that are no whole numbers, so it is no label "
                "map; name the file with the labels, resampled by nearest neighbour."
            )
        values = whole
    limits, extreme = np.iinfo(np.int32), max(values.min(), values.max(), key=abs)
    if values.min() < limits.min or values.max() > limits.max:
        raise errors.UserError(
            f"{path} holds the label {extreme:.0f}, which does not fit 32 bits; "
            "renumber the labels."
        )
    if not values.any():
        raise errors.UserError(
            f"{path} holds no label, only 0; replace the file or leave the scan out."
        )
    return Volume(values.astype(np.int32), affine)


def load_mask(path: str | Path) -> Volume:
    """Read a mask; `data` is bool, true where the file is above 0, and somewhere is.

    Raises:
        UserError: as in `load`, but a mask may be true everywhere.
    """
    values, affine = _read(Path(path))
    inside = values > 0
    if not inside.any():
        raise errors.UserError(
            f"{path} is a mask with nothing in it; replace the file or leave it out."
        )
    return Volume(inside, affine)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Scaled voxels [x, y, z] in a real type, and the checked affine."""
    for file in files(path):
        _check_start(file)
    header_file, data_file = files(path)[0], files(path)[-1]
    try:
        with nib.imageglobals.LoggingOutputSuppressor():  # it names no file
            image: Any = nib.load(header_file)
        proxy = image.dataobj
        shape = _checked_shape(proxy, path)
        affine = _checked_affine(image, path)
        _check_scaling(image, header_file, path)
        stream = _data_stream(proxy, data_file, path)
        specification = (
            proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter
        )  # fmt: skip
        values = np.asanyarray(ArrayProxy(stream, specification))
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise errors.UserError(
            f"{path} is damaged, or no image of the format that its name says "
            f"({reason}); get or make the file again."
        ) from error
    return values.reshape(shape, order="F"), affine


def files(path: str | Path) -> tuple[Path, ...]:
    """The files that make up an image: one, or header and voxels of a pair.

    Raises:
        UserError: the ending is unknown, or one of a pair is missing.
    """
    path = Path(path)
    name = path.name.lower()
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
    if ending is None:
        raise errors.UserError(
            f"{path} has none of the endings {', '.join(ENDINGS)}, so its format "
            "is unknown; convert it to NIfTI (.nii.gz)."
        )
    if not ending.startswith((".hdr", ".img")):
        return (path,)
    stem = path.name[: -len(ending)]
    header, voxels = (
        _one_of(path.with_name(stem + part), path) for part in (".hdr", ".img")
    )
    return header, voxels


def _one_of(file: Path, path: Path) -> Path:
    gzipped = file.with_name(file.name + ".gz")
    for candidate in (file, gzipped) if path.suffix != ".gz" else (gzipped, file):
        if candidate.exists():
            return candidate
    raise errors.UserError(
        f"{path} belongs to a pair of files, of which {file.name} is missing; put it "
        "beside the other one."
    )


def _check_start(file: Path) -> None:
    try:
        with file.open("rb") as stream:
            start = stream.read(2)
    except OSError as error:
        raise errors.UserError(
            f"{file} cannot be read ({error.strerror}); check the path and the "
            "permissions."
        ) from error
    if not start:
        raise errors.UserError(f"{file} is empty; get or make the file again.")
    if (start == b"\x1f\x8b") != _is_gzipped(file):
        what, cure = ("is not", "drop") if _is_gzipped(file) else ("is", "add")
        raise errors.UserError(
            f"{file} {what} a gzip file, against what its name says; {cure} the "
            ".gz (mgz: mgh is the plain form), or get the file again."
        )


def _is_gzipped(file: Path) -> bool:
    return file.suffix.lower() in (".gz", ".mgz")


def _checked_shape(proxy: ArrayProxy, path: Path) -> tuple[int, int, int]:
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
    if math.prod(shape[3:]) > 1:
        raise errors.UserError(
            f"{path} has {words} voxels, which is {math.prod(shape[3:])} volumes where "
            "one is needed; extract one of them, or their mean, into a file."
        )
    if math.prod(shape) > _MOST_VOXELS:
        raise errors.UserError(
            f"{path} claims {words} voxels, more than a scan of a head can have; its "
            "header is damaged, so get or make the file again."
        )
    return shape[0], shape[1], shape[2]


def _checked_affine(image: Any, path: Path) -> np.ndarray:
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


def _check_scaling(image: Any, header_file: Path, path: Path) -> None:
    """Say so where the header's scaling is not a number; nibabel drops it silently."""
    if "scl_slope" not in image.header:
        return
    with _open(header_file) as stream:
        header = type(image.header).from_fileobj(stream, check=False)
    if not np.isfinite(header["scl_slope"]):
        _log.warning(
            "%s has scl_slope %s in its header; its values are used as stored.",
            path,
            header["scl_slope"],
        )


def _data_stream(proxy: ArrayProxy, file: Path, path: Path) -> io.BytesIO | str:
    """Where the voxels are read from: the file, or all bytes of its gzip stream."""
    needed = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    size = file.stat().st_size
    enough = size * (_DEFLATE_LIMIT if _is_gzipped(file) else 1) >= needed
    content = b""
    if enough and _is_gzipped(file):
        with _open(file) as stream:
            content = stream.read(needed)
            while stream.read(1 << 20):
                pass  # to the end, where the checksum is compared
        enough = len(content) == needed
    if not enough:
        words = "×".join(map(str, proxy.shape))
        raise errors.UserError(
            f"{path} ends before the {words} voxels that its header claims; get or "
            "make the file again."
        )
    return io.BytesIO(content) if _is_gzipped(file) else str(file)


def _open(file: Path):
    return gzip.open(file) if _is_gzipped(file) else file.open("rb")


def _finite(values: np.ndarray, path: str | Path) -> np.ndarray:
    bad = ~np.isfinite(values)
    if bad.any():
        _log.warning(
            "%s holds %d voxels that are NaN or infinite; they are set to 0.",
            path,
            np.count_nonzero(bad),
        )
        values = np.where(bad, values.dtype.type(0), values)
    return values
