"""The record of a run: one JSON row for each step and each validation."""

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdvit_jax.io import atomic

_logger = logging.getLogger(__name__)


class MetricsLog:
    """`WORKDIR/metrics.jsonl`, and TensorBoard's files if tensorboardX is installed.

    Rows hold what follows from the computation alone and no times, so that a resumed
    run writes the same file as an unbroken one. Use it in a `with` block.
    """

    def __init__(self, workdir: str | Path, *, from_step: int):
        """Open the record of a run that goes on after `from_step`.

        Later rows, of steps that were not saved and will be done again, are dropped,
        and what is no row. Steps that have lost theirs are told in a warning.
        """
        self.path = Path(workdir) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _keep_until(self.path, from_step)
        self._ending = contextlib.ExitStack()
        self._file = self._ending.enter_context(self.path.open("a", encoding="utf-8"))
        self._board = _tensorboard(Path(workdir) / "tensorboard", from_step)
        if self._board is not None:
            self._ending.callback(self._board.close)

    def __enter__(self) -> "MetricsLog":
        """Return itself."""
        return self

    def __exit__(self, *exception) -> None:
        """Close the files."""
        self._ending.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row; JSON has no infinity and no NaN, which become null.

        Raises:
            OSError: it cannot be written.
        """
        row = {k: v if math.isfinite(v) else None for k, v in values.items()}
        text = json.dumps({"step": step, **row}, allow_nan=False)
        self._file.write(text + "\n")
        self._file.flush()
        if self._board is not None:
            self._board.write_event(_event(step, values))

    def sync(self) -> None:
        """See that the rows so far are on the disk, as a checkpoint after them will be.

        Raises:
            OSError: they cannot be written.
        """
        os.fsync(self._file.fileno())


def _tensorboard(folder: Path, from_step: int) -> Any:
    """A new file of events, which hides older ones of later steps; None if it cannot.

    tensorboardX's SummaryWriter writes in a thread: on a full disk that ends without a
    word, and the next rows wait for it forever.
    """
    try:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2
    except ImportError:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    board = EventsWriter(str(folder / "events"))
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    purge = {"step": from_step + 1, "wall_time": time.time()}
    board.write_event(event_pb2.Event(session_log=start, **purge))
    return board


def _event(step: int, values: Mapping[str, float]) -> Any:
    from tensorboardX.proto import event_pb2, summary_pb2

    scalars = [
        summary_pb2.Summary.Value(tag=name, simple_value=value)
        for name, value in values.items()
    ]
    summary = summary_pb2.Summary(value=scalars)
    return event_pb2.Event(step=step, wall_time=time.time(), summary=summary)


def validated(workdir: str | Path, step: int) -> bool:
    """Whether the record of a run has the validation of this step."""
    rows = _rows(Path(workdir) / "metrics.jsonl")
    return any(row["step"] == step and "dsc" in row for _, row in rows)


def _keep_until(path: Path, step: int) -> None:
    """Remove the rows of later steps, and what is no row, such as one cut short.

    Warn of steps without a row: a machine that fails may lose what it had not yet
    written to its disk.
    """
    kept = [(line, row) for line, row in _rows(path) if row["step"] <= step]
    if path.exists():
        atomic.write_text(path, "".join(line for line, _ in kept))
    lost = set(range(1, step + 1)) - {row["step"] for _, row in kept if "loss" in row}
    if lost:
        _logger.warning(
            "%s lacks the rows of %d of the first %d steps, from step %d to step %d; "
            "the record keeps this gap, and the training is not affected.",
            *(path, len(lost), step, min(lost), max(lost)),
        )


def _rows(path: Path) -> Iterator[tuple[str, dict]]:
    """The lines of a record, if there is one, that are rows of a step, as they stand.

    One may be cut short, or its bytes be others after a crash of the machine.
    """
    if not path.exists():
        return
    for line in path.read_bytes().splitlines(keepends=True):
        with contextlib.suppress(ValueError):
            text = line.decode()
            row = json.loads(text)
            whole = text.endswith("\n") and isinstance(row, dict)
            if whole and isinstance(row.get("step"), int):
                yield text, row
