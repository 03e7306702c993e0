"""Appendix B of the paper: training steps a second with NTG and with NCC."""

import time
from collections.abc import Iterator

import jax
import ml_collections
import numpy as np
import pandas as pd

from mdvit_jax.data import conform, dataset, pairs
from mdvit_jax.studies.compute import Setting
from mdvit_jax.studies.report.section import Section, Table
from mdvit_jax.training import setup, sharding, step

_ROUNDS, _STEPS = 5, 4  # rounds alternate, so that other load falls on both losses


def compute(setting: Setting) -> pd.DataFrame:
    """The configured network's training step with both losses, in one process.

    Returns:
        A row for each loss and round: `loss`, `round`, `seconds` of a step. Round 0 is
        the first step, with its compilation.
    """
    config = setting.config
    fixed, moving = _batch(config, setting.template)
    timers = {name: _time_steps(config, name, fixed, moving) for name in ("ntg", "ncc")}
    rows = [
        (loss.upper(), number, next(timer))
        for number in range(_ROUNDS + 1)
        for loss, timer in timers.items()
    ]
    return pd.DataFrame(rows, columns=["loss", "round", "seconds"])


def report(setting: Setting, records: pd.DataFrame) -> Section:
    """Steps a second with either loss, and their ratio."""
    config = setting.config
    first = records[records["round"] == 0].set_index("loss")["seconds"]
    groups = records[records["round"] > 0].groupby("loss", sort=False)["seconds"]
    median = groups.median()
    rows: list[tuple[str, ...]] = [
        (
            loss,
            f"{1 / median[loss]:.2f}",
            f"{median[loss]:.3f}",
            f"{seconds.min():.3f} to {seconds.max():.3f}",
            f"{first[loss]:.1f}",
        )
        for loss, seconds in groups
    ]
    text = (
        f"Training steps of this configuration's network ({config.data.size}³, batch "
        f"{config.optim.batch}) with NTG and with NCC, compiled, alternating in one "
        f"process on {jax.device_count()} × {jax.devices()[0].device_kind}; data are "
        f"in memory. The median of {_ROUNDS} rounds of {_STEPS} steps. A step with NCC "
        f"takes {median['NCC'] / median['NTG']:.2f} times as long as one with NTG; in "
        "the paper (Appendix B: C2FViT, 50,000 steps, 602.6 and 542.9 minutes) 1.11 "
        "times."
    )
    heads = ("Loss", "steps/s", "seconds a step", "range", "seconds of the first step")
    return Section("Appendix B: training time", text, [Table(heads, rows)])


def _batch(
    config: ml_collections.ConfigDict, template: conform.Conformed | None
) -> tuple[np.ndarray, np.ndarray]:
    """Fixed and moving images of the first training step, [batch, x, y, z]."""
    scans = dataset.open_part(config, "train")
    drawn = pairs.draw(
        config.seed, 0, config.optim.batch, scans.persons, config.data.task
    )

    def image(index: int) -> np.ndarray:
        scan = template if index == pairs.TEMPLATE else scans[index]
        assert scan is not None  # the template was loaded for its task
        return np.asarray(scan.image, np.float32)

    columns = drawn.T.tolist()
    fixed, moving = (np.stack([image(i) for i in column]) for column in columns)
    return fixed, moving


def _time_steps(
    config: ml_collections.ConfigDict, loss: str, fixed: np.ndarray, moving: np.ndarray
) -> Iterator[float]:
    """Yield the seconds of the first step, then those of a step in each round."""
    config = step.with_loss(config, loss)
    config.mesh.model = 1  # there may be fewer devices than in training
    learner = setup.create_learner(config)
    state = step.create_state(config, *learner)
    make_step = step.create_step(config, *learner)
    pair = tuple(sharding.to_devices(learner.mesh, rows) for rows in (fixed, moving))
    count = 1
    while True:
        jax.block_until_ready(state)
        start = time.perf_counter()
        for _ in range(count):
            state, measured = make_step(state, *pair)
        jax.block_until_ready(measured)
        yield (time.perf_counter() - start) / count
        count = _STEPS
