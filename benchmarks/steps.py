"""One training configuration, timed in a process of its own, whose peak memory it is.

    python -m benchmarks.steps SETTING=VALUE...

Compiles the whole training step of the default configuration with these settings
(augmentation, network, loss, gradient, optimiser), runs it on random volumes and prints
a row of JSON. `throughput` and `scaling` start it; it joins other processes if the
environment says so, as train.py does.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from benchmarks import timing
from mdvit_jax import config as configuration
from mdvit_jax import models
from mdvit_jax.training import distributed, optimizer, sharding, step

_ENOUGH = 15.0  # seconds after which no further step is timed
_FORWARD = "forward"  # the setting, not of the configuration, that times inference too


def main() -> int:
    """Time this process's share, and print the row from the first process."""
    settings = dict(argument.split("=", 1) for argument in sys.argv[1:])
    forward = settings.pop(_FORWARD, "")
    distributed.join()
    with distributed.handle_lost_process():
        row = measure(settings, forward=bool(forward))
        if jax.process_index() == 0:
            print(json.dumps(row), flush=True)
    return 0


def measure(settings: Mapping[str, str], *, forward: bool) -> dict[str, Any]:
    """Seconds to compile and of a step and forward pass, bytes, on all devices."""
    config = configuration.load("configs/default.py", dict(settings))
    mesh = sharding.create_mesh(config.optim.batch, accumulate=config.optim.accumulate)
    network = models.create(config)
    volume = jax.ShapeDtypeStruct((1, *[config.data.size] * 3), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), volume, volume)
    descent = optimizer.create(config.optim, shapes)
    state = step.create_state(config, network, descent, mesh)
    part, parts = sharding.rows_of_process(mesh)
    rows = (config.optim.batch // parts, *volume.shape[1:])
    random = np.random.default_rng(part)
    pair = [
        sharding.to_devices(mesh, random.random(rows, np.float32)) for _ in range(2)
    ]
    start = time.perf_counter()
    train: Any = step.create_step(config, network, descent, mesh)
    compiled = train.lower(state, *pair).compile()
    row: dict[str, Any] = {"compile_s": time.perf_counter() - start}
    times: list[float] = []
    while len(times) < 3 or (sum(times) < _ENOUGH and len(times) < 10):
        start = time.perf_counter()
        state, measured = compiled(state, *pair)
        jax.block_until_ready((state, measured))
        times.append(time.perf_counter() - start)
    row["step_s"], row["steps"] = min(times[1:]), len(times) - 1
    row["peak_bytes"] = timing.peak_bytes()
    if forward:
        inputs = (state.params, *pair)
        row["forward_s"] = timing.seconds(network.from_centres, inputs, 3)
    return row


def run(settings: Mapping[str, str], *, environ: Mapping[str, str] | None = None):
    """Start this module in a process of its own; it is not waited for."""
    command = [sys.executable, "-m", "benchmarks.steps"]
    command += [f"{name}={value}" for name, value in settings.items()]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environ or {})},
    )


def result(process: subprocess.Popen) -> dict[str, Any] | None:
    """The row that it printed, if it did; one that failed is told, and ends all."""
    out, told = process.communicate()
    if process.returncode:
        raise SystemExit(f"benchmarks.steps failed:\n{told}")
    # The collectives of a CPU print lines of their own.
    rows = [line for line in out.splitlines() if line.startswith("{")]
    return json.loads(rows[-1]) if rows else None


if __name__ == "__main__":
    distributed.leave(main())
