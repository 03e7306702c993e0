"""The parts of a stage around the attention; features are [batch, x, y, z, channels]."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from mdvit_jax.models import attention, convolution


def gelu(x: Array) -> Array:
    """The exact x · Φ(x) with the normal distribution function Φ."""
    return x * (0.5 * (1 + jax.lax.erf(x * 2**-0.5)))


class DepthwiseConvolution(nn.Module):
    """Depthwise 3×3×3 convolution without bias (`convolution.depthwise`)."""

    dilation: int = 1
    padding: int | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: Array) -> Array:
        kernel = self.param(
            "kernel",
            nn.initializers.zeros,
            (3, 3, 3, features.shape[-1]),
            jnp.float32,
        )
        return convolution.depthwise(
            features.astype(self.dtype),
            kernel.astype(self.dtype),
            dilation=self.dilation,
            padding=self.padding,
        )


class PatchEmbedding(nn.Module):
    """Overlapping patches of an image pair, embedded by a strided convolution and GELU.

    [batch, x, y, z, 2] → [batch, ⌈x/stride⌉, ⌈y/stride⌉, ⌈z/stride⌉, embedding].
    """

    embedding: int
    patch: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: Array) -> Array:
        embedded = nn.Conv(
            self.embedding,
            (self.patch,) * 3,
            strides=self.stride,
            padding=self.patch // 2,
            dtype=self.dtype,
            name="convolution",
        )(images)
        return gelu(embedded)


class Mlp(nn.Module):
    """Linear → GELU → depthwise convolution → GELU → linear."""

    ratio: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, features: Array, deterministic: bool) -> Array:
        channels = features.shape[-1]

        def linear(width: int, name: str) -> nn.Dense:
            return nn.Dense(width, dtype=self.dtype, name=name)

        hidden = gelu(linear(channels * self.ratio, "expand")(features))
        hidden = DepthwiseConvolution(dtype=self.dtype, name="depthwise")(hidden)
        hidden = nn.Dropout(self.dropout)(gelu(hidden), deterministic=deterministic)
        projected = linear(channels, "project")(hidden)
        return nn.Dropout(self.dropout)(projected, deterministic=deterministic)


class Block(nn.Module):
    """Transformer block without norms: x + attention(x), then x + MLP(x)."""

    heads: int
    mlp_ratio: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, features: Array, deterministic: bool) -> Array:
        attended = attention.Attention(
            self.heads, self.dropout, self.dtype, name="attention"
        )
        mlp = Mlp(self.mlp_ratio, self.dropout, self.dtype, name="mlp")
        features = features + attended(features, deterministic)
        return features + mlp(features, deterministic)


class Head(nn.Module):
    """Mean over positions → linear → ReLU → linear → tanh, in float32.

    [batch, x, y, z, channels] → the 12 affine parameters [batch, 12] in (-1, 1).
    """

    @nn.compact
    def __call__(self, features: Array) -> Array:
        def linear(width: int, name: str) -> nn.Dense:
            return nn.Dense(width, use_bias=False, name=name)

        mean = features.mean((1, 2, 3), dtype=jnp.float32)
        hidden = jax.nn.relu(linear(features.shape[-1] // 2, "hidden")(mean))
        return jnp.tanh(linear(12, "parameters")(hidden))
