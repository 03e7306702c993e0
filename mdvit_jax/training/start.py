"""Where a run starts: its newest checkpoint, another run's parameters, or a seed."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, SingleDeviceSharding

from mdvit_jax import configuration, errors, models
from mdvit_jax.data import store
from mdvit_jax.models import import_torch
from mdvit_jax.training import checkpoint, step

_logger = logging.getLogger(__name__)

# What may differ when a run is resumed: where things lie, whether one may be lacking,
# how the work is shared out, and how long it goes on.
_MAY_DIFFER = (
    *("workdir", "data.root", "data.cache", "data.workers", "data.skip_unreadable"),
    *("data.in_memory", "synthesis.heads"),
    *("optim.steps", "optim.cooldown", "optim.accumulate", "stall_after"),
)
# What may differ among the processes of one run: where things lie, and how each loads.
_MAY_DIFFER_AMONG = (
    *("workdir", "data.root", "data.cache", "data.workers", "data.in_memory"),
    "synthesis.heads",
)
_GROUPS_THAT_MAY_DIFFER = ("checkpoint.", "evaluation.", "mesh.")
# What decides who trains and who tests, of one cohort.
_DECIDE_THE_SPLIT = ("seed", "data.split", "data.person", "data.same_person")


def check_same_run(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Raise a UserError if the folder holds a run under another configuration."""
    if not (workdir / "config.json").exists():
        return
    before = configuration.saved(workdir)
    changed = _changes(
        before,
        config,
        lambda name: (
            name not in _MAY_DIFFER and not name.startswith(_GROUPS_THAT_MAY_DIFFER)
        ),
    )
    if changed:
        raise errors.UserError(
            f"{workdir} holds a run with {changed}; go on with its configuration, or "
            "name another folder with --config.workdir."
        )


def check_processes_agree(
    config: ml_collections.ConfigDict, parts: Sequence[store.Store]
) -> None:
    """Raise a UserError, in all processes, if they would not train the same network.

    Args:
        config: of this process; where things lie may differ (`_MAY_DIFFER_AMONG`).
        parts: the scans to train and to validate with, as this process finds them.
    """
    if jax.process_count() == 1:
        return
    settings = [
        (name, value)
        for name, value in configuration.leaves(config)
        if name not in _MAY_DIFFER_AMONG
    ]
    people = [[(s.subject, s.person) for s in part.scans] for part in parts]
    digests = [
        np.frombuffer(hashlib.sha256(repr(of).encode()).digest(), np.uint8)
        for of in (sorted(settings), people)
    ]
    of_all = multihost_utils.process_allgather(np.stack(digests))
    other = (of_all != of_all[0]).any(axis=-1)  # [processes, 2]
    for column, what, advice in (
        (0, "has another configuration", "start all of them with the same options"),
        (1, "finds other scans", "see that data.root has the same files everywhere"),
    ):
        if other[:, column].any():
            named = ", ".join(map(str, np.flatnonzero(other[:, column])))
            raise errors.UserError(
                f"Of {jax.process_count()} processes number {named} {what} than number "
                f"0; {advice}."
            )


def check_held_out(config: ml_collections.ConfigDict, run: str | Path) -> None:
    """Raise a UserError if the cohort that trained a run is now split otherwise.

    People whom the network learned from would be among those that test it.
    """
    before = configuration.saved(run)
    if any(before.data[name] != config.data[name] for name in ("layout", "root")):
        return
    changed = _changes(
        before,
        config,
        lambda name: name in _DECIDE_THE_SPLIT or name.startswith("data.synthetic."),
    )
    if changed:
        raise errors.UserError(
            f"{run} was trained with {changed}, so that people it learned from may be "
            "among those to be tested; evaluate it with the values it was trained with."
        )


def _changes(before, now, matters: Callable[[str], bool]) -> str:
    """The values of some names that differ, as words; empty if none does."""
    return ", ".join(
        f"{name} {old!r} (now {new!r})"
        for name, (old, new) in configuration.differences(before, now).items()
        if matters(name)
    )


def first_state(
    config: ml_collections.ConfigDict,
    network: models.Network,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    saved: checkpoint.Checkpoints,
) -> tuple[step.TrainState, int]:
    """The state to go on from, and the steps it has behind it.

    In this order: the run's own newest checkpoint that can be used; the best
    parameters of the run that `optim.start_from` names; those drawn from the seed.
    """
    state = step.create_state(config, network, optimizer, mesh)
    if (found := saved.resume(state)) is not None:
        _logger.info("Going on after step %d of %s.", found[1], config.workdir)
        return found
    if config.optim.start_from:
        params, _ = _best_params(config.optim.start_from, state.params)
        _logger.info("Starting from the parameters of %s.", config.optim.start_from)
        state = state._replace(params=params)
    return state, 0


class Trained(NamedTuple):
    """A network as its training left it, what to call it, and when that was."""

    name: str
    network: models.Network
    params: Any
    origin: str


def trained_network(run: str | Path, *, newest: bool = False) -> Trained:
    """The network of a run with the parameters of its best checkpoint, or the newest.

    Raises:
        UserError: no such run, or no checkpoint in it.
    """
    config = configuration.saved(run)
    network = models.create(config)
    # Placed anew: the devices that trained them may not be there.
    here = SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
        parameter_shapes(config, network),
    )
    params, step = _best_params(run, like, newest=newest)
    name = f"{_kind(config)} ({config.loss.name.upper()})"
    if config.optim.start_from:
        name += ", fine-tuned"
    return Trained(name, network, params, f"step {step}")


def imported_network(config: ml_collections.ConfigDict, weights: Path) -> Trained:
    """The network of `config.model` with the weights that PyTorch wrote.

    The first axis of a volume, x in RAS+, is PyTorch's depth, as in programs that hand
    over arrays as nibabel reads them. Whom the network learned from is not known here.

    Raises:
        UserError: a file that is none of weights, or whose network is another one.
    """
    model = ml_collections.ConfigDict(config.model.to_dict())
    model.torch_coordinates = True
    params = import_torch.load(weights, model)
    origin = "weights of PyTorch, trained on people who are not known"
    return Trained(f"{_kind(config)} (PyTorch)", models.create(model), params, origin)


def _kind(config: ml_collections.ConfigDict) -> str:
    if config.model.name == "keymorph":
        return "KeyMorph"
    return "C2FViT" if config.model.dilated_form == "none" else "MDViT"


def parameter_shapes(config: ml_collections.ConfigDict, network: models.Network):
    """The tree of parameters as shapes; nothing is computed."""
    volume = jax.ShapeDtypeStruct((1, *[config.data.size] * 3), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), volume, volume)


def _best_params(run: str | Path, like, *, newest: bool = False) -> tuple[Any, int]:
    """Parameters of a run's best checkpoint by validation DSC, placed as `like` is."""
    configuration.saved(run)
    with checkpoint.Checkpoints(run, keep=None) as saved:
        if (best := saved.latest if newest else saved.best) is None:
            raise errors.UserError(
                f"{run} holds no checkpoint yet; train it first, or name another run."
            )
        return saved.load_params(best, like), best
