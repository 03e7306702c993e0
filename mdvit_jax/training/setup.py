"""The parts of a run, created from its configuration without writing anything."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
import optax
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from mdvit_jax import errors, models
from mdvit_jax.config import leaves
from mdvit_jax.data import conform, dataset, pairs, template
from mdvit_jax.training import (
    optimizer,
    pretrained,
    scans,
    sharding,
    template_affines,
)

# What may differ among the processes of one run: where files lie, and how each loads.
_MAY_DIFFER = (
    *("workdir", "data.root", "data.cache", "data.workers", "data.in_memory"),
    "synthesis.heads",
)


class Learner(NamedTuple):
    """What learns, in the order of the arguments of `step.create_state`.

    Attributes:
        network, optimizer: what is trained, and how.
        mesh: the devices.
    """

    network: models.Network
    optimizer: optax.GradientTransformation
    mesh: Mesh


class Setup(NamedTuple):
    """The parts of a run.

    Attributes:
        training, held_out: the scans to train and to validate with.
        to_template: [scans + 1, 4, 4], where the scans for training lie in MNI152
            (`template_affines.read`); None without `loss.people`.
        template: the fixed scan of the task "template", else None.
        cases: the pairs to validate with, as indices of `held_out` (`pairs.cases`).
        mesh: the devices.
        part, parts: which part of each batch this process loads, and of how many.
        network, optimizer: what is trained, and how.
    """

    training: dataset.ScanDataset
    held_out: dataset.ScanDataset
    to_template: np.ndarray | None
    template: conform.Conformed | None
    cases: list[tuple[int, int]]
    mesh: Mesh
    part: int
    parts: int
    network: models.Network
    optimizer: optax.GradientTransformation


def create(config: ml_collections.ConfigDict, workdir: epath.Path) -> Setup:
    """Open the data, and describe the devices, the network and the optimiser.

    Raises:
        UserError: a configuration or data that cannot be used; or the processes of the
            run would not train the same network.
    """
    training, held_out = scans.open_parts(config, workdir)
    fixed = template.load(config.data)[0] if config.data.task == "template" else None
    cases = pairs.cases(held_out.persons, config.data.task, config.seed)
    cases = cases[: config.validation.cases or None].tolist()
    pairs.check(training.persons, config.data.task)
    check_processes_agree(config, (training, held_out))
    to_template = None
    if config.loss.people:
        to_template = template_affines.read(training, fixed)

    learner = create_learner(config)
    part, parts = sharding.rows_of_process(learner.mesh)
    check_skipping(config, parts)
    return Setup(
        training,
        held_out,
        to_template,
        fixed,
        cases,
        learner.mesh,
        part,
        parts,
        learner.network,
        learner.optimizer,
    )


def create_learner(config: ml_collections.ConfigDict) -> Learner:
    """The network of a configuration, its optimiser, and the devices of all processes.

    Raises:
        UserError: a configuration that cannot be used, or not on these devices.
    """
    mesh = sharding.create_mesh(
        config.optim.batch,
        model=config.mesh.model,
        accumulate=config.optim.accumulate,
    )
    network = models.create(config)
    shapes = pretrained.parameter_shapes(config, network)
    return Learner(network, optimizer.create(config.optim, shapes), mesh)


def check_processes_agree(
    config: ml_collections.ConfigDict, parts: Sequence[dataset.ScanDataset]
) -> None:
    """Raise a UserError, in all processes, if they would not train the same network.

    Args:
        config: of this process; some values may differ (`_MAY_DIFFER`).
        parts: the scans to train and to validate with, as this process sees them.
    """
    if jax.process_count() == 1:
        return
    settings = [
        (name, value) for name, value in leaves(config) if name not in _MAY_DIFFER
    ]
    people = [[(s.subject, s.person) for s in part.scans] for part in parts]
    digests = [
        np.frombuffer(hashlib.sha256(repr(values).encode()).digest(), np.uint8)
        for values in (sorted(settings), people)
    ]
    all_digests = multihost_utils.process_allgather(np.stack(digests))
    different = (all_digests != all_digests[0]).any(axis=-1)  # [processes, 2]
    for column, what, advice in (
        (0, "has another configuration", "start all of them with the same options"),
        (1, "finds other scans", "see that data.root has the same files everywhere"),
    ):
        if different[:, column].any():
            numbers = ", ".join(map(str, np.flatnonzero(different[:, column])))
            raise errors.UserError(
                f"Of {jax.process_count()} processes number {numbers} {what} than "
                f"number 0; {advice}."
            )


def check_skipping(config: ml_collections.ConfigDict, parts: int) -> None:
    """Raise a UserError if a scan could be left out by some processes only.

    Processes that load the same pairs, each for its share of the weights, may differ in
    what they can read, and the same weights would learn from two batches.

    Args:
        config: of it `data.skip_unreadable`.
        parts: how many parts of a batch the processes load (`rows_of_process`).
    """
    if config.data.skip_unreadable and parts < jax.process_count():
        raise errors.UserError(
            f"data.skip_unreadable is true, but mesh.model {config.mesh.model} makes "
            f"{jax.process_count()} processes load the same {parts} parts of a batch, "
            "of which each may read what another cannot; set one of them back."
        )
