"""What was found, in a CSV file with one row for each case and method."""

import csv
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One method on one case.

    Attributes:
        group, case, contrast, voxels, method: which.
        value: what the case measures, in mm or Dice; NaN where the method failed.
        seconds: how long the method took.
        cores: how many it could use.
        error: why it failed, or "".
        matrix: `fixed_to_moving`, world RAS+ mm, 16 numbers row by row; "" if none.
    """

    group: str
    case: str
    contrast: str
    voxels: str
    method: str
    value: float
    seconds: float
    cores: int
    error: str
    matrix: str

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What is computed once."""
        return self.group, self.case, self.contrast, self.voxels, self.method


def read(path: Path) -> list[Row]:
    """The rows of a file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    return [_row(**line) for line in lines]


def append(path: Path, row: Row) -> None:
    """Add a row at once, so that an interrupted comparison loses none."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(Row._fields)
        writer.writerow(row)


def _row(*, value: str, seconds: str, cores: str, **words: str) -> Row:
    return Row(value=float(value), seconds=float(seconds), cores=int(cores), **words)
