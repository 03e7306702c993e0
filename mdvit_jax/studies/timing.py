"""Appendix B of the paper: training steps in a second with NTG and with NCC."""

import time

import jax
import ml_collections
import numpy as np

from mdvit_jax import models
from mdvit_jax.data import conform, dataset, pairs
from mdvit_jax.studies import cases
from mdvit_jax.studies.case import Case
from mdvit_jax.studies.section import Section, Table
from mdvit_jax.training import optimizer, sharding, step

_ROUNDS, _STEPS = 5, 4  # in turn, so that what else the machine does falls on both


def run(setting: cases.Setting) -> tuple[Section, list[Case]]:
    """The configured network's training step with both losses, in one process."""
    config = setting.config
    fixed, moving = _batch(config, setting.template)
    runs = {name: _steps(config, name, fixed, moving) for name in ("ntg", "ncc")}
    seconds = {name: next(run) for name, run in runs.items()}
    compiled = dict(seconds)
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            found[name].append(next(run) / _STEPS)
    middle = {name: float(np.median(times)) for name, times in found.items()}
    ratio = middle["ncc"] / middle["ntg"]
    rows: list[tuple[str, ...]] = [
        (
            name.upper(),
            f"{1 / middle[name]:.2f}",
            f"{middle[name]:.3f}",
            f"{min(times):.3f} to {max(times):.3f}",
            f"{compiled[name]:.1f}",
        )
        for name, times in found.items()
    ]
    device = jax.devices()[0]
    text = (
        f"Training steps of this configuration's network ({config.data.size}³, batch "
        f"{config.optim.batch}) with NTG and with NCC, compiled, in turn in one "
        f"process on {jax.device_count()} × {device.device_kind}; data are in memory. "
        f"The median of {_ROUNDS} rounds of {_STEPS} steps. A step with NCC takes "
        f"{ratio:.2f} times as long as one with NTG; in the paper (Appendix B: C2FViT, "
        "50,000 steps, 602.6 and 542.9 minutes) 1.11 times."
    )
    heads = ("Loss", "steps/s", "seconds a step", "range", "seconds of the first step")
    section = Section(
        "timing", "Appendix B: training time", text, [Table(heads, rows)], {}
    )
    return section, []


def _batch(
    config: ml_collections.ConfigDict, template: conform.Conformed | None
) -> tuple[np.ndarray, np.ndarray]:
    scans = dataset.open_part(config, "train")
    drawn = pairs.draw(
        config.seed, 0, config.optim.batch, scans.persons, config.data.task
    )

    def image(index: int) -> np.ndarray:
        scan = template if index == pairs.TEMPLATE else scans[index]
        assert scan is not None  # the template was loaded for its task
        return np.asarray(scan.image, np.float32)

    one, other = (np.stack([image(i) for i in column]) for column in drawn.T.tolist())
    return one, other


def _steps(config: ml_collections.ConfigDict, loss: str, fixed, moving):
    """Yields the seconds of the first step, then of `_STEPS` further ones each time."""
    config = step.with_loss(config, loss)
    mesh = sharding.create_mesh(config.optim.batch)
    network = models.create(config)
    volume = jax.ShapeDtypeStruct(fixed.shape, np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), volume, volume)
    descent = optimizer.create(config.optim, shapes)
    state = step.create_state(config, network, descent, mesh)
    make_step = step.create_step(config, network, descent, mesh)
    pair = tuple(sharding.to_devices(mesh, rows) for rows in (fixed, moving))
    count = 1
    while True:
        jax.block_until_ready(state)
        start = time.perf_counter()
        for _ in range(count):
            state, measured = make_step(state, *pair)
        jax.block_until_ready(measured)
        yield time.perf_counter() - start
        count = _STEPS
