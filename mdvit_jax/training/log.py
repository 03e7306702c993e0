"""The record of a run: one JSON row for each step and each validation."""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdvit_jax import atomic


class MetricsLog:
    """`WORKDIR/metrics.jsonl`, and TensorBoard's files if tensorboardX is installed.

    Rows hold what follows from the computation alone and no times, so that a resumed
    run writes the same file as an unbroken one. Use it in a `with` block.
    """

    def __init__(self, workdir: str | Path, *, from_step: int):
        """Open the record of a run that goes on after `from_step`.

        Later rows, of steps that were not saved and will be done again, are dropped.
        """
        self.path = Path(workdir) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _drop_after(self.path, from_step)
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


def _drop_after(path: Path, step: int) -> None:
    """Remove the rows of later steps, and a last row that was cut short."""
    if not path.exists():
        return
    kept = [line for line, row in _rows(path) if row["step"] <= step]
    atomic.write_text(path, "".join(kept))


def _rows(path: Path) -> Iterator[tuple[str, dict]]:
    """The lines of a record, if there is one, with their content; none cut short."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            with contextlib.suppress(ValueError):
                yield line, json.loads(line)
