"""Weights of a network in one safetensors file, with the model of its configuration.

The file's metadata (`io.layer_weights`) hold `model` (JSON, `config.model`), `size` and
`field_of_view` of the volumes that it learned from, and `about`, in words.
"""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
from safetensors import SafetensorError

from mdvit_jax import errors
from mdvit_jax.config import restore
from mdvit_jax.io import layer_weights
from mdvit_jax.models import network

# What commands call the networks of `pretrained` → their names there.
PRETRAINED = {"pretrained": "mdvit", "pretrained-keymorph": "keymorph"}
_FOLDER = Path(__file__).parents[1] / "weights"


class Weights(NamedTuple):
    """What a file holds.

    Attributes:
        network: made from the model part of its configuration.
        params: float32, nested.
        size: voxels along each axis of the volumes.
        field_of_view: in mm along each axis.
        about: where they come from.
    """

    network: network.Network
    params: network.Params
    size: int
    field_of_view: float
    about: str


def pretrained(name: str = "mdvit") -> Weights:
    """A trained network that comes with this package.

    It takes volumes float32 [batch, 32, 32, 32] in [0, 1] of 8 mm, RAS+, background 0:

        weights = models.pretrained()
        estimate = weights.network.from_centres(weights.params, fixed, moving)

    `mdvit_jax/weights/README.md` describes the training and how good they are.

    Args:
        name: "mdvit" or "keymorph".

    Raises:
        ValueError: another name.
    """
    return load(pretrained_file(name))


def pretrained_file(name: str) -> Path:
    """The file of a network of `pretrained`."""
    if name not in PRETRAINED.values():
        names = " or ".join(map(repr, PRETRAINED.values()))
        raise ValueError(f"name is {name!r}; it must be {names}")
    return _FOLDER / f"{name}.safetensors"


def save(
    path: str | Path,
    params: network.Params,
    config: ml_collections.ConfigDict,
    about: str,
) -> None:
    """Write the parameters of a run's network, in float16.

    Args:
        path: of the file.
        params: nested dict.
        config: the run's configuration; its `model` part and the grid are kept.
        about: a sentence.

    Raises:
        OSError: it cannot be written.
    """
    metadata = {
        "model": json.dumps(config.model.to_dict()),
        "size": str(config.data.size),
        "field_of_view": str(config.data.field_of_view),
        "about": about,
    }
    layer_weights.save(path, params, metadata)


def load(path: str | Path) -> Weights:
    """Read the weights that `save` wrote.

    Raises:
        UserError: the file is missing, or holds no weights.
    """
    try:
        loaded, metadata = layer_weights.load(path)
        params = jax.tree.map(jnp.asarray, loaded)
        return Weights(
            network.create(restore({"model": json.loads(metadata["model"])})),
            params,
            int(metadata["size"]),
            float(metadata["field_of_view"]),
            metadata["about"],
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise errors.UserError(
            f"{path} is not a file of a network's weights ({error}); name one that "
            "`mdvit export` wrote as .safetensors."
        ) from error
