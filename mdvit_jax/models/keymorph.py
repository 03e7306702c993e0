"""KeyMorph: the affine between two volumes, in closed form from keypoints of each.

Yu et al. (MIDL 2022), Wang et al. (MedIA 2025). One convolutional network looks at each
volume alone; its last channels are heat maps, and a keypoint is the centre of mass of
its map. The affine is the one that takes the fixed volume's keypoints nearest to the
moving one's, each pair weighted by how strong its maps are. The keypoints turn with the
volume as far as the network has learned to, so that any orientation takes one pass.

    A = Q W Pᵀ (P W Pᵀ)⁻¹      P fixed (homogeneous), Q moving, W weights
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from ml_collections import FrozenConfigDict

from mdvit_jax import geometry
from mdvit_jax.models import streams
from mdvit_jax.models.mdvit import AffineEstimate, single_stage

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

# Features of the last layer → heat maps, which are not negative.
HEAT_MAPS = {"relu": nn.relu, "softplus": lambda x: nn.softplus(4 * x) / 4}
_RIDGE = 1e-5  # keeps the normal equations solvable where keypoints lie in one plane


class Detector(nn.Module):
    """A volume → keypoints and their weights."""

    config: FrozenConfigDict

    @nn.compact
    def __call__(
        self, volume: Float[Array, "batch x y z"]
    ) -> tuple[Float[Array, "batch points 3"], Float[Array, "batch points"]]:
        """[batch, x, y, z] → normalised [batch, points, 3] and weights [batch, points].

        A 2×2×2 pooling follows every second convolution, but for the last layer, which
        makes the maps. The first convolution may have a stride.
        """
        config, dtype = self.config, jnp.dtype(self.config.compute_dtype)
        features = volume[..., None]
        for number, channels in enumerate(config.channels):
            layer = streams.Convolution(
                channels,
                dtype,
                stride=1 if number else config.first_stride,
                name=f"convolution_{number}",
            )
            features = nn.relu(streams.normalise(layer(features)))
            if number % 2:
                features = nn.max_pool(features, (2, 2, 2), strides=(2, 2, 2))
        last = streams.Convolution(config.keypoints, dtype, True, name="keypoints")
        maps = HEAT_MAPS[config.heat_maps](last(features))
        maps = jnp.moveaxis(maps, -1, 1)  # [batch, points, x, y, z]
        return geometry.centre_of_mass(maps), maps.sum((-3, -2, -1))


def detect(
    config: FrozenConfigDict, params: Mapping[str, Any], volume: Float[Array, "b x y z"]
) -> tuple[Float[Array, "b points 3"], Float[Array, "b points"]]:
    """What the detector of a KeyMorph with these parameters sees in volumes."""
    seen = Detector(config).apply({"params": params["detector"]}, volume)
    return cast(tuple[Array, Array], seen)


def fit_affine(
    fixed: Float[Array, "*batch points 3"],
    moving: Float[Array, "*batch points 3"],
    weights: Float[Array, "*batch points"],
) -> Float[Array, "*batch 4 4"]:
    """`fixed_to_moving` by weighted least squares, [*batch, 4, 4].

    Args:
        fixed, moving: [*batch, points, 3].
        weights: [*batch, points], not negative; their scale does not matter.
    """
    total = weights.sum(-1, keepdims=True)
    weights = weights / jnp.where(total > 0, total, 1)
    points = jnp.concatenate([fixed, jnp.ones_like(fixed[..., :1])], axis=-1)
    weighted = jnp.swapaxes(points * weights[..., None], -1, -2)
    normal = jnp.matmul(weighted, points, precision="highest")
    # Towards the shift between the two, where the points determine nothing else.
    ridge = _RIDGE * jnp.eye(4)
    right = jnp.matmul(weighted, moving - fixed, precision="highest")
    change = jnp.swapaxes(jnp.linalg.solve(normal + ridge, right), -1, -2)
    identity = jnp.eye(3, dtype=change.dtype)
    return geometry.homogeneous(change[..., :3] + identity, change[..., 3])


def misfit(
    fixed: Float[Array, "*batch points 3"],
    moving: Float[Array, "*batch points 3"],
    weights: Float[Array, "*batch points"],
    matrix: Float[Array, "*batch 4 4"],
) -> Float[Array, "*batch"]:
    """How far a matrix leaves the points apart, as a share of their smallest spread.

    Root mean square distance by the standard deviation of the moving points along the
    axis where it is smallest, weighted: of points in a plane any turn of it may seem to
    fit. Infinity where all lie in a plane, or no point counts.

    Args:
        fixed, moving, weights: as those of `fit_affine`.
        matrix: [*batch, 4, 4] `fixed_to_moving`.
    """
    total = weights.sum(-1, keepdims=True)
    shares = (weights / jnp.where(total > 0, total, 1))[..., None]
    linear = jnp.swapaxes(matrix[..., :3, :3], -1, -2)
    moved = jnp.matmul(fixed, linear, precision="highest") + matrix[..., None, :3, 3]
    apart = jnp.sum(shares * (moved - moving) ** 2, axis=(-2, -1))
    away = moving - (shares * moving).sum(-2, keepdims=True)
    spread = jnp.matmul(jnp.swapaxes(shares * away, -1, -2), away, precision="highest")
    smallest = jnp.linalg.eigvalsh(spread)[..., 0]
    flat = smallest <= _RIDGE
    return jnp.where(flat, jnp.inf, jnp.sqrt(apart / jnp.where(flat, 1, smallest)))


class KeyMorph(nn.Module):
    """The detector on both volumes, and the affine between their keypoints."""

    config: FrozenConfigDict

    @nn.compact
    def __call__(
        self,
        fixed: Float[Array, "batch x y z"],
        moving: Float[Array, "batch x y z"],
        initial: Float[Array, "batch 4 4"] | None,
        dropout_keys: Shaped[Array, " batch"] | None,
    ) -> AffineEstimate:
        """As `network.Network.apply`; there is one stage, and no dropout."""
        del dropout_keys
        detect = Detector(self.config, name="detector")
        seen = moving if initial is None else geometry.warp_affine(moving, initial)
        # One after the other: the volumes are two of a batch to the network.
        points, strengths = detect(jnp.concatenate([fixed, seen]))
        count = len(fixed)
        weights = strengths[:count] * strengths[count:]
        matrix = fit_affine(points[:count], points[count:], weights)
        twelve = matrix[:, :3].reshape(count, 12)
        return single_stage(twelve, matrix, moving, initial, weights > 0)
