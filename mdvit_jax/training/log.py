"""The record of a run: one JSON row for each step and each validation."""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

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
        self._file = self.path.open("a", encoding="utf-8")
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(
                str(Path(workdir) / "tensorboard"), purge_step=from_step + 1
            )

    def __enter__(self) -> "MetricsLog":
        """Return itself."""
        return self

    def __exit__(self, *exception) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row; JSON has no infinity and no NaN, which become null."""
        row = {k: v if math.isfinite(v) else None for k, v in values.items()}
        text = json.dumps({"step": step, **row}, allow_nan=False)
        self._file.write(text + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)


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
