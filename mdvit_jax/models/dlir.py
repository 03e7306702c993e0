"""DLIR: the 12 affine parameters from one convolutional stream on each volume.

The affine part of de Vos et al. (MedIA 2019). Both volumes go through the same blocks
of convolutions, each with a pooling, and are averaged over what positions are left, so
that any size works. A linear layer takes the two vectors, one behind the other, to
translation, rotation, shear and scale, and starts at the identity.

Ours: instance norm for batch norm, and a tanh, which keeps the parameters in the range
of `geometry.affine_matrix`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import FrozenConfigDict

from mdvit_jax import geometry
from mdvit_jax.models import streams
from mdvit_jax.models.mdvit import AffineEstimate, single_stage

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

_SATURATED = 0.999  # from here on next to no gradient passes the tanh


class Dlir(nn.Module):
    """The shared stream and the linear layer."""

    config: FrozenConfigDict

    @nn.compact
    def __call__(
        self,
        fixed: Float[Array, "batch x y z"],
        moving: Float[Array, "batch x y z"],
        initial: Float[Array, "batch 4 4"] | None,
        dropout_keys: Shaped[Array, " batch"] | None,
    ) -> AffineEstimate:
        """As `network.Network.apply`; there is one stage.

        `active` says which of the 12 parameters are not saturated.
        """
        config, dtype = self.config, jnp.dtype(self.config.compute_dtype)
        seen = moving if initial is None else geometry.warp_affine(moving, initial)
        # The two volumes of a pair are two of a batch to the stream.
        features = jnp.concatenate([fixed, seen])[..., None]
        if dropout_keys is not None:
            others = jax.vmap(jax.random.fold_in, (0, None))(dropout_keys, 1)
            dropout_keys = jnp.concatenate([dropout_keys, others])
        for number, channels in enumerate(config.channels, 1):
            block = streams.Block(
                channels, config.dropout, dtype, name=f"block_{number}"
            )
            features = block(features, dropout_keys)
        pooled = features.mean((1, 2, 3), dtype=jnp.float32)
        both = jnp.concatenate(jnp.split(pooled, 2), axis=-1)
        twelve = jnp.tanh(streams.Regressor(12, name="affine")(both))
        centre = geometry.centre_of_mass(seen)
        matrix = geometry.affine_matrix(twelve, centre=centre)
        return single_stage(
            twelve, matrix, moving, initial, jnp.abs(twelve) < _SATURATED
        )
