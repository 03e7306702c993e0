"""MDViT: the affine between two volumes, estimated coarse to fine in stages.

Each stage embeds the fixed volume and the moving volume as warped so far, at its own
level of the image pyramid, looks at them through multi-scale dilated attention and
transformer blocks, and predicts the whole affine anew; the original moving volume of
the next level is warped with it. C2FViT (Mok & Chung 2022) is the same without MSDA.

Volumes are float32[batch, x, y, z], matrices 4×4 `fixed_to_moving` in normalised
coordinates (`geometry`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from ml_collections import FrozenConfigDict

from mdvit_jax import geometry
from mdvit_jax.models import blocks, msda, torch_coordinates

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped


class StageEstimate(NamedTuple):
    """Estimate of a stage; the moving volume is warped at the level of the next stage.

    Attributes:
        parameters: [batch, 12] in (-1, 1) (`geometry.affine_matrix`).
        matrix: [batch, 4, 4] `fixed_to_moving` in normalised coordinates, with the
            initial matrix in it.
        warped: [batch, x, y, z], the original moving volume through the matrix.
        active: bool [batch, units], the hidden units of the head that pass a gradient
            on.
    """

    parameters: Float[Array, "batch 12"]
    matrix: Float[Array, "batch 4 4"]
    warped: Float[Array, "batch x y z"]
    active: Bool[Array, "batch units"]


class AffineEstimate(NamedTuple):
    """The last stage's estimate, those of all stages, and those of the passes before.

    Attributes:
        parameters, matrix, warped: as in `StageEstimate`, at full size.
        stages: coarsest first.
        before: of a network that is asked several times, the estimates that it started
            from, first to last.
    """

    parameters: Float[Array, "batch 12"]
    matrix: Float[Array, "batch 4 4"]
    warped: Float[Array, "batch x y z"]
    stages: tuple[StageEstimate, ...]
    before: tuple[AffineEstimate, ...] = ()

    @property
    def passes(self) -> tuple[AffineEstimate, ...]:
        """The estimates of all passes, first to last."""
        return *self.before, self


def single_stage(
    parameters: Float[Array, "batch 12"],
    matrix: Float[Array, "batch 4 4"],
    moving: Float[Array, "batch x y z"],
    initial: Float[Array, "batch 4 4"] | None,
    active: Bool[Array, "batch units"],
) -> AffineEstimate:
    """The estimate of a network that has no stages.

    Args:
        parameters, active: as in `StageEstimate`.
        matrix: to the moving volume as `initial` has warped it.
        moving: as it was before.
        initial: what the network started from.
    """
    if initial is not None:
        matrix = geometry.compose(initial, matrix)
    warped = geometry.warp_affine(moving, matrix)
    stage = StageEstimate(parameters, matrix, warped, active)
    return AffineEstimate(parameters, matrix, warped, (stage,))


# The values of `model.dilated_form`, except "none".
DILATED_FORMS = {"channels": msda.ChannelMsda, "tokens": msda.TokenMsda}
# The values of `model.head`.
HEADS = {"paper": blocks.Head, "moments": blocks.MomentHead}


class Stage(nn.Module):
    """Image pair and the features of the stage before → features and 12 parameters.

    Kernels are initialised by `initial_weights.draw`, not by Flax.
    """

    config: FrozenConfigDict
    index: int

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch x y z 2"],
        carried: Float[Array, "batch px py pz embedding"] | None,
        dropout_keys: Shaped[Array, " batch"] | None,
    ):
        """[batch, x, y, z, 2] (moving, fixed) → features, and the head's output."""
        config, dtype = self.config, jnp.dtype(self.config.compute_dtype)
        features = blocks.PatchEmbedding(
            config.embedding,
            config.patches[self.index],
            config.strides[self.index],
            name="patch_embedding",
        )(images)
        if carried is not None:
            features += carried
        if config.dilated_form != "none":
            form = DILATED_FORMS[config.dilated_form]
            features = form(config.dilations, dtype, name="msda")(features)
        block = blocks.Block
        if config.remat:
            # A CPU moves the recomputation ahead and saves nothing, unless XLA_FLAGS
            # has --xla_cpu_enable_concurrency_optimized_scheduler=false.
            block = nn.remat(block)
        for number in range(1, config.depth + 1):
            features = block(
                config.heads,
                config.mlp_ratio,
                config.dropout,
                dtype,
                name=f"block_{number}",
            )(features, dropout_keys)
        return features, HEADS[config.head](name="head")(features)


class MDViT(nn.Module):
    """The stages, the warps between them, and the features passed on."""

    config: FrozenConfigDict

    @nn.compact
    def __call__(
        self,
        fixed: Float[Array, "batch x y z"],
        moving: Float[Array, "batch x y z"],
        initial: Float[Array, "batch 4 4"] | None,
        dropout_keys: Shaped[Array, " batch"] | None,
    ) -> AffineEstimate:
        """As `network.Network.apply`."""
        config = self.config
        count = len(config.patches)
        fixed_levels, moving_levels = (
            geometry.image_pyramid(volume, count) for volume in (fixed, moving)
        )
        warped = moving_levels[0]
        if initial is not None:
            warped = geometry.warp_affine(warped, initial)
        carried, stages = None, []
        for index, fixed_level in enumerate(fixed_levels):
            images = jnp.stack([warped, fixed_level], axis=-1)
            stage = Stage(config, index, name=f"stage_{index + 1}")
            features, (parameters, active) = stage(images, carried, dropout_keys)
            level = moving_levels[min(index + 1, count - 1)]
            matrix = self._matrix(parameters, level, initial)
            warped = geometry.warp_affine(level, matrix)
            stages.append(StageEstimate(parameters, matrix, warped, active))
            if index + 1 < count:
                dtype = jnp.dtype(config.compute_dtype)
                squeeze = blocks.Squeeze(dtype, name=f"squeeze_{index + 1}")
                carried = squeeze(features)
        return AffineEstimate(*stages[-1][:3], tuple(stages))

    def _matrix(
        self,
        parameters: Float[Array, "batch 12"],
        level: Float[Array, "batch x y z"],
        initial: Float[Array, "batch 4 4"] | None,
    ) -> Float[Array, "batch 4 4"]:
        """The affine about the centre of mass of the moving volume as first moved."""
        centre = geometry.centre_of_mass(level)
        if initial is not None:
            centre = geometry.map_point(geometry.invert(initial), centre)
        if self.config.torch_coordinates:
            matrix = torch_coordinates.affine_matrix(
                parameters, centre, level.shape[1:]
            )
        else:
            matrix = geometry.affine_matrix(parameters, centre=centre)
        return matrix if initial is None else geometry.compose(initial, matrix)
