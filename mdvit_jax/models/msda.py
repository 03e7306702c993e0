"""Multi-scale dilated attention (MSDA; paper, section 2 and Fig. 2a).

Features seen through receptive fields of 3, 5 and 7 positions are joined, compressed
and added to the input:

    x + GELU(LN(compress(concat_r GELU(depthwise_r(LN(x))))))

The paper says "concatenating all different dilated features along the channel axis
may lead to large and redundant feature maps, so we apply a 1D convolution to compress
the feature maps". Its authors' program does something else; both are here.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from mdvit_jax.models import blocks


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
    def __call__(self, features: Array) -> Array:
        normed = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(features)
        scales = [
            blocks.gelu(
                blocks.DepthwiseConvolution(
                    dilation, dtype=self.dtype, name=f"dilated_{i}"
                )(normed)
            )
            for i, dilation in enumerate(self.dilations, start=1)
        ]
        compressed = nn.Dense(
            features.shape[-1],
            dtype=self.dtype,
            name="compress",
        )(jnp.concatenate(scales, axis=-1))
        normed = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="compressed_norm")(
            compressed
        )
        return features + blocks.gelu(normed)


class TokenMsda(nn.Module):
    """The authors' program's form, for importing its weights.

    The dilated convolutions are padded by one whatever their dilation, so that their
    outputs shrink; their positions (tokens) are joined, and a convolution that takes
    tokens as channels slides along the embedding (window 3) to bring the tokens back
    to as many as there were. Both norms are one. The weights, 105 million for 16³
    tokens, fit one input size.
    """

    dilations: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, features: Array) -> Array:
        batch, *grid, channels = features.shape
        norm = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")
        normed = norm(features)
        scales = [
            blocks.gelu(
                blocks.DepthwiseConvolution(
                    dilation, padding=1, dtype=self.dtype, name=f"dilated_{i}"
                )(normed)
            ).reshape(batch, -1, channels)
            for i, dilation in enumerate(self.dilations, start=1)
        ]
        compressed = _TokenCompression(features.size // (batch * channels), self.dtype)
        tokens = compressed(jnp.concatenate(scales, axis=1))
        return features + blocks.gelu(norm(tokens.reshape(features.shape)))


class _TokenCompression(nn.Module):
    """[batch, tokens in, channels] → [batch, tokens, channels], window 3 in channels."""

    tokens: int
    dtype: jnp.dtype
    name: str | None = "compress"

    @nn.compact
    def __call__(self, features: Array) -> Array:
        shape = (3, features.shape[1], self.tokens)
        kernel = self.param("kernel", nn.initializers.zeros, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.tokens,), jnp.float32)
        compressed = lax.conv_general_dilated(
            features.astype(self.dtype),
            kernel.astype(self.dtype),
            window_strides=(1,),
            padding="SAME",
            dimension_numbers=("NCW", "WIO", "NCW"),
        )
        return compressed + bias.astype(self.dtype)[:, None]
