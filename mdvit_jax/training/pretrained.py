"""Trained networks: to evaluate, to register with, or to start training from.

A run is the folder that training wrote, or the name of a network of this package:
"pretrained" (MDViT) or "pretrained-keymorph".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import SingleDeviceSharding

from mdvit_jax import errors, geometry, models
from mdvit_jax.config import read_config
from mdvit_jax.data import conform
from mdvit_jax.evaluation import methods
from mdvit_jax.io.image import Image
from mdvit_jax.models import import_torch
from mdvit_jax.models.weights_file import PRETRAINED
from mdvit_jax.training import checkpoint

# model.name → what a network is called, except C2FViT and MDViT, which share one.
_NAMES = {"dlir": "DLIR", "pasta": "PASTA", "keymorph": "KeyMorph"}
# Network of this package → where its model is described.
_CONFIGURATIONS = {
    "mdvit": "configs/anything.py",
    "keymorph": "configs/anything_keymorph.py",
}


class Trained(NamedTuple):
    """A trained network.

    Attributes:
        name: its name in tables and reports.
        network, params: the network and its parameters.
        origin: where the parameters come from, in words.
        size, field_of_view: of its input volumes along each axis, in voxels and mm.
    """

    name: str
    network: models.Network
    params: Any
    origin: str
    size: int
    field_of_view: float


def is_pretrained(run: str | Path) -> bool:
    """Whether this names a network of this package, not a run."""
    return str(run) in PRETRAINED


def trained_network(run: str | Path, *, newest: bool = False) -> Trained:
    """The network of a run with the parameters of its best checkpoint, or the newest.

    Raises:
        UserError: no such run, or no checkpoint in it.
    """
    if is_pretrained(run):
        weights = models.pretrained(PRETRAINED[str(run)])
        return Trained(
            f"{_architecture(weights.network.module.config)} ({run})",
            weights.network,
            weights.params,
            weights.about,
            weights.size,
            weights.field_of_view,
        )
    config = read_config(run)
    data = config.data
    network = models.create(config)
    place = SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        parameter_shapes(config, network),
    )
    params, step = load_best_params(run, like, newest=newest)
    name = f"{_architecture(config.model)} ({config.loss.name.upper()})"
    if config.optim.start_from:
        name += ", fine-tuned"
    return Trained(name, network, params, f"step {step}", data.size, data.field_of_view)


def imported_network(config: ml_collections.ConfigDict, weights: Path) -> Trained:
    """The network of `config.model` with weights from PyTorch.

    The first axis of a volume, x in RAS+, is PyTorch's depth, as in programs that pass
    on arrays in nibabel's order. The people that the network learned from are unknown.

    Args:
        config: the whole configuration.
        weights: path of the file (`import_torch.load`).

    Raises:
        UserError: a file that holds no weights, or those of another network.
    """
    model = ml_collections.ConfigDict(config.model.to_dict())
    model.torch_coordinates = True
    params = import_torch.load(weights, model)
    origin = "weights of PyTorch, trained on people who are not known"
    name = f"{_architecture(config.model)} (PyTorch)"
    data = config.data
    return Trained(
        name, models.create(model), params, origin, data.size, data.field_of_view
    )


class Estimate(NamedTuple):
    """A network's estimate for a pair of scans.

    Attributes:
        matrix: 4×4 float64 fixed → moving, world RAS+ mm.
        network: name and origin of the network, in words.
    """

    matrix: np.ndarray
    network: str


def estimate(
    run: str | Path, pair: Sequence[Image], names: tuple[str, str]
) -> Estimate:
    """Align two scans by the network of a run, conformed to its grid.

    Args:
        run: folder that training wrote, or a name of `PRETRAINED`.
        pair: the fixed and the moving scan.
        names: names of the two in messages.

    Raises:
        UserError: no such run, no checkpoint in it, or a scan that it cannot take.
    """
    trained = trained_network(run)
    scans = [
        conform.conform(
            volume, None, None,
            size=trained.size, field_of_view=trained.field_of_view, name=name,
        )
        for volume, name in zip(pair, names, strict=True)
    ]  # fmt: skip
    fixed, moving = (
        geometry.normalised_to_world(scan.image.shape, scan.to_world) for scan in scans
    )
    normalised = methods.aligner(trained.network, trained.params)(*scans)
    matrix = geometry.in_world(normalised, fixed=fixed, moving=moving)
    return Estimate(matrix, f"{trained.name}, {trained.origin}")


def load_start(run: str | Path, like: Any) -> Any:
    """Parameters that training starts from, on the devices of `like`.

    Args:
        run: folder that training wrote, of its best checkpoint; or a name of
            `PRETRAINED`.
        like: tree of arrays, or of their shapes with sharding.

    Raises:
        UserError: no such run, or its network is another one.
    """
    if not is_pretrained(run):
        return load_best_params(run, like)[0]
    name = PRETRAINED[str(run)]
    params = models.pretrained(name).params
    shapes, expected = (jax.tree.map(np.shape, tree) for tree in (params, like))
    if shapes != expected:
        raise errors.UserError(
            f'optim.start_from is "{run}", whose network is the one of '
            f"{_CONFIGURATIONS[name]}; take its values of model, or start from a run."
        )
    # From NumPy, so that the devices of several processes may share them.
    return jax.tree.map(
        lambda value, leaf: jax.device_put(np.asarray(value), leaf.sharding),
        params,
        like,
    )


def load_best_params(
    run: str | Path, like: Any, *, newest: bool = False
) -> tuple[Any, int]:
    """Parameters of a run's best checkpoint by validation DSC, and its step.

    Args:
        run: folder that training wrote.
        like: tree of arrays, or of their shapes with sharding; the parameters get the
            same places.
        newest: take the newest checkpoint instead.

    Raises:
        UserError: no such run, no checkpoint in it, or a damaged one.
    """
    read_config(run)
    with checkpoint.Checkpoints(run, keep=None) as saved:
        if (best := saved.latest if newest else saved.best) is None:
            raise errors.UserError(
                f"{run} holds no checkpoint yet; train it first, or name another run."
            )
        return saved.load_params(best, like), best


def parameter_shapes(config: ml_collections.ConfigDict, network: models.Network) -> Any:
    """The tree of a network's parameters as shapes; nothing is computed."""
    volume = jax.ShapeDtypeStruct((1, *[config.data.size] * 3), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), volume, volume)


def _architecture(
    model: ml_collections.ConfigDict | ml_collections.FrozenConfigDict,
) -> str:
    if model.name in _NAMES:
        return _NAMES[model.name]
    return "C2FViT" if model.dilated_form == "none" else "MDViT"
