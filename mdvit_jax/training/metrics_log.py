"""The record of a run: one JSON row for each step and each validation."""

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from mdvit_jax.io import atomic, bucket, json_file

_NAME = "metrics.jsonl"

_logger = logging.getLogger(__name__)


class MetricsLog(contextlib.AbstractContextManager):
    """`WORKDIR/metrics.jsonl`, and TensorBoard's files if tensorboardX is installed.

    Rows hold results of the computation and no times, so that a resumed run writes the
    same file as an unbroken one. Use it in a `with` block.

    Nothing can be appended to an object in a bucket: there the rows go to a local file,
    `path`, which `sync` copies to the bucket, and there are no files of TensorBoard.
    """

    def __init__(self, workdir: epath.PathLike, *, from_step: int):
        """Open the record of a run that goes on after `from_step`.

        Later rows, of steps that were not saved and will be done again, are dropped,
        as are damaged lines. A warning names steps whose rows are missing.
        """
        workdir = epath.Path(workdir)
        self._ending = contextlib.ExitStack()
        self._target = workdir / _NAME
        folder: Any = workdir
        if bucket.in_bucket(workdir):
            folder = self._ending.enter_context(tempfile.TemporaryDirectory())
        self.path = Path(folder) / _NAME
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _write_rows_until(from_step, self._target, self.path)
        self._file = self._ending.enter_context(self.path.open("a", encoding="utf-8"))
        self._board = None
        if not bucket.in_bucket(workdir):
            self._board = _tensorboard(Path(workdir) / "tensorboard", from_step)
        if self._board is not None:
            self._ending.callback(self._board.close)

    def __exit__(self, *exception) -> None:
        """Close the files."""
        with self._ending:
            self.sync()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row; JSON has no infinity and no NaN, which become null.

        Raises:
            OSError: it cannot be written.
        """
        row = {"step": step, **json_file.finite(values)}
        text = json.dumps(row, allow_nan=False)
        self._file.write(text + "\n")
        self._file.flush()
        if self._board is not None:
            self._board.write_event(_event(step, values))

    def sync(self) -> None:
        """Bring the rows so far to the disk, before a checkpoint that comes after them.

        Raises:
            OSError: they cannot be written.
        """
        os.fsync(self._file.fileno())
        if bucket.in_bucket(self._target):
            self._target.write_bytes(self.path.read_bytes())


def _tensorboard(folder: Path, from_step: int) -> Any:
    """A new file of events, which hides older ones of later steps; None if it cannot.

    tensorboardX's SummaryWriter writes in a thread: on a full disk that ends
    silently, and the next rows wait for it forever.
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


def scores(workdir: epath.PathLike) -> dict[int, float]:
    """Step → validation DSC, of the steps of a run that were validated."""
    rows = _rows(epath.Path(workdir) / _NAME, containing=b'"dsc"')
    return {row["step"]: row["dsc"] for _, row in rows if row.get("dsc") is not None}


def is_validated(workdir: epath.PathLike, step: int) -> bool:
    """Whether the record of a run has the validation of this step."""
    rows = _rows(epath.Path(workdir) / _NAME, containing=b'"dsc"')
    return any(row["step"] == step and "dsc" in row for _, row in rows)


def _write_rows_until(step: int, source: epath.Path, path: Path) -> None:
    """Copy a record without the rows of later steps and without damaged lines.

    Warn of steps without a row: a machine that fails may lose what it had not yet
    written to its disk.
    """
    kept = [(line, row) for line, row in _rows(source) if row["step"] <= step]
    atomic.write_text(path, "".join(line for line, _ in kept))
    lost = set(range(1, step + 1)) - {row["step"] for _, row in kept if "loss" in row}
    if lost:
        _logger.warning(
            "%s lacks the rows of %d of the first %d steps, from step %d to step %d; "
            "the record keeps this gap, and the training is not affected.",
            *(source, len(lost), step, min(lost), max(lost)),
        )


def _rows(path: epath.Path, *, containing: bytes = b"") -> Iterator[tuple[str, dict]]:
    """The lines of a record, if there is one, that are rows of a step, unchanged.

    A line may be cut short, or its bytes be others after a crash of the machine.
    """
    if not path.exists():
        return
    for line in path.read_bytes().splitlines(keepends=True):
        if containing not in line:
            continue
        with contextlib.suppress(ValueError):
            text = line.decode()
            row = json.loads(text)
            whole = text.endswith("\n") and isinstance(row, dict)
            if whole and isinstance(row.get("step"), int):
                yield text, row
