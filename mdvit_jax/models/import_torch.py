"""Weights of C2FViT and MDViT from their PyTorch state dicts, with nothing left over.

The names are those of the authors' programs. Set `model.torch_coordinates`, and lay
volumes out as PyTorch has them (depth, height, width): the weights were trained so.
"""

import zipfile
from pathlib import Path
from pickle import PickleError
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from mdvit_jax import errors
from mdvit_jax.models import network

# Our layers within a stage → theirs; {i} is the stage.
_STAGE_NAMES = {
    "patch_embedding": "patch_embed_{i}_xy.proj",
    "head/hidden": "head_{i}.0",
    "head/parameters": "head_{i}.2",
    "msda/norm": "stage_{i}.0.norm1",
    "msda/compress": "stage_{i}.0.conv_1d.0",
    "msda/compressed_norm": "stage_{i}.0.conv_1d.1",
}
# Our layers within a block → theirs. Keys and values are one layer there.
_BLOCK_NAMES = {
    "attention/query": "attn.q",
    "attention/key": "attn.kv",
    "attention/value": "attn.kv",
    "attention/projection": "attn.proj",
    "mlp/expand": "mlp.fc1",
    "mlp/depthwise": "mlp.dwconv.dwconv",
    "mlp/project": "mlp.fc2",
}


def load(path: str | Path, config: ConfigDict) -> network.Params:
    """Parameters for `models.create(config)` from a file of PyTorch weights.

    Args:
        path: `.npz` whose keys are the state dict's names (or `weights/` and the
            name), or `.pt`, `.pth` where PyTorch is installed. A state dict nested
            under "model" or "state_dict", and names that start with "module.", are
            understood.
        config: the whole configuration or its `model` part.

    Raises:
        UserError: no such file, an unknown format, or a weight that is missing, left
            over or of another shape than the configuration asks for.
    """
    path = Path(path)
    return convert(_read(path), config, origin=str(path))


def convert(
    state: dict[str, np.ndarray], config: ConfigDict, *, origin: str = "state dict"
) -> network.Params:
    """`load` for a state dict in memory.

    Args:
        state: PyTorch's name → NumPy array.
        config: as in `load`.
        origin: name of the state dict in messages.

    Raises:
        UserError: weights of another network.
    """
    net = network.create(config)
    model = net.module.config
    volume = jax.ShapeDtypeStruct((1, *_input_shape(state, model)), jnp.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), volume, volume)
    remaining = dict(state)
    params = {}
    for ours, leaf in traverse_util.flatten_dict(shapes, sep="/").items():
        theirs = _name(ours, blocks_from=0 if model.dilated_form == "none" else 1)
        if theirs not in state:
            raise errors.UserError(
                f'{origin} has no weight "{theirs}"; is it of a network like this '
                f"configuration's ({_summary(model)})?"
            )
        expected = _torch_shape(ours, leaf.shape)
        if state[theirs].shape != expected:
            raise errors.UserError(
                f'{origin}: "{theirs}" has the shape {state[theirs].shape}, but this '
                f"configuration ({_summary(model)}) needs {expected}."
            )
        params[ours] = jnp.asarray(_from_torch(ours, state[theirs], leaf.shape))
        remaining.pop(theirs, None)
    _check_remaining(remaining, state, model, origin)
    return traverse_util.unflatten_dict(params, sep="/")


def _name(ours: str, *, blocks_from: int) -> str:
    """Their name of our parameter, stage_1/block_2/mlp/expand/kernel for instance."""
    layer, leaf = ours.rsplit("/", 1)
    leaf = "bias" if leaf == "bias" else "weight"
    if layer.startswith("squeeze_"):
        return f"{layer}.{leaf}"
    stage, layer = layer.removeprefix("stage_").split("/", 1)
    if layer.startswith("block_"):
        number, layer = layer.removeprefix("block_").split("/", 1)
        block = int(number) - 1 + blocks_from
        return f"stage_{stage}.{block}.{_BLOCK_NAMES[layer]}.{leaf}"
    if layer.startswith("msda/dilated_"):
        scale = layer.removeprefix("msda/dilated_")
        return f"stage_{stage}.0.d_conv_{scale}.dwconv.{leaf}"
    return f"{_STAGE_NAMES[layer].format(i=stage)}.{leaf}"


