"""PASTA: an affine from parameters that each have a head and a range of their own.

Chen X. et al. (MICCAI 2021). Each volume has its own stream of convolutional blocks;
after the deeper ones cross-stitch units let each stream have a part of the other's
features, at first none. Of what is left after pooling, a head for each of translation,
rotation, shear and scale estimates its parameters, each brought into a stated range by
a leaky ReLU that is clipped at 1. The matrix is composed of three translations, three
rotations by their sines, six shears and three scales:

    C · R · H · S · C⁻¹ · T      as `geometry.affine_matrix` but for the order

Ours: instance norm; cross-stitch units that mix channel by channel (in the authors'
program all features of a level, which only small grids allow); 0 lies in the middle of
each range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import FrozenConfigDict

from mdvit_jax import geometry
from mdvit_jax.models import streams
from mdvit_jax.models.mdvit import AffineEstimate, single_stage

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped

# Name of a head → how many parameters it has.
_COUNTS = {"translation": 3, "rotation": 3, "shear": 6, "scale": 3}
# Of the rows and columns of a 3×3 matrix, those off its diagonal.
_OFF_DIAGONAL = np.nonzero(~np.eye(3, dtype=bool))


class CrossStitch(nn.Module):
    """Each of two streams plus a part of the other, channel by channel."""

    @nn.compact
    def __call__(self, first: Array, second: Array) -> tuple[Array, Array]:
        """Two of [batch, x, y, z, channels] → the same shapes; at first unchanged."""
        shape = (2, first.shape[-1])
        own = self.param("scale", nn.initializers.ones, shape)
        other = self.param("bias", nn.initializers.zeros, shape)
        return own[0] * first + other[0] * second, own[1] * second + other[1] * first


class Head(nn.Module):
    """Linear → leaky ReLU → linear, brought into a range."""

    outputs: int
    limit: float

    @nn.compact
    def __call__(
        self, pooled: Float[Array, "batch features"]
    ) -> tuple[Float[Array, "batch outputs"], Bool[Array, "batch outputs"]]:
        """[batch, features] → parameters in ± `limit`, and which are not clipped.

        Below the range the slope is a hundredth, as is that of the leaky ReLU.
        """
        width = pooled.shape[-1] // 2
        hidden = nn.Dense(width, precision="highest", name="hidden")(pooled)
        regressor = streams.Regressor(self.outputs, name="parameters")
        # From 0 to 1 over the range, so that a half is its middle.
        place = regressor(nn.leaky_relu(hidden, streams.SLOPE)) + 0.5
        clipped = jnp.minimum(nn.leaky_relu(place, streams.SLOPE), 1)
        return self.limit * (2 * clipped - 1), place < 1


def compose_affine(
    translation: Float[Array, "*batch 3"],
    sines: Float[Array, "*batch 3"],
    shears: Float[Array, "*batch 6"],
    scales: Float[Array, "*batch 3"],
    centre: Float[Array, "*batch 3"],
) -> Float[Array, "*batch 4 4"]:
    """`fixed_to_moving` of the 15 parameters, [*batch, 4, 4].

    Args:
        translation: normalised.
        sines: of the angles about x, y, z, which are at most a right one.
        shears: off the diagonal of a matrix of ones on it, row by row.
        scales: a factor is 1 + this.
        centre: normalised; what rotation, shear and scale leave in place.
    """
    zero = jnp.zeros_like(sines)
    rotation = jnp.concatenate([zero, jnp.arcsin(sines) / jnp.pi, zero, zero], axis=-1)
    linear = geometry.affine_matrix(rotation)[..., :3, :3]
    sheared = jnp.zeros((*shears.shape[:-1], 3, 3), shears.dtype) + jnp.eye(3)
    sheared = sheared.at[..., *_OFF_DIAGONAL].add(shears)
    linear = geometry.compose(linear, sheared * (1 + scales)[..., None, :])
    moved = (linear * (translation - centre)[..., None, :]).sum(-1)
    return geometry.homogeneous(linear, centre + moved)


class Pasta(nn.Module):
    """The two streams and the four heads."""

    config: FrozenConfigDict

    @nn.compact
    def __call__(
        self,
        fixed: Float[Array, "batch x y z"],
        moving: Float[Array, "batch x y z"],
        initial: Float[Array, "batch 4 4"] | None,
        dropout_keys: Shaped[Array, " batch"] | None,
    ) -> AffineEstimate:
        """As `network.Network.apply`; there is one stage."""
        config, dtype = self.config, jnp.dtype(self.config.compute_dtype)
        seen = moving if initial is None else geometry.warp_affine(moving, initial)
        pair = [volume[..., None] for volume in (fixed, seen)]
        for number, channels in enumerate(config.channels, 1):
            pair = [
                streams.Block(
                    channels, config.dropout, dtype, name=f"{name}_block_{number}"
                )(features, dropout_keys)
                for name, features in zip(("fixed", "moving"), pair, strict=True)
            ]
            if number > len(config.channels) // 2:
                pair = list(CrossStitch(name=f"stitch_{number}")(*pair))
        means = [features.mean((1, 2, 3), dtype=jnp.float32) for features in pair]
        pooled = jnp.concatenate(means, axis=-1)
        shift, degrees, shear, scale = config.ranges
        # A volume spans two normalised units.
        limits = 2 * shift, float(np.sin(np.deg2rad(degrees))), shear, scale
        parameters, within = zip(
            *(
                Head(count, limit, name=name)(pooled)
                for (name, count), limit in zip(_COUNTS.items(), limits, strict=True)
            ),
            strict=True,
        )
        translation, sines, shears, scales = parameters
        centre = geometry.centre_of_mass(seen)
        matrix = compose_affine(translation, sines, shears, scales, centre)
        twelve = matrix[:, :3].reshape(-1, 12)
        active = jnp.concatenate(within, axis=-1)
        return single_stage(twelve, matrix, moving, initial, active)
