"""A small U-Net that finds the brain in a head of any contrast: volume → mask.

As SynthStrip (Hoopes et al. 2022) it learns from synthetic heads of random contrasts
alone. It looks at voxels of 4 mm, which is enough to align what it finds; eight of them
are the channels of one position, so that no layer is larger than 32³ positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from mdvit_jax.models import streams
from mdvit_jax.models.ops import convolution

if TYPE_CHECKING:
    from jaxtyping import Float

SIZE, VOXEL = 64, 4.0  # of the volumes, in voxels and mm
_BLOCK = 2  # voxels along each axis that are one position


class BrainExtractor(nn.Module):
    """The network.

    Attributes:
        channels: of the features at each level, finest first; each level has half the
            size of the one before.
    """

    channels: tuple[int, ...] = (24, 48, 96, 96)

    @nn.compact
    def __call__(
        self, volume: Float[Array, "batch x y z"]
    ) -> Float[Array, "batch x y z"]:
        """The logit of the brain's share of each voxel.

        Args:
            volume: [batch, x, y, z] in [0, 1], background 0; each axis a multiple of
                16 voxels.

        Returns:
            [batch, x, y, z]. The sigmoid of it is the share, 0.5 the brain's surface;
            where the field of view cuts the brain, the mask goes on.
        """
        features = _to_channels(volume)
        skipped = []
        for level, channels in enumerate(self.channels):
            if level:
                skipped.append(features)
                features = nn.max_pool(features, (2, 2, 2), strides=(2, 2, 2))
            features = _Layer(channels, name=f"down_{level}_1")(features)
            features = _Layer(channels, name=f"down_{level}_2")(features)
        for level in reversed(range(len(skipped))):
            skip = skipped.pop()
            features = nn.Dense(self.channels[level], name=f"up_{level}_0")(features)
            features = skip + _double(features)
            features = _Layer(self.channels[level], name=f"up_{level}_1")(features)
        return _to_voxels(nn.Dense(_BLOCK**3, name="logits")(features))


class _Layer(nn.Module):
    """Convolution → instance norm → scale and bias → leaky ReLU."""

    channels: int

    @nn.compact
    def __call__(self, features: Array) -> Array:
        shape = (3, 3, 3, features.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        convolved = convolution.same(features.dtype, features, kernel)
        scale = self.param("scale", nn.initializers.ones, (self.channels,))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return nn.leaky_relu(streams.normalise(convolved) * scale + bias, 0.1)


def _double(features: Array) -> Array:
    """Each position becomes 2×2×2."""
    for axis in (1, 2, 3):
        features = jnp.repeat(features, 2, axis)
    return features


def _to_channels(volume: Array) -> Array:
    """[batch, x, y, z] → [batch, x/2, y/2, z/2, 8]."""
    batch, *sizes = volume.shape
    split = [part for size in sizes for part in (size // _BLOCK, _BLOCK)]
    blocks = volume.reshape(batch, *split).transpose(0, 1, 3, 5, 2, 4, 6)
    return blocks.reshape(*blocks.shape[:4], _BLOCK**3)


def _to_voxels(features: Array) -> Array:
    """The inverse of `_to_channels`."""
    batch, *sizes, _ = features.shape
    blocks = features.reshape(batch, *sizes, *(_BLOCK,) * 3)
    blocks = blocks.transpose(0, 1, 4, 2, 5, 3, 6)
    return blocks.reshape(batch, *(size * _BLOCK for size in sizes))


def find_share(params, volume: Float[Array, "x y z"]) -> Float[Array, "x y z"]:
    """The brain's share of each voxel, in [0, 1], by the network of some parameters."""
    logits = BrainExtractor().apply({"params": params}, volume[None])
    return jax.nn.sigmoid(jnp.asarray(logits)[0])
