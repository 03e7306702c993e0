"""A cohort as a CSV file: one line for each scan, after a line that names the columns.

Columns: subject and image; optionally labels, mask, split and person. Others are
ignored, their order is free. Relative paths start at the manifest's folder.
"""

import csv
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

from mdvit_jax import errors
from mdvit_jax.data.scan import Scan, named

_COLUMNS = ("subject", "image", "labels", "mask", "split", "person")
_SPLITS = {
    "": "", "train": "train", "validation": "validation", "val": "validation",
    "valid": "validation", "test": "test",
}  # fmt: skip


def read(manifest: Path) -> Iterator[Scan]:
    """The scans of a manifest, in its order; their files exist.

    Raises:
        UserError: naming the row that is wrong.
    """
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise errors.UserError(
            f"{manifest} cannot be read as a CSV file ({error}); save it as "
            "comma-separated UTF-8 text."
        ) from error
    names = [name.strip().lower() for name in rows[0]] if rows else []
    for needed in ("subject", "image"):
        if needed not in names:
            raise errors.UserError(
                f"{manifest} has no column {needed}; its first line must name the "
                f"columns, of {', '.join(_COLUMNS)}."
            )
    for name in names:
        near = difflib.get_close_matches(name, _COLUMNS, n=1, cutoff=0.8)
        if near and name not in _COLUMNS and near[0] not in names:
            raise errors.UserError(
                f'{manifest} has a column "{name}"; did you mean "{near[0]}"?'
            )
    for number, cells in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(names):
            raise errors.UserError(
                f"{manifest} has {len(cells)} values in row {number} but {len(names)} "
                "columns; put values that hold a comma in quotes."
            )
        row = dict.fromkeys(_COLUMNS, "")
        row |= dict(zip(names, (cell.strip() for cell in cells), strict=False))
        yield _from_row(manifest, number, row)


def _from_row(manifest: Path, number: int, row: Mapping[str, str]) -> Scan:
    if not row["subject"]:
        raise errors.UserError(f"{manifest} names no subject in row {number}.")
    if row["split"].lower() not in _SPLITS:
        raise errors.UserError(
            f'{manifest} has the split "{row["split"]}" in row {number}; write train, '
            "validation or test, or nothing."
        )
    files: dict[str, Path | None] = {}
    for column in ("image", "labels", "mask"):
        path = manifest.parent / Path(row[column]).expanduser()
        files[column] = path if row[column] else None
        if not path.is_file() and (row[column] or column == "image"):
            raise errors.UserError(
                f'{manifest} names "{row[column]}" as {column} in row {number}, which '
                "is no file; relative paths start at the manifest's folder."
            )
    image = files.pop("image")
    assert image is not None
    split = _SPLITS[row["split"].lower()]
    scan = named(row["subject"], image, **files, split=split)
    return scan._replace(person=row["person"]) if row["person"] else scan
