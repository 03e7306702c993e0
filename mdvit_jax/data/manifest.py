"""A cohort as a CSV file: one line for each scan, after a line that names the columns.

Columns: subject and image; optionally labels, mask, split and person. Others are
ignored, their order is free. Relative paths start at the manifest's folder.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from mdvit_jax import errors
from mdvit_jax.data.scan import Scan, create_scan
from mdvit_jax.io import csv_table

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
    for number, row in csv_table.rows(manifest, _COLUMNS, needed=("subject", "image")):
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
                "is not a file; relative paths start at the manifest's folder."
            )
    image = files.pop("image")
    assert image is not None
    split = _SPLITS[row["split"].lower()]
    scan = create_scan(row["subject"], image, **files, split=split)
    return scan._replace(person=row["person"]) if row["person"] else scan
