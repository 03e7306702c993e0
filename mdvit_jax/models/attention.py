"""Multi-head self-attention over all positions of a feature volume."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array


def attend(query: Array, key: Array, value: Array) -> Array:
    """softmax(Q Kᵀ / √d) V, [batch, heads, tokens, d] each.

    The softmax is computed in float32 whatever the dtype.
    """
    scale = query.shape[-1] ** -0.5
    scores = jnp.einsum(
        "bhqd,bhkd->bhqk", query * scale, key, preferred_element_type=jnp.float32
    )
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("bhqk,bhkd->bhqd", weights, value)


class Attention(nn.Module):
    """Self-attention of features [batch, x, y, z, channels], without a norm.

    The maps to queries, keys and values have no bias, the output projection has one.
    """

    heads: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, features: Array, deterministic: bool) -> Array:
        batch, *grid, channels = features.shape
        tokens = features.reshape(batch, -1, channels)

        def heads_of(name: str) -> Array:
            mapped = nn.Dense(
                channels,
                use_bias=False,
                dtype=self.dtype,
                name=name,
            )(tokens)
            split = mapped.reshape(batch, -1, self.heads, channels // self.heads)
            return split.transpose(0, 2, 1, 3)

        attended = attend(heads_of("query"), heads_of("key"), heads_of("value"))
        joined = attended.transpose(0, 2, 1, 3).reshape(features.shape)
        projected = nn.Dense(
            channels,
            dtype=self.dtype,
            name="projection",
        )(joined)
        return nn.Dropout(self.dropout)(projected, deterministic=deterministic)
