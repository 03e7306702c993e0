"""MDViT: the affine between two volumes, estimated coarse to fine in stages.

Each stage embeds the fixed volume and the moving volume as warped so far, at its own
level of the image pyramid, looks at them through multi-scale dilated attention and
transformer blocks, and predicts the whole affine anew; the original moving volume of
the next level is warped with it. C2FViT (Mok & Chung 2022) is the same without MSDA.

Volumes are float32[batch, x, y, z], matrices 4×4 `fixed_to_moving` in normalised
coordinates (`geometry`).
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict, FrozenConfigDict

from mdvit_jax import errors, geometry
from mdvit_jax.models import blocks, initial_weights, msda

Params = dict[str, Any]


class StageEstimate(NamedTuple):
    """What one stage says; the moving volume is warped to the level of the next stage.

    parameters: [batch, 12] in (-1, 1) (`geometry.affine_matrix`).
    matrix: [batch, 4, 4] `fixed_to_moving`, with the initial matrix in it.
    warped: [batch, x, y, z], the original moving volume through the matrix.
    """

    parameters: Array
    matrix: Array
    warped: Array


class AffineEstimate(NamedTuple):
    """The last stage's estimate (see `StageEstimate`), and those of all stages."""

    parameters: Array
    matrix: Array
    warped: Array
    stages: tuple[StageEstimate, ...]


class Stage(nn.Module):
    """Image pair and the features of the stage before → features and 12 parameters."""

    config: FrozenConfigDict
    index: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: Array, carried: Array | None, deterministic: bool):
        config = self.config
        features = blocks.PatchEmbedding(
            config.embedding,
            config.patches[self.index],
            config.strides[self.index],
            self.dtype,
            name="patch_embedding",
        )(images)
        if carried is not None:
            features = features + carried
        if config.dilated_form != "none":
            form = {"channels": msda.ChannelMsda, "tokens": msda.TokenMsda}
            dilated = form[config.dilated_form](
                tuple(config.dilations), self.dtype, name="msda"
            )
            features = dilated(features)
        block = (
            nn.remat(blocks.Block, static_argnums=2) if config.remat else blocks.Block
        )
        for i in range(config.depth):
            features = block(
                config.heads,
                config.mlp_ratio,
                config.dropout,
                self.dtype,
                name=f"block_{i + 1}",
            )(features, deterministic)
        return features, blocks.Head(name="head")(features)


class MDViT(nn.Module):
    """The stages, the warps between them, and the features handed on."""

    config: FrozenConfigDict

    @nn.compact
    def __call__(
        self, fixed: Array, moving: Array, initial: Array | None, deterministic: bool
    ) -> AffineEstimate:
        config = self.config
        dtype = jnp.dtype(config.compute_dtype)
        count = len(config.patches)
        fixed_levels, moving_levels = (
            geometry.image_pyramid(volume, count) for volume in (fixed, moving)
        )
        warped = moving_levels[0]
        if initial is not None:
            warped = geometry.warp_affine(warped, initial)
        carried, stages = None, []
        for index in range(count):
            images = jnp.stack([warped, fixed_levels[index]], axis=-1).astype(dtype)
            features, parameters = Stage(
                config, index, dtype, name=f"stage_{index + 1}"
            )(images, carried, deterministic)
            level = moving_levels[min(index + 1, count - 1)]
            matrix = self._matrix(parameters, level, initial)
            warped = geometry.warp_affine(level, matrix)
            stages.append(StageEstimate(parameters, matrix, warped))
            if index + 1 < count:
                carried = nn.Conv(
                    config.embedding,
                    (3, 3, 3),
                    dtype=dtype,
                    name=f"squeeze_{index + 1}",
                )(features)
        return AffineEstimate(*stages[-1], tuple(stages))

    def _matrix(self, parameters: Array, level: Array, initial: Array | None) -> Array:
        """The affine about the centre of mass of the moving volume as first moved."""
        centre = geometry.centre_of_mass(level)
        if initial is not None:
            point = jnp.concatenate([centre, jnp.ones_like(centre[:, :1])], axis=-1)
            centre = jnp.linalg.solve(initial, point[..., None])[:, :3, 0]
        if self.config.torch_coordinates:
            matrix = _torch_affine_matrix(parameters, centre, level.shape[1:])
        else:
            matrix = geometry.affine_matrix(parameters, centre=centre)
        return matrix if initial is None else geometry.compose(initial, matrix)


def _torch_affine_matrix(
    parameters: Array, centre: Array, shape: tuple[int, ...]
) -> Array:
    """`geometry.affine_matrix` for parameters that think in PyTorch's coordinates.

    There x runs along the last array axis, and ±1 are the centres of the outermost
    voxels (`affine_grid`, align_corners=True), not the outer edges: on an axis of n
    voxels our coordinate is (n − 1)/n times PyTorch's.
    """
    scale = jnp.array([(n - 1) / n for n in shape], jnp.float32)
    matrix = geometry.affine_matrix(parameters, centre=(centre / scale)[:, ::-1])
    return from_torch(matrix, shape)


def from_torch(matrix: Array, shape: tuple[int, ...]) -> Array:
    """A matrix [*batch, 4, 4] of PyTorch's corner-aligned coordinates, in ours.

    `shape` is that of the volume that is warped, axes as in the array.
    """
    scale = jnp.array([(n - 1) / n for n in shape] + [1], jnp.float32)
    order = jnp.array([2, 1, 0, 3])
    matrix = matrix[..., order, :][..., :, order]
    return scale[:, None] * matrix / scale


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as a pair of pure functions; `create` makes it from a configuration."""

    module: MDViT

    def init(self, key: Array, fixed: Array, moving: Array) -> Params:
        """Random parameters, a nested dict; the volumes [batch, x, y, z] give the size.

        Raises:
            UserError: volumes of a size that the network cannot take.
        """
        _check(self.module.config, fixed.shape, moving.shape)
        shapes = jax.eval_shape(self.module.init, key, fixed, moving, None, True)
        return initial_weights.draw(key, shapes["params"])

    def apply(
        self,
        params: Params,
        fixed: Array,
        moving: Array,
        *,
        initial: Array | None = None,
        dropout_key: Array | None = None,
    ) -> AffineEstimate:
        """Estimate `fixed_to_moving` for each pair.

        Args:
            params: of `init` or `import_torch.load`.
            fixed, moving: [batch, x, y, z], intensities in [0, 1].
            initial: [batch, 4, 4] `fixed_to_moving` to start from, a shift of the
                centre of mass for instance; the estimate includes it, as if the
                moving volume had been warped with it beforehand, without the blur.
            dropout_key: switches dropout on.

        Raises:
            UserError: volumes of a size that the network or its parameters cannot take.
        """
        _check(self.module.config, fixed.shape, moving.shape)
        rngs = {} if dropout_key is None else {"dropout": dropout_key}
        return self.module.apply(
            {"params": params}, fixed, moving, initial, dropout_key is None, rngs=rngs
        )


def create(config: ConfigDict) -> Network:
    """Network of a configuration, or of its `model` part (`configs/default.py`)."""
    model = config.model if "model" in config else config
    return Network(MDViT(FrozenConfigDict(model)))


def voxels_per_token(model: FrozenConfigDict) -> int:
    """Voxels of the full volume that one position of the features spans, per axis."""
    return model.strides[-1]


def _check(config, fixed, moving):
    del config, fixed, moving
