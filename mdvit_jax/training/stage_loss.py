"""The loss of an estimate: similarity and known affine, of the last stage and of all.

    loss = S(last) + known · D(last) + deep · mean over the stages before of the same

The losses of several passes are averaged.

S is the configured similarity (Eq. 3) of the target images, D the mean distance in mm
from where the points of the brain belong, beyond what the truth itself may be off, of
pairs whose affine is known. The paper has S(last) alone; its first stages then stay
at the centres of mass.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array

from mdvit_jax import geometry, losses, models
from mdvit_jax.training.examples import Examples


def pair_losses(
    examples: Examples,
    estimate: models.AffineEstimate,
    similarity: Callable[[Array, Array], Array],
    *,
    known: float,
    deep: float,
    field_of_view: float,
) -> Array:
    """One value per pair, [batch].

    Args:
        examples: what the network saw, and the targets of the loss.
        estimate: its answer.
        similarity: (fixed, warped) → [batch].
        known, deep: the weights, `config.loss`; what has weight 0 is not computed.
        field_of_view: in mm along each axis.
    """
    seen = examples.moving_target is examples.moving

    def stage_loss(stage: models.StageEstimate) -> Array:
        size = stage.warped.shape[-1]
        fixed, warped = _at_size(examples.fixed_target, size), stage.warped
        if not seen:
            moving = _at_size(examples.moving_target, size)
            warped = geometry.warp_affine(moving, stage.matrix)
        value = similarity(fixed, warped)
        if known:
            apart = losses.mapped_distance(
                stage.matrix, examples.truth, examples.fixed_target
            )
            beyond = jnp.maximum(apart * (field_of_view / 2) - examples.slack, 0)
            value += known * examples.known * beyond
        return value

    def pass_loss(stages: Sequence[models.StageEstimate]) -> Array:
        *before, last = stages
        total = stage_loss(last)
        if deep and before:
            total += deep / len(before) * sum(map(stage_loss, before))
        return total

    by_pass = [pass_loss(one.stages) for one in estimate.passes]
    return jnp.stack(by_pass).mean(axis=0)


def _at_size(volume: Array, size: int) -> Array:
    while volume.shape[-1] > size:
        volume = geometry.halve(volume)
    return volume
