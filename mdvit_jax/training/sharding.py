"""How a training step is spread over devices, of one process or of many.

The devices are a grid `data` × `model`. Pairs are shared out along `data`; parameters
are copied, but for the token form's largest weights, which `model` shares out.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mdvit_jax import errors

DATA = "data"  # the mesh axis along which the pairs of a batch are shared out
MODEL = "model"  # the one along which the largest weights are
# 105 million of the token form's weights a stage: [3, tokens in, tokens] in msda.py.
_SHARED_WEIGHTS = "msda/compress/kernel"


def create_mesh(batch: int, *, model: int = 1, accumulate: int = 1) -> Mesh:
    """All devices of all processes, `model` beside each other, as `data` × `model`.

    Args:
        batch: pairs in one step.
        model: devices that share the largest weights.
        accumulate: micro-steps in one step.

    Raises:
        UserError: the devices or the batch cannot be shared out evenly.
    """
    # In the order of the processes, so that each has neighbouring rows of a batch.
    devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    local = jax.local_device_count()
    if len(devices) % model or (local % model and model % local):
        raise errors.UserError(
            f"mesh.model is {model}, which does not fit {len(devices)} devices, "
            f"{local} in a process; make it a divisor of {local}."
        )
    rows = len(devices) // model
    if batch % (rows * accumulate):
        micro_steps = f" in {accumulate} micro-steps" if accumulate > 1 else ""
        raise errors.UserError(
            f"optim.batch is {batch}, which {rows} devices{micro_steps} cannot share "
            f"evenly; make it a multiple of {rows * accumulate}."
        )
    # The axis type is named because JAX's default has changed between releases.
    grid = np.array(devices).reshape(rows, model)
    return Mesh(grid, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that each device has a copy of."""
    return NamedSharding(mesh, PartitionSpec())


def by_pair(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays whose first axis, the pairs, is shared out."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def state_sharding(mesh: Mesh, shapes: Any) -> Any:
    """The tree of shardings for a training state, or a part of it.

    Args:
        mesh: the devices.
        shapes: tree of arrays or of their shapes.

    Raises:
        UserError: `model` devices with nothing to share, or not evenly.
    """
    model, shared = mesh.shape[MODEL], []

    def place(path, leaf) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if model == 1 or len(leaf.shape) != 3 or not name.endswith(_SHARED_WEIGHTS):
            return replicated(mesh)
        shared.append(leaf.shape[-1])
        return NamedSharding(mesh, PartitionSpec(None, None, MODEL))

    placed = jax.tree_util.tree_map_with_path(place, shapes)
    if model > 1 and (not shared or any(tokens % model for tokens in shared)):
        has = f"that of {shared[0]} tokens" if shared else "none"
        raise errors.UserError(
            f"mesh.model is {model}, but the weights to be shared, those of "
            f'model.dilated_form "tokens", are {has}; set mesh.model to 1'
            + (", or to a divisor of that." if shared else ".")
        )
    return placed


def rows_of_process(mesh: Mesh) -> tuple[int, int]:
    """Which part of a batch this process loads, and how many parts there are."""
    owners = [{device.process_index for device in row} for row in mesh.devices]
    mine = [i for i, row in enumerate(owners) if jax.process_index() in row]
    return mine[0] // len(mine), len(owners) // len(mine)


def to_devices(mesh: Mesh, rows: np.ndarray) -> jax.Array:
    """This process's rows of a global batch [rows, …] as one global array."""
    shape = (rows.shape[0] * rows_of_process(mesh)[1], *rows.shape[1:])
    return jax.make_array_from_process_local_data(by_pair(mesh), rows, shape)


def on_one_device(mesh: Mesh, tree: Any) -> Any:
    """The whole tree on one of this process's devices, to compute with it alone.

    All processes must call it together.
    """
    whole = _copy_to_all(mesh)(tree)
    return jax.tree.map(lambda array: array.addressable_data(0), whole)


@functools.cache  # a new function would be compiled anew
def _copy_to_all(mesh: Mesh) -> Callable[[Any], Any]:
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))
