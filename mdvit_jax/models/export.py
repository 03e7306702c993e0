"""A trained network as one file that JAX (with flatbuffers) runs without this package.

It holds the parameters and the compiled form's source (StableHLO) for several kinds of
devices, as `jax.export` writes it:

    from jax import export
    network = export.deserialize(open("network.jax", "rb").read())
    matrix = network.call(fixed, moving)  # float32 [1, n, n, n] each → [1, 4, 4]
"""

import jax
import jax.numpy as jnp
from jax import export as jax_export

from mdvit_jax.geometry import forms
from mdvit_jax.models import network

PLATFORMS = ("cpu", "cuda", "tpu")


def exported(net: network.Network, params: network.Params, size: int) -> bytes:
    """The network from the centres of mass on, as the bytes of a file.

    Args:
        net: made by `network.create`.
        params: its parameters, which become part of the file.
        size: of the volumes, cubes of n voxels, RAS+, in [0, 1].

    Returns:
        Bytes for `jax.export.deserialize`. The function in them takes (fixed, moving),
        float32 [1, n, n, n] each, and gives `fixed_to_moving`, float32 [1, 4, 4], in
        coordinates in which a volume spans [-1, 1] from edge to edge.
    """

    def estimate(fixed, moving):
        return net.from_centres(params, fixed, moving).matrix

    volume = jax.ShapeDtypeStruct((1, *[size] * 3), jnp.float32)
    with forms.tracing_for("cpu"):  # those of others may run nowhere else
        made = jax_export.export(jax.jit(estimate), platforms=PLATFORMS)(volume, volume)
    return bytes(made.serialize())
