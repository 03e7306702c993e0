"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place when the block ends well.

    It has the same ending. A reader of `path` never sees half of it, and what an error
    leaves unfinished is removed.
    """
    path = Path(path)
    beside = path.with_name(f".partial_{path.name}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def in_bucket(path: str | os.PathLike) -> bool:
    """Whether a path is one of a bucket, such as gs://bucket/run, and not of a disk."""
    return "://" in os.fspath(path)


def write_bytes(path: str | Path | Any, data: bytes) -> None:
    """Replace a file; an object of a bucket (`etils.epath.Path`) is written whole."""
    if in_bucket(path):
        path.write_bytes(data)
        return
    with replacing(path) as beside, beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # or a machine that fails may leave it empty


def write_text(path: str | Path | Any, text: str) -> None:
    """As `write_bytes`, a text in UTF-8."""
    write_bytes(path, text.encode())
