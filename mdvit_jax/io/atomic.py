"""Files that are written whole or not at all."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mdvit_jax.io import bucket

_LONGEST_ENDING = 16  # bytes


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place when the block ends well.

    It has the same ending. A reader of `path` never sees half of it, and what an error
    leaves unfinished is removed. Of a symbolic link, the target is replaced.

    Raises:
        OSError: the place is taken by what is not a file, such as a device.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "what is there is not a file", str(path))
    beside = path.with_name(_partial_name(path.name))
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _partial_name(name: str) -> str:
    """A short name, as the file's own may already be as long as names can be."""
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    endings = "".join(Path(name).suffixes[-2:]), Path(name).suffix, ""
    ending = next(e for e in endings if len(os.fsencode(e)) <= _LONGEST_ENDING)
    return f".partial_{digest}{ending}"


def write_bytes(path: str | Path | Any, data: bytes) -> None:
    """Replace a file; an object of a bucket (`etils.epath.Path`) is written whole."""
    if bucket.in_bucket(path):
        from etils import epath  # aligning two scans needs no buckets

        epath.Path(path).write_bytes(data)
        return
    with replacing(path) as beside, beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # or a machine that fails may leave it empty


def write_text(path: str | Path | Any, text: str, *, errors: str = "strict") -> None:
    """As `write_bytes`, a text in UTF-8.

    Args:
        path: of the file.
        text: its new content.
        errors: as in `open`: what becomes of characters that UTF-8 does not have, such
            as bytes of a file name in another encoding.
    """
    write_bytes(path, text.encode(errors=errors))
