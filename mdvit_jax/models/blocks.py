"""The parts of a stage around the attention.

Features are float32 [batch, x, y, z, channels]; a dtype is that of matrix products.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from mdvit_jax import geometry
from mdvit_jax.models.ops import attention, convolution, dense, dropout

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped

# Below it the slope of the GELU is less than a hundredth, and stays so further down.
_GELU_OFF = -3.0


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact x · Φ(x), Φ the normal distribution function.

    With erf rather than the erfc of `jax.nn.gelu`, which has branches.
    """
    return x * (0.5 * (1 + jax.lax.erf(x * 2**-0.5)))


class DepthwiseConvolution(nn.Module):
    """Depthwise 3×3×3 convolution without bias (`convolution.depthwise`)."""

    dilation: int = 1
    padding: int | None = None

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch x y z channels"]
    ) -> Float[Array, "batch px py pz channels"]:
        """[batch, x, y, z, channels] → the same, or smaller with a small `padding`."""
        shape = (3, 3, 3, features.shape[-1])
        kernel = self.param("kernel", nn.initializers.zeros, shape)
        return convolution.depthwise(
            features, kernel, dilation=self.dilation, padding=self.padding
        )


class PatchEmbedding(nn.Module):
    """Overlapping patches of an image pair, embedded by a strided convolution."""

    embedding: int
    patch: int
    stride: int

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch x y z images"]
    ) -> Float[Array, "batch px py pz embedding"]:
        """[batch, x, y, z, 2] → [batch, x/stride, y/stride, z/stride, embedding]."""
        shape = (*(self.patch,) * 3, images.shape[-1], self.embedding)
        kernel = self.param("kernel", nn.initializers.zeros, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.embedding,))
        return gelu(convolution.strided(images, kernel, stride=self.stride) + bias)


class Squeeze(nn.Module):
    """3×3×3 convolution of a stage's features on their way to the next stage."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch x y z channels"]
    ) -> Float[Array, "batch x y z channels"]:
        """[batch, x, y, z, channels] → the same shape."""
        channels = features.shape[-1]
        shape = (3, 3, 3, channels, channels)
        kernel = self.param("kernel", nn.initializers.zeros, shape)
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        return convolution.same(self.dtype, features, kernel) + bias


class Mlp(nn.Module):
    """Linear → GELU → depthwise convolution → GELU → linear."""

    ratio: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "batch x y z channels"],
        dropout_keys: Shaped[Array, " batch"] | None,
    ) -> Float[Array, "batch x y z channels"]:
        """[batch, x, y, z, channels] → the same shape."""
        channels = features.shape[-1]
        drop_hidden = dropout.Dropout(self.dropout, name="hidden_dropout")
        drop = dropout.Dropout(self.dropout, name="dropout")
        expand = dense.Dense(channels * self.ratio, self.dtype, name="expand")
        depthwise = DepthwiseConvolution(name="depthwise")
        project = dense.Dense(channels, self.dtype, name="project")
        hidden = gelu(depthwise(gelu(expand(features))))
        return drop(project(drop_hidden(hidden, dropout_keys)), dropout_keys)


class Block(nn.Module):
    """Transformer block without norms: x + attention(x), then x + MLP(x)."""

    heads: int
    mlp_ratio: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "batch x y z channels"],
        dropout_keys: Shaped[Array, " batch"] | None,
    ) -> Float[Array, "batch x y z channels"]:
        """[batch, x, y, z, channels] → the same shape."""
        attend = attention.Attention(
            self.heads, self.dropout, self.dtype, name="attention"
        )
        mlp = Mlp(self.mlp_ratio, self.dropout, self.dtype, name="mlp")
        features = features + attend(features, dropout_keys)
        return features + mlp(features, dropout_keys)


class Head(nn.Module):
    """Mean over positions → linear → ReLU → linear → tanh, in float32, no biases.

    The form of the authors' program. A unit whose ReLU is off for every pair no
    longer learns, and the mean loses where a feature was.
    """

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch x y z channels"]
    ) -> tuple[Float[Array, "batch 12"], Bool[Array, "batch units"]]:
        """[batch, x, y, z, channels] → 12 affine parameters, and `active`.

        `active`, bool [batch, units], says which hidden units pass a gradient on.
        """
        width = features.shape[-1] // 2
        mean = features.mean((1, 2, 3), dtype=jnp.float32)
        # By default accelerators round the factors of products.
        exact = functools.partial(nn.Dense, use_bias=False, precision="highest")
        hidden = exact(width, name="hidden")(mean)
        twelve = exact(12, name="parameters")(nn.relu(hidden))
        return jnp.tanh(twelve), hidden > 0


class MomentHead(nn.Module):
    """Mean and first moments → linear → GELU → linear → tanh, in float32, with biases.

    The first moment of a channel, the mean of its product with the normalised
    coordinate along an axis, says where in the volume the channel is high: a shift, a
    scale or a rotation is linear in it.
    """

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch x y z channels"]
    ) -> tuple[Float[Array, "batch 12"], Bool[Array, "batch units"]]:
        """As `Head`; a GELU is off below `_GELU_OFF`."""
        channels = features.shape[-1]
        features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
        mean = features.mean((1, 2, 3))
        moments = [mean]
        for axis in range(3):
            others = tuple(a for a in (1, 2, 3) if a != axis + 1)
            profile = features.mean(others)  # [batch, n, channels]
            centres = geometry.voxel_centres(profile.shape[1])
            moments.append((profile * centres[:, None]).mean(1))
        exact = functools.partial(nn.Dense, precision="highest")
        hidden = exact(channels, name="hidden")(jnp.concatenate(moments, axis=-1))
        twelve = exact(12, name="parameters")(gelu(hidden))
        return jnp.tanh(twelve), hidden > _GELU_OFF
