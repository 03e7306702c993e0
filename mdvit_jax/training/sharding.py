"""How a training step is spread over devices: pairs are shared out, weights copied."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mdvit_jax import errors

DATA = "data"  # the mesh axis along which the pairs of a batch are shared out


def create_mesh(batch: int) -> Mesh:
    """All devices along the axis `data`.

    Raises:
        UserError: the batch cannot be shared out evenly.
    """
    devices = jax.device_count()
    if batch % devices:
        raise errors.UserError(
            f"optim.batch is {batch}, which {devices} devices cannot share evenly; "
            f"make it a multiple of {devices}."
        )
    # The axis type is named because JAX's default has changed between releases.
    return jax.make_mesh((devices,), (DATA,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def by_pair(mesh: Mesh) -> NamedSharding:
    """The first axis, the pairs, shared out."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def to_devices(mesh: Mesh, rows: np.ndarray) -> jax.Array:
    """This process's rows of a global batch [rows, …] as one global array."""
    return jax.make_array_from_process_local_data(by_pair(mesh), rows)