def _torch_shape(ours: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of their weight for our parameter: outputs first, then inputs, window."""
    match shape:
        case (channels,):
            return (channels,)
        case (inputs, outputs) if "msda/compress/" in ours:
            return (outputs, inputs, 1)
        case (inputs, outputs) if "attention/key" in ours or "attention/value" in ours:
            return (2 * outputs, inputs)
        case (inputs, outputs):
            return (outputs, inputs)
        case (*window, channels) if "depthwise" in ours or "dilated" in ours:
            return (channels, 1, *window)
        case (*window, inputs, outputs):
            return (outputs, inputs, *window)
    raise AssertionError(ours)


def _from_torch(ours: str, weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Their weight in our layout: window first, then inputs, outputs."""
    if "attention/key" in ours:
        weight = weight[: len(weight) // 2]
    elif "attention/value" in ours:
        weight = weight[len(weight) // 2 :]
    if weight.ndim > 1:
        weight = np.moveaxis(weight, (1, 0), (-2, -1))
    return weight.reshape(shape).astype(np.float32)


def _input_shape(state: dict[str, np.ndarray], model) -> tuple[int, int, int]:
    """A size of the volumes that the weights fit: the token form fits one cube only."""
    side = 2 * max(model.dilations)
    weight = state.get("stage_1.0.conv_1d.0.weight")
    if model.dilated_form == "tokens" and weight is not None:
        side = round(len(weight) ** (1 / 3))
    return (side * network.token_spacing(model),) * 3


def _check_remaining(remaining, state, model, origin: str) -> None:
    """Refuse unused weights, except a second copy of the shared norm."""
    for name, weight in remaining.items():
        twin = state.get(name.replace("conv_1d.1", "norm1"))
        if model.dilated_form != "tokens" or "conv_1d.1" not in name or twin is None:
            raise errors.UserError(
                f'{origin} holds "{name}", which a network of this configuration '
                f"({_summary(model)}) does not have."
            )
        if not np.array_equal(weight, twin):
            raise errors.UserError(
                f'{origin}: "{name}" differs from the norm before the dilated '
                "convolutions, but the two are one in the program's form."
            )


def _summary(model) -> str:
    return (
        f"dilated_form {model.dilated_form}, embedding {model.embedding}, "
        f"depth {model.depth}, {len(model.patches)} stages"
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise errors.UserError(f"There is no weight file {path}.")
    if path.suffix == ".npz":
        state = _read_npz(path)
        # Weights under this prefix may lie beside other arrays.
        weights = {k: v for k, v in state.items() if k.startswith("weights/")}
        return _without("module.", _without("weights/", weights or state))
    if path.suffix in (".pt", ".pth"):
        return _without("module.", _read_torch(path))
    raise errors.UserError(
        f"{path} is not a weight file that can be read; give a .npz, .pt or .pth file."
    )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise errors.UserError(
            f"{path} is damaged or not a .npz file: {error}"
        ) from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise errors.UserError(
            f"{path} can only be read with PyTorch; install torch, or save the state "
            "dict as .npz with numpy.savez."
        ) from None
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        # A training checkpoint holds the weights beside its epoch and optimiser.
        for key in ("model", "state_dict", "model_state_dict"):
            if isinstance(content.get(key), dict):
                content = content[key]
        return {k: tensor.detach().float().numpy() for k, tensor in content.items()}
    except (OSError, EOFError, RuntimeError, AttributeError, PickleError) as error:
        raise errors.UserError(
            f"{path} is damaged or holds no state dict of tensors: {error}"
        ) from error


def _without(prefix: str, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights under their names less the prefix, if all have it."""
    if not all(name.startswith(prefix) for name in state):
        return state
    return {name.removeprefix(prefix): value for name, value in state.items()}
