"""Convolutional streams, of which DLIR, PASTA and KeyMorph are made.

Features are float32 [batch, x, y, z, channels]; a dtype is that of matrix products.
Instance norm, as batch statistics do not go with pure functions of a pair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from mdvit_jax.models.ops import convolution, dropout

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

SLOPE = 0.01  # of the leaky ReLU below 0


class Convolution(nn.Module):
    """Dense 3×3×3 convolution; instance norms take a bias away."""

    channels: int
    dtype: jnp.dtype
    use_bias: bool = False
    stride: int = 1

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch x y z inputs"]
    ) -> Float[Array, "batch px py pz channels"]:
        """[batch, x, y, z, in] → [batch, x/stride, y/stride, z/stride, channels]."""
        shape = (3, 3, 3, features.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.zeros, shape)
        if self.stride == 1:
            convolved = convolution.same(self.dtype, features, kernel)
        else:
            convolved = convolution.strided(features, kernel, stride=self.stride)
        if self.use_bias:
            convolved += self.param("bias", nn.initializers.zeros, (self.channels,))
        return convolved


def normalise(
    features: Float[Array, "batch x y z channels"],
) -> Float[Array, "batch x y z channels"]:
    """Mean 0 and variance 1 of each channel of each volume (instance norm)."""
    mean = features.mean((1, 2, 3), keepdims=True)
    variance = ((features - mean) ** 2).mean((1, 2, 3), keepdims=True)
    return (features - mean) * jax.lax.rsqrt(variance + 1e-5)


class Block(nn.Module):
    """Twice convolution → norm → leaky ReLU → dropout; then a 2×2×2 mean pooling."""

    channels: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "batch x y z inputs"],
        dropout_keys: Shaped[Array, " batch"] | None,
    ) -> Float[Array, "batch px py pz channels"]:
        """[batch, x, y, z, in] → [batch, x/2, y/2, z/2, channels]."""
        for number in (1, 2):
            layer = Convolution(self.channels, self.dtype, name=f"convolution_{number}")
            features = nn.leaky_relu(normalise(layer(features)), SLOPE)
            drop = dropout.Dropout(self.dropout, name=f"dropout_{number}")
            features = drop(features, dropout_keys)
        return nn.avg_pool(features, (2, 2, 2), strides=(2, 2, 2))


class Regressor(nn.Module):
    """Linear with a bias, in float32, whose weights start at 0 (`initial_weights`)."""

    outputs: int

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch inputs"]
    ) -> Float[Array, "batch outputs"]:
        """[batch, inputs] → [batch, outputs]."""
        # By default accelerators round the factors of products.
        layer = nn.Dense(self.outputs, precision="highest", name="regressor")
        return layer(features)
