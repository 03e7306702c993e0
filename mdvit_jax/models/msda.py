"""Multi-scale dilated attention (MSDA; paper, section 2 and Fig. 2a).

Features seen through receptive fields of 3, 5 and 7 positions are joined, compressed
and added to the input, LN being a layer norm over the channels:

    x + GELU(LN(compress(concat_d GELU(depthwise_d(LN(x))))))    d = dilation 1, 2, 3

The paper says "concatenating all different dilated features along the channel axis
may lead to large and redundant feature maps, so we apply a 1D convolution to compress
the feature maps". Its authors' program does something else; both are here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from mdvit_jax.models import blocks
from mdvit_jax.models.ops import dense

if TYPE_CHECKING:
    from jaxtyping import Float


class ChannelMsda(nn.Module):
    """The paper's form, for any size: channels are joined, and compressed 3C → C.

    The 1D convolution runs over the sequence of positions with a window of one, so
    that it compresses channels and nothing else: a wider window would join the end of
    one row of the volume to the start of the next, and neighbours are the dilated
    convolutions' business.
    """

    dilations: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch x y z channels"]
    ) -> Float[Array, "batch x y z channels"]:
        """[batch, x, y, z, channels] → the same shape."""
        normed = _norm("norm")(features)
        joined = jnp.concatenate(
            [blocks.gelu(convolve(normed)) for convolve in _dilated(self.dilations)],
            axis=-1,
        )
        compress = dense.Dense(features.shape[-1], self.dtype, name="compress")
        compressed = _norm("compressed_norm")(compress(joined))
        return features + blocks.gelu(compressed)


class TokenMsda(nn.Module):
    """The authors' program's form, to use its weights.

    The dilated convolutions are padded by one whatever their dilation, so that their
    outputs shrink; their positions ("tokens") are joined, and a convolution that takes
    tokens as channels slides along the embedding (window 3) and brings the tokens back
    to as many as there were. Both norms share their weights. The
    weights fit one input size: at 16³ positions they are 105 million.
    """

    dilations: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch x y z channels"]
    ) -> Float[Array, "batch x y z channels"]:
        """[batch, x, y, z, channels] → the same shape."""
        batch, *_, channels = features.shape
        norm = _norm("norm")
        normed = norm(features)
        joined = jnp.concatenate(
            [
                blocks.gelu(convolve(normed)).reshape(batch, -1, channels)
                for convolve in _dilated(self.dilations, padding=1)
            ],
            axis=1,
        )
        tokens = features.size // (batch * channels)
        compress = _TokenCompression(tokens, self.dtype, name="compress")
        compressed = norm(compress(joined).reshape(features.shape))
        return features + blocks.gelu(compressed)


def joined_tokens(
    grid: tuple[int, int, int], dilations: tuple[int, ...]
) -> tuple[int, int]:
    """How many tokens the token form joins on a grid of positions, and how many remain.

    The smallest output has no positions, or a negative size, on too small a grid.
    """
    x, y, z = grid
    shrinks = [2 * dilation - 2 for dilation in dilations]
    return sum((x - s) * (y - s) * (z - s) for s in shrinks), x * y * z


class _TokenCompression(nn.Module):
    """[batch, tokens in, channels] → [batch, tokens, channels]."""

    tokens: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch joined channels"]
    ) -> Float[Array, "batch tokens channels"]:
        shape = (3, features.shape[1], self.tokens)
        kernel = self.param("kernel", nn.initializers.zeros, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.tokens,))
        compressed = lax.conv_general_dilated(
            _laid_out(features).astype(self.dtype),
            kernel.astype(self.dtype),
            window_strides=(1,),
            padding="SAME",
            dimension_numbers=("NCW", "WIO", "NCW"),
        )
        # Each device makes the tokens of its part of the kernel, then all have all.
        compressed = _laid_out(_laid_out(compressed, None, "model"))
        return compressed.astype(bias.dtype) + bias[:, None]


def _laid_out(features: Array, *axes: str | None) -> Array:
    """Shard the features around a shared kernel by axes of the mesh.

    Without axes each device has all of them, as the convolutions and attention around
    the kernel need. The compiler by itself would split the tokens for those too, or
    gather the whole kernel, which is a hundred times as large.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return features
    return lax.with_sharding_constraint(features, jax.P(*axes))


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, name=name)


def _dilated(dilations: tuple[int, ...], *, padding: int | None = None):
    return [
        blocks.DepthwiseConvolution(dilation, padding, name=f"dilated_{i}")
        for i, dilation in enumerate(dilations, start=1)
    ]
