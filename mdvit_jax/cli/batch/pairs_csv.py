"""The pairs of a batch: a CSV file of fixed and moving images.

Columns: fixed and moving; optionally name, fixed_mask, moving_mask and labels. Others
are ignored, their order is free. Relative paths start at the file's folder; the names
of templates (mni152) are none.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mdvit_jax import errors
from mdvit_jax.io import csv_table, named_templates

COLUMNS = ("fixed", "moving", "name", "fixed_mask", "moving_mask", "labels")
_ENDING = re.compile(r"\.(nii|mgz|mgh|hdr|img|mnc|nrrd)?(\.gz)?$", re.IGNORECASE)
_NAME = re.compile(r"[\w+=@,-][\w+=@,. -]*")


class Row(NamedTuple):
    """A pair to register.

    Attributes:
        name: what its outputs are called.
        fixed, moving: the images, absolute paths or names of templates; whether they
            are there shows when it is its turn.
        fixed_mask, moving_mask: where they count; None is everywhere.
        labels: of the moving image, resampled like it; None if there are none.
    """

    name: str
    fixed: Path
    moving: Path
    fixed_mask: Path | None
    moving_mask: Path | None
    labels: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        """All that is read."""
        return tuple(path for path in self[1:] if isinstance(path, Path))


def read(path: Path) -> list[Row]:
    """The pairs of a CSV file, in its order.

    Raises:
        UserError: the file is wrong, naming the row.
    """
    rows: list[Row] = []
    names: dict[str, int] = {}
    for number, cells in csv_table.rows(path, COLUMNS, needed=("fixed", "moving")):
        row = _from_cells(path, number, cells)
        # Some file systems do not distinguish capital letters from small ones.
        first = names.setdefault(row.name.casefold(), number)
        if first != number:
            raise errors.UserError(
                f'{path} has two pairs called "{row.name}", in rows {first} and '
                f"{number}; give each a name of its own in a column name."
            )
        rows.append(row)
    if not rows:
        raise errors.UserError(f"{path} names no pair; add a row for each.")
    return rows


def name_after(image: Path) -> str:
    """What the outputs of an image are called: its file's name without the ending."""
    return _ENDING.sub("", image.name)


def is_name(word: str) -> bool:
    """Whether files can be called after it."""
    return _NAME.fullmatch(word) is not None


def _from_cells(path: Path, number: int, cells: Mapping[str, str]) -> Row:
    for column in ("fixed", "moving"):
        if not cells[column]:
            raise errors.UserError(f"{path} names no {column} image in row {number}.")
    paths = {c: _path(path, cells[c]) if cells[c] else None for c in COLUMNS[3:]}
    fixed, moving = (_path(path, cells[c]) for c in COLUMNS[:2])
    name = cells["name"] or name_after(moving)
    if not is_name(name):
        raise errors.UserError(
            f'{path} has the name "{name}" in row {number}, which files cannot be '
            "called after; use letters, digits, -, _ and single dots between them."
        )
    return Row(name, fixed, moving, **paths)


def _path(table_path: Path, cell: str) -> Path:
    """Where a cell's file is."""
    if named_templates.is_name(cell):
        return Path(cell)
    # A ~ of somebody who is not known is part of the name, as in a shell.
    return (table_path.parent / os.path.expanduser(cell)).absolute()
