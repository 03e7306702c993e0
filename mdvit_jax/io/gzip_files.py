"""The files of an image: their names, and all of their bytes.

nibabel leaves a gzip stream before the checksum and allocates whatever a header claims;
here its length is first compared with the header, and it is read to its end.
"""

import contextlib
import gzip
import importlib
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nibabel.arrayproxy import ArrayProxy

from mdvit_jax import errors

DAMAGE: tuple[type[Exception], ...]  # that a broken stream raises
try:
    _igzip: Any = importlib.import_module("isal.igzip")
except ImportError:
    _GzipFile, DAMAGE = gzip.GzipFile, (zlib.error,)
else:  # several times as fast
    _GzipFile, DAMAGE = _igzip.IGzipFile, (zlib.error, _igzip.isal_zlib.error)

ENDINGS = (".nii.gz", ".nii", ".mgz", ".mgh", ".hdr", ".img", ".hdr.gz", ".img.gz")
_DEFLATE_LIMIT = 1032  # no byte of a gzip file stands for more bytes than this
_CHUNK = 1 << 20


def image_files(path: str | Path) -> tuple[Path, ...]:
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
        _existing_file(path.with_name(stem + part), path) for part in (".hdr", ".img")
    )
    return header, voxels


def _existing_file(file: Path, path: Path) -> Path:
    gzipped = file.with_name(file.name + ".gz")
    for candidate in (file, gzipped) if path.suffix != ".gz" else (gzipped, file):
        if candidate.exists():
            return candidate
    raise errors.UserError(
        f"{path} belongs to a pair of files, of which {file.name} is missing; put it "
        "beside the other one."
    )


def check_start(file: Path) -> None:
    """Refuse a file that is not there, is empty or is not compressed as its name says.

    Raises:
        UserError: naming the file.
    """
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
    if (start == b"\x1f\x8b") != is_gzipped(file):
        what, cure = ("is not", "drop") if is_gzipped(file) else ("is", "add")
        raise errors.UserError(
            f"{file} {what} a gzip file, against what its name says; {cure} the "
            ".gz (mgz: mgh is the plain form), or get the file again."
        )


def is_gzipped(file: Path) -> bool:
    """Whether its name says that it is compressed."""
    return file.suffix.lower() in (".gz", ".mgz")


def most_bytes(file: Path) -> int:
    """The largest possible length of the file when decompressed, in bytes."""
    return file.stat().st_size * (_DEFLATE_LIMIT if is_gzipped(file) else 1)


def open_stream(file: Path) -> Any:
    """The file as a binary stream, decompressed."""
    return _GzipFile(file, "rb") if is_gzipped(file) else file.open("rb")


@contextlib.contextmanager
def open_output(file: Path) -> Iterator[Any]:
    """A file to write to, compressed if its name says so.

    Equal bytes give equal files: a gzip stream gets neither name nor time.
    """
    with file.open("wb") as stream:
        if not is_gzipped(file):
            yield stream
            return
        with _GzipFile("", "wb", 1, stream, mtime=0) as compressed:
            yield compressed


def voxel_stream(
    proxy: ArrayProxy, file: Path, path: Path, *, keep: bool = True
) -> io.BytesIO | str:
    """Where the voxels are read from: the file, or all bytes of its gzip stream.

    Args:
        proxy: nibabel's, which says where in the file how many bytes are.
        file: that holds the voxels.
        path: the image's, for the message.
        keep: False only checks that the file is whole, and keeps nothing of it.

    Raises:
        UserError: the file ends before.
        OSError, EOFError, or one of `DAMAGE`: the stream is damaged.
    """
    needed = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    enough = most_bytes(file) >= needed
    content = b""
    if enough and is_gzipped(file):
        with open_stream(file) as stream:
            content = stream.read(needed) if keep else b""
            length = len(content)
            while chunk := stream.read(_CHUNK):  # to the end, where the checksum is
                length += len(chunk)
        enough = length >= needed
    if not enough:
        words = "×".join(map(str, proxy.shape))
        raise errors.UserError(
            f"{path} ends before the {words} voxels that its header claims; get or "
            "make the file again."
        )
    return io.BytesIO(content) if is_gzipped(file) else str(file)
