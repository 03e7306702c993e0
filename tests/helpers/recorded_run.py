"""Tiny training runs in processes of their own, with a record of their pairs.

`recorded_run.py RECORD ARGUMENT...` runs `train.py ARGUMENT...` and adds a row to the
file RECORD for each batch that the process loads.
"""

import json
import os
import runpy
import socket
import sys
from pathlib import Path

from helpers import forked
from helpers.forked import ROOT
from mdvit_jax.cli.cluster import NAMES
from mdvit_jax.data import pipeline

TINY = {
    "data.layout": "synthetic",
    "data.size": "16",
    "data.split": "(4, 2, 0)",
    "data.workers": "0",
    "data.synthetic.people": "6",
    "model.embedding": "8",
    "model.depth": "1",
    "model.dilations": "(1,)",
    "model.patches": "(3,)",  # one stage is quickest to compile
    "model.strides": "(4,)",
    "loss.stride": "1",
    "loss.levels": "1",
    "optim.lr": "1e-3",
    "optim.batch": "4",
    "validation.every": "1000",
    "checkpoint.every": "1000",
}


class Run:
    """A run's folder, trained in parts, each with its own devices and processes."""

    def __init__(self, folder: Path, settings: dict[str, str]):
        self.workdir, self.records = folder / "run", folder / "records"
        self.settings = settings
        self.records.mkdir(parents=True)

    def start(
        self,
        steps: int,
        *,
        devices: int = 1,
        processes: int = 1,
        model: int = 1,
        **environ: str,
    ):
        """Start training up to a step.

        Args:
            steps: where training ends.
            devices: devices of each process.
            processes: how many to start.
            model: devices that share the largest weights.
            environ: further variables of the environment.
        """
        values = self.settings | {"optim.steps": str(steps), "mesh.model": str(model)}
        values["workdir"] = str(self.workdir)
        arguments = [f"--config.{name}={value}" for name, value in values.items()]
        environ |= {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
        started = []
        for place in environs(processes) if processes > 1 else [{}]:
            record = self.records / f"{len(list(self.records.iterdir())):02d}"
            record.touch()
            program = [__file__, record, "--config", "configs/default.py"]
            variables = {**os.environ, **environ, **place}
            started.append(forked.Program([*program, *arguments], variables))
        return started

    def train(self, steps: int, **options) -> None:
        """As `start`, and wait until all processes have exited with 0."""
        for process in self.start(steps, **options):
            output, _ = process.communicate(timeout=500)
            assert process.returncode == 0, output

    def losses(self) -> list[float]:
        """The loss of each step, from the first one on."""
        text = (self.workdir / "metrics.jsonl").read_text()
        rows = [row for row in map(json.loads, text.splitlines()) if "loss" in row]
        assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
        return [row["loss"] for row in rows]

    def pairs(self) -> dict[int, list]:
        """Step → the pairs of its whole batch, in order.

        A step that is repeated after a signal replaces its first row.
        """
        pairs: dict[int, dict[int, list]] = {}
        for path in sorted(self.records.iterdir()):
            for row in map(json.loads, path.read_text().splitlines()):
                if row["part"] == 0:
                    pairs[row["step"]] = {}
                pairs[row["step"]][row["part"]] = row["pairs"]
        return {
            step: [pair for part in sorted(parts) for pair in parts[part]]
            for step, parts in sorted(pairs.items())
        }


JOIN = """
import os
from mdvit_jax.cli import cluster
from mdvit_jax.training import distributed
distributed.join(cluster.find_place(os.environ))
"""


def start_together(program: str, *arguments: str) -> list[forked.Program]:
    """Run a Python program in two processes that are joined like those of a run."""
    return [
        forked.Program(
            ["-c", JOIN + program, *arguments],
            {**os.environ, "JAX_PLATFORMS": "cpu", **place},
        )
        for place in environs(2)
    ]


def environs(count: int) -> list[dict[str, str]]:
    """The environment variables of each of `count` processes of one run."""
    address = f"127.0.0.1:{free_port()}"
    values = [(address, str(count), str(index)) for index in range(count)]
    return [dict(zip(NAMES, each, strict=True)) for each in values]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _main() -> None:
    load, path = pipeline.batches, Path(sys.argv.pop(1))

    def recorded(*arguments, **options):
        with path.open("a") as record:
            for batch in load(*arguments, **options):
                pairs = [batch["fixed_index"].tolist(), batch["moving_index"].tolist()]
                row = {"step": batch["step"], "part": options["process_index"]}
                row["pairs"] = [list(pair) for pair in zip(*pairs, strict=True)]
                record.write(json.dumps(row) + "\n")
                record.flush()
                yield batch

    pipeline.batches = recorded
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")


if __name__ == "__main__":
    _main()
