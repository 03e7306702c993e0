"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


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


def write_text(path: str | Path, text: str) -> None:
    """Replace a file by a text in UTF-8."""
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # or a machine that fails may leave it empty
