"""results.csv of a batch: the result of every pair, and of which inputs.

A batch replaces the file by the results that are current, appends a line for each pair
as it comes, and puts them in order at the end: right at any moment, also for 50,000.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mdvit_jax
from mdvit_jax import errors
from mdvit_jax.cli.batch.pair_outputs import Outputs
from mdvit_jax.cli.batch.pairs_csv import Row
from mdvit_jax.io import atomic

if TYPE_CHECKING:  # it brings JAX, which --help need not wait for
    from mdvit_jax.registration.registration_result import Registration

ERROR = "error"  # the status of a pair that could not be registered
STATUSES = ("ok", "check", "failed", ERROR)  # those of `quality`, and ERROR
# Files of the pair, relative to the folder of the table.
OUTPUTS = ("transform", "image", "labels", "picture", "thumbnail")
RATING = ("rating", "comment", "rater", "rated")  # by a person who looked at it
MEASURES = (
    "correlation_before", "correlation_after", "overlap_before", "overlap_after",
    "ntg_before", "ntg_after", "rotation_degrees",
    "scale_x", "scale_y", "scale_z",
    "translation_x_mm", "translation_y_mm", "translation_z_mm",
)  # fmt: skip
COLUMNS = (
    "name", "status", "reasons", *RATING, "fixed", "moving",
    *MEASURES, "seconds", *OUTPUTS, "inputs",
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


def describe_error(row: Row, sentence: str, inputs: str, seconds: float) -> Result:
    """The result of a pair that could not be registered; arguments as above."""
    return _result(row, ERROR, sentence, inputs, seconds=f"{seconds:.5g}")


def _result(row: Row, status: str, reasons: str, inputs: str, **cells: str) -> Result:
    cells |= {"fixed": str(row.fixed), "moving": str(row.moving)}
    cells |= {"name": row.name, "status": status, "reasons": reasons, "inputs": inputs}
    # A line each: where a machine failed while it was written, what is left of it is
    # known by the end that it lacks.
    cells = {name: " ".join(cell.splitlines()) for name, cell in cells.items()}
    return dict.fromkeys(COLUMNS, "") | cells


def add_outputs(result: Result, outputs: Outputs, folder: Path) -> Result:
    """The result with its files, if it has any, for a table in `folder`."""
    if result["status"] == ERROR:
        return result
    paths = {name: getattr(outputs, name) for name in OUTPUTS}
    return {
        **result,
        **{name: os.path.relpath(p, folder) if p else "" for name, p in paths.items()},
    }


def fingerprint(row: Row, options: Mapping[str, object]) -> str:
    """A digest that changes with the input files and the options.

    A file that is written anew has another size or time.
    """
    files = []
    for path in row.files:
        size = time = None  # also of a template that has a name
        with contextlib.suppress(OSError):
            status = path.stat()
            size, time = status.st_size, status.st_mtime_ns
        files.append([str(path), size, time])
    roles = [path is not None for path in row[1:]]
    whole = [mdvit_jax.__version__, files, roles, dict(options)]
    text = json.dumps(whole, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(path: Path) -> dict[str, Result]:
    """The results that are there, by name; none where there is no file.

    A last line that was not written whole is left out.

    Raises:
        UserError: the file was not written by a batch.
    """
    try:
        text = path.read_bytes().decode()
        lines = text[: text.rfind("\n") + 1]
        table = csv.DictReader(io.StringIO(lines, newline=""), strict=True)
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
        for column in MEASURES:
            float(row[column] or "nan")
    except ValueError:
        return False
    return row["status"] in STATUSES


def write(path: Path, results: Iterable[Result]) -> None:
    """Replace the file by these results.

    Raises:
        UserError: it cannot be written.
    """
    with _explain_errors(path):
        atomic.write_bytes(path, _encode(results, header=True))


def append(path: Path, result: Result) -> None:
    """Add a line to the file; the disk has it when this returns.

    Raises:
        UserError: it cannot be written.
    """
    with _explain_errors(path), path.open("ab") as file:
        file.write(_encode([result]))
        file.flush()
        os.fsync(file.fileno())


def _encode(results: Iterable[Result], *, header: bool = False) -> bytes:
    """Lines of the file."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    if header:
        writer.writeheader()
    writer.writerows(results)
    # A file name may hold bytes that are not UTF-8.
    return text.getvalue().encode(errors="backslashreplace")


@contextlib.contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be written ({error.strerror}); free or choose another "
            "place, and run this again to go on."
        ) from error


def correlation(result: Result) -> float:
    """How well a pair fits; NaN where it was not registered."""
    return float(result["correlation_after"] or np.nan)
