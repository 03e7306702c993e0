"""One training configuration, timed in a process of its own, whose peak memory it is.

    python -m benchmarks.steps SETTING=VALUE...

Compiles the whole training step of the default configuration with these settings
(augmentation, network, loss, gradient, optimiser), runs it on random volumes and prints
a row of JSON. `throughput` and `scaling` start it; it joins other processes if the
environment says so, as train.py does. Having compiled, it prints a line and, with
wait=yes, waits for one to come in, or ends with compile-only=yes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from typing import IO, Any, NamedTuple

import jax
import numpy as np

from benchmarks import timing
from mdvit_jax.cli import cluster
from mdvit_jax.config import load_config
from mdvit_jax.training import distributed, setup, sharding, step

_ENOUGH = 15.0  # seconds after which no further step is timed
# Settings that are not of the configuration: to time inference too, and these two.
_FORWARD, _WAIT, _COMPILE_ONLY = "forward", "wait", "compile-only"
COMPILED = "compiled"


def main() -> int:
    """Time this process's share, and print the row from the first process."""
    settings = dict(argument.split("=", 1) for argument in sys.argv[1:])
    extra = {
        name for name in (_FORWARD, _WAIT, _COMPILE_ONLY) if settings.pop(name, "")
    }
    distributed.join(cluster.find_place(os.environ))
    with distributed.handle_lost_process():
        row = measure(settings, extra)
        if jax.process_index() == 0:
            print(json.dumps(row), flush=True)
    return 0


def measure(settings: Mapping[str, str], extra: Collection[str]) -> dict[str, Any]:
    """Seconds to compile and of a step and forward pass, bytes, on all devices."""
    config = load_config("configs/default.py", dict(settings))
    learner = setup.create_learner(config)
    state = step.create_state(config, *learner)
    part, parts = sharding.rows_of_process(learner.mesh)
    rows = (config.optim.batch // parts, *[config.data.size] * 3)
    random = np.random.default_rng(part)
    pair = [
        sharding.to_devices(learner.mesh, random.random(rows, np.float32))
        for _ in range(2)
    ]
    start = time.perf_counter()
    train: Any = step.create_step(config, *learner)
    compiled = train.lower(state, *pair).compile()
    row: dict[str, Any] = {"compile_s": time.perf_counter() - start}
    estimate = None
    if _FORWARD in extra:
        forward = jax.jit(learner.network.from_centres)
        estimate = forward.lower(state.params, *pair).compile()
    if _COMPILE_ONLY in extra:
        return row
    if _WAIT in extra:
        print(COMPILED, flush=True)
        sys.stdin.readline()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < _ENOUGH and len(times) < 10):
        start = time.perf_counter()
        state, measured = compiled(state, *pair)
        jax.block_until_ready((state, measured))
        times.append(time.perf_counter() - start)
    row["step_s"], row["steps"] = min(times[1:]), len(times) - 1
    row["peak_bytes"] = timing.peak_bytes()
    if estimate is not None:
        inputs = (state.params, *pair)
        row["forward_s"] = min(timing.once(estimate, inputs) for _ in range(3))
    return row


class Running(NamedTuple):
    """A process that times, and the file that it writes its errors to."""

    process: subprocess.Popen
    errors: IO[str]


class Failed(SystemExit):
    """A process that times has failed; the message is what it wrote."""


def run(
    settings: Mapping[str, str], *, environ: Mapping[str, str] | None = None
) -> Running:
    """Start this module in a process of its own; it is not waited for."""
    command = [sys.executable, "-m", "benchmarks.steps"]
    command += [f"{name}={value}" for name, value in settings.items()]
    errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env={**os.environ, **(environ or {})},
    )
    return Running(process, errors)


def wait_until_compiled(running: Running) -> None:
    """Wait until a process with wait=yes has compiled, or failed to."""
    assert running.process.stdout is not None
    for line in running.process.stdout:
        if line.strip() == COMPILED:
            return


def result(running: Running) -> dict[str, Any] | None:
    """Let a process go on; the row that it prints, if it prints one.

    Raises:
        Failed: it did not end well.
    """
    with running.errors:
        out, _ = running.process.communicate("go on\n")
        running.errors.seek(0)
        if running.process.returncode:
            raise Failed(f"benchmarks.steps failed:\n{running.errors.read()}")
    # The collectives of a CPU print lines of their own.
    rows = [line for line in out.splitlines() if line.startswith("{")]
    return json.loads(rows[-1]) if rows else None


if __name__ == "__main__":
    distributed.leave(main())
