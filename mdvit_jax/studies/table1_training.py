"""Train the five networks of Table 1 alike, for equal time, then evaluate them.

Equal data, augmentation, loss and optimiser, as the configuration says; equal seconds
of one CPU core for the steps, without compilation and validation. Each network is
trained once for each seed; the first seed of all comes before the second of any. A run
that is complete is not trained again, and one that was stopped goes on: the same
command, started again, completes the whole. With fewer seeds it evaluates what there
is.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from mdvit_jax import errors
from mdvit_jax.io import atomic
from mdvit_jax.studies import held_out, runner
from mdvit_jax.training import loop, setup, sharding, step

# Name of a run's folder → the values of `model` in which the network differs from the
# configuration's. Narrower than published, so that one core makes some hundred steps.
NETWORKS: dict[str, dict] = {
    "dlir": {"name": "dlir", "channels": (4, 8, 16, 32, 32)},
    "pasta": {
        "name": "pasta",
        "channels": (4, 8, 16, 32, 32),
        "ranges": (0.2, 70.0, 0.3, 0.4),  # of two scans that are moved each for itself
    },
    "keymorph": {
        "name": "keymorph",
        "channels": (4, 8, 16, 16, 32, 32),
        "keypoints": 32,
    },
    "c2fvit": {"dilated_form": "none"},
    "mdvit": {},
}
TASKS = "template", "reference"


def train_and_evaluate(
    config: ml_collections.ConfigDict,
    output: Path,
    *,
    seconds: float,
    seeds: int,
    command: str,
) -> int:
    """Train and evaluate; return 0, or the code of a training that a signal ended.

    Args:
        config: of all networks; `model`, `seed`, `workdir` and `optim.steps` are set
            here. The networks learn its task and are evaluated in both.
        output: for the runs NETWORK/seed-N, for steps.json, and for the evaluations
            `template` and `reference`.
        seconds: of one core for the steps of each run.
        seeds: how many runs of each network.
        command: the command line, for the report.

    Raises:
        UserError: a configuration, data or time that cannot be used.
    """
    if not seconds > 0:
        raise errors.UserError(f"{seconds:g} seconds are nothing to train; give more.")
    held_out.check_seeds(config, seeds)
    steps = count_steps(config, output / "steps.json", seconds)
    runs = list(run_configs(config, output, steps, seeds))
    for own in runs:
        print(f"{own.workdir}: {own.optim.steps} steps", flush=True)
        code = loop.train(own)
        if code:
            return code
    for task in TASKS:
        own = ml_collections.ConfigDict(config.to_dict())
        own.data.task = task
        tables = runner.run_studies(
            own,
            checkpoints=[Path(run.workdir) for run in runs],
            studies=["table1"],
            output=output / task,
            command=command,
        )
        print(f"{task}-based\n\n{tables}", flush=True)
    return 0


def run_configs(
    config: ml_collections.ConfigDict,
    output: Path,
    steps: Mapping[str, int],
    seeds: int,
    networks: Mapping[str, dict] = NETWORKS,
) -> Iterator[ml_collections.ConfigDict]:
    """The configuration of each run, seed by seed."""
    for seed in range(seeds):
        for name, model in networks.items():
            own = with_model(config, model)
            own.seed = seed
            own.workdir = str(output / name / f"seed-{seed}")
            own.optim.steps = steps[name]
            yield own


def with_model(
    config: ml_collections.ConfigDict, model: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """The configuration with these values of `model`."""
    own = ml_collections.ConfigDict(config.to_dict())
    own.model.update(model)
    return own


def count_steps(
    config: ml_collections.ConfigDict, path: Path, seconds: float
) -> dict[str, int]:
    """Network → how many of its steps take so long, kept in a file once measured."""
    measured = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, model in NETWORKS.items():
        if name not in measured:
            measured[name] = measure_step(with_model(config, model))
            atomic.write_text(path, json.dumps(measured, indent=1) + "\n")
    return {name: max(round(seconds / measured[name]), 1) for name in NETWORKS}


def measure_step(config: ml_collections.ConfigDict) -> float:
    """Seconds that all cores together spend on one step, the median of ten."""
    learner = setup.create_learner(config)
    state = step.create_state(config, *learner)
    train_step = step.create_step(config, *learner)
    shape = (config.optim.batch, *[config.data.size] * 3)
    random = np.random.default_rng(0)
    pair = [
        sharding.to_devices(learner.mesh, random.random(shape, np.float32))
        for _ in range(2)
    ]
    times = []
    for _ in range(11):  # the first one compiles
        start = time.process_time()
        state, measured = train_step(state, *pair)
        jax.block_until_ready((state, measured))
        times.append(time.process_time() - start)
    return float(np.median(times[1:]))
