"""results.csv of a batch: the result of every pair, and of which inputs.

The file is replaced after every pair, as a whole, so that it is right at any moment.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mdvit_jax
from mdvit_jax import errors
from mdvit_jax.cli.batch.pairs_csv import Row
from mdvit_jax.io import atomic

if TYPE_CHECKING:  # it brings JAX, which --help need not wait for
    from mdvit_jax.registration.register import Registration

ERROR = "error"  # the status of a pair that could not be registered
STATUSES = ("ok", "check", "failed", ERROR)  # those of `quality`, and ERROR
RATING = ("rating", "comment", "rater", "rated")  # by a person who looked at it
COLUMNS = (
    "name", "status", "reasons", *RATING, "fixed", "moving",
    "correlation_before", "correlation_after", "overlap_before", "overlap_after",
    "ntg_before", "ntg_after", "rotation_degrees",
    "scale_x", "scale_y", "scale_z",
    "translation_x_mm", "translation_y_mm", "translation_z_mm",
    "seconds", "inputs",
)  # fmt: skip

# A row of the file: a cell for each of COLUMNS.
Result = Mapping[str, str]


def describe_registration(
    row: Row, registration: Registration, seconds: float, inputs: str
) -> Result:
    """The result of a pair that was registered.

    Args:
        seconds: from reading its images to writing its outputs.
        inputs: of `fingerprint`.
    """
    numbers = {"rotation_degrees": registration.components.angle, "seconds": seconds}
    for when, measures in (
        ("before", registration.before),
        ("after", registration.after),
    ):
        for name, value in measures._asdict().items():
            numbers[f"{name}_{when}"] = value
    for axis, scale, shift in zip(
        "xyz",
        registration.components.scale,
        registration.components.translation,
        strict=True,
    ):
        numbers[f"scale_{axis}"] = scale
        numbers[f"translation_{axis}_mm"] = shift
    cells = {name: f"{float(value):.5g}" for name, value in numbers.items()}
    status, reasons = registration.quality
    return _result(row, status, "; ".join(reasons), inputs, **cells)


def describe_error(row: Row, sentence: str, inputs: str) -> Result:
    """The result of a pair that could not be registered."""
    return _result(row, ERROR, sentence, inputs)


def _result(row: Row, status: str, reasons: str, inputs: str, **cells: str) -> Result:
    cells |= {"fixed": str(row.fixed), "moving": str(row.moving)}
    cells |= {"name": row.name, "status": status, "reasons": reasons, "inputs": inputs}
    return dict.fromkeys(COLUMNS, "") | cells


def fingerprint(row: Row, options: Mapping[str, object]) -> str:
    """A digest that changes with the input files and the options.

    A file that is written anew has another size or time.
    """
    files = []
    for path in row.files:
        try:
            status = path.stat()
            files.append([str(path.absolute()), status.st_size, status.st_mtime_ns])
        except OSError:
            files.append([str(path.absolute()), None, None])
    roles = [path is not None for path in row[1:]]
    whole = [mdvit_jax.__version__, files, roles, dict(options)]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def read(path: Path) -> dict[str, Result]:
    """The results that are there, by name; none where there is no file.

    Raises:
        UserError: the file was not written by a batch.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file, strict=True)
            rows = list(table)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise errors.UserError(
            f"{path} cannot be read ({error}); move it away, or name another --output."
        ) from error
    if set(table.fieldnames or ()) != set(COLUMNS) or not all(map(_is_result, rows)):
        raise errors.UserError(
            f"{path} was not written by this version of mdvit batch; move it away, or "
            "name another --output."
        )
    return {row["name"]: row for row in rows}


def _is_result(row: Mapping[str | None, str | None]) -> bool:
    """Whether a row of a file is a result."""
    if set(row) != set(COLUMNS) or None in row.values():
        return False
    try:
        float(row["correlation_after"] or "nan")
    except ValueError:
        return False
    return row["status"] in STATUSES


def write(path: Path, results: Iterable[Result]) -> None:
    """Replace the file by these results.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with (
            atomic.replacing(path) as beside,
            # A file name may hold bytes that are not UTF-8.
            beside.open(
                "w", newline="", encoding="utf-8", errors="backslashreplace"
            ) as file,
        ):
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(results)
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be written ({error.strerror}); free or choose another "
            "place, and run this again to go on."
        ) from error


def correlation(result: Result) -> float:
    """How well a pair fits; NaN where it was not registered."""
    return float(result["correlation_after"] or np.nan)
