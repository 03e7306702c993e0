"""The record of a run: one JSON row for each step and each validation."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path


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
    path = Path(workdir) / "metrics.jsonl"
    if not path.exists():
        return False
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # cut short
            continue
        if row["step"] == step and "dsc" in row:
            return True
    return False


def _drop_after(path: Path, step: int) -> None:
    """Remove the rows of later steps, and a last row that was cut short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step and line.endswith("\n"):
                kept.append(line)
        except ValueError:
            continue
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text("".join(kept), encoding="utf-8")
    os.replace(beside, path)
