"""One pair, from its files to its outputs: what every process of a batch runs."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mdvit_jax import errors
from mdvit_jax.cli.batch import bids_sidecars, pair_outputs, results_csv
from mdvit_jax.cli.batch.pairs_csv import Row
from mdvit_jax.io import series


class PairTask(NamedTuple):
    """What a process needs to know of a pair; it travels between machines.

    Attributes:
        row: its images, with absolute paths.
        outputs: where its files go, likewise.
        options: the same for all pairs.
        metadata: of the sidecars of BIDS; None outside of it.
    """

    row: Row
    outputs: pair_outputs.Outputs
    options: pair_outputs.Options
    metadata: Mapping[str, Any] | None = None


class Outcome(NamedTuple):
    """What became of a pair.

    Attributes:
        result: its row of the table.
        traceback: of a bug, to be printed; "" if there was none.
    """

    result: results_csv.Result
    traceback: str = ""


def register_pair(task: PairTask) -> Outcome:
    """Register a pair and write its outputs, or say in its result why that failed."""
    # Imported here: it brings JAX, for which --help need not wait.
    from mdvit_jax.registration import register

    row, outputs, options, metadata = task
    remove_outputs(outputs)  # of an older run
    begin, bug = time.monotonic(), ""
    inputs = results_csv.fingerprint(row, options._asdict())
    try:
        labels = series.open_series(row.labels, labels=True) if row.labels else None
        result = register.register(
            row.fixed,
            row.moving,
            dof=options.dof,
            fixed_mask=row.fixed_mask,
            moving_mask=row.moving_mask,
        )
        pair_outputs.write(outputs, result, labels, options)
        if metadata is not None:
            bids_sidecars.write(outputs, result, options, metadata)
    except errors.UserError as error:
        sentence = str(error)
    except Exception as error:  # the pairs after it are worth more than a stop
        bug = traceback.format_exc()
        words = " ".join(str(error).split())
        sentence = f"a bug: {type(error).__name__}: {words}; its traceback was printed."
    else:
        seconds = time.monotonic() - begin
        return Outcome(results_csv.describe_registration(row, result, seconds, inputs))
    remove_outputs(outputs)  # those written before one failed
    seconds = time.monotonic() - begin
    return Outcome(results_csv.describe_error(row, sentence, inputs, seconds), bug)


def remove_outputs(outputs: pair_outputs.Outputs) -> None:
    """Remove the outputs of a pair that are there."""
    for path in outputs.files:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def is_current(task: PairTask, result: results_csv.Result | None) -> bool:
    """Whether a result is of these images and options, and its outputs are there.

    An error has no outputs, so it is as current as its images.
    """
    if result is None:
        return False
    files = task.outputs.files if result["status"] != results_csv.ERROR else ()
    inputs = results_csv.fingerprint(task.row, task.options._asdict())
    return result["inputs"] == inputs and all(path.is_file() for path in files)


def check_inputs_stay(tasks: Sequence[PairTask]) -> None:
    """Raise a UserError if an input would be overwritten."""
    read = {path.resolve() for task in tasks for path in task.row.files}
    for task in tasks:
        for output in task.outputs.files:
            if output.resolve() in read:
                raise errors.UserError(
                    f"{output} would be written over an image of the same name that is "
                    "read; name another --output."
                )


def check_outputs_new(tasks: Sequence[PairTask], page: Path) -> None:
    """Raise a UserError if a file that no batch wrote would be replaced."""
    for output in (*(path for task in tasks for path in task.outputs.files), page):
        if os.path.exists(output):  # False of a name that is too long
            raise errors.UserError(
                f"{output} is there, but no results.csv of a batch that wrote it; "
                "move it away, or name another --output."
            )
