"""Dropout that is the same however a batch is spread over devices and micro-steps."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped


class Dropout(nn.Module):
    """Zeroes a part of the features, `rate`, and scales the others up.

    Each pair's mask follows from its own key and the layer's name alone; Flax's draws
    one mask for the whole batch, wherever its parts are.
    """

    rate: float

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "batch ..."],
        keys: Shaped[Array, " batch"] | None,
    ) -> Float[Array, "batch ..."]:
        """[batch, …] and a key for each, or None for no dropout → the same shape."""
        if keys is None or not self.rate:
            return features
        layer = zlib.crc32("/".join(self.path).encode())

        def kept(key: Array) -> Array:
            key = jax.random.fold_in(key, layer)
            return jax.random.bernoulli(key, 1 - self.rate, features.shape[1:])

        zero = jnp.zeros((), features.dtype)
        return jnp.where(jax.vmap(kept)(keys), features / (1 - self.rate), zero)
