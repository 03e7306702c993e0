"""One training step: a pure function (state, pairs) → (state, measurements)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax import Array
from jax.sharding import Mesh

from mdvit_jax import errors, geometry, losses, models
from mdvit_jax.training import augment, sharding


class TrainState(NamedTuple):
    """All that changes in training; step counts the updates that were made."""

    step: Array
    params: Any
    optimizer: optax.OptState


class Measurements(NamedTuple):
    """What a step tells: the loss of each pair, [batch], and the gradient's norm."""

    loss: Array
    gradient_norm: Array


def objective(loss: ml_collections.ConfigDict) -> Callable[[Array, Array], Array]:
    """The training loss (fixed, warped) → [batch] that `config.loss` describes (Eq. 3).

    Raises:
        UserError: an unknown loss.
    """
    if loss.name == "ntg":
        by_level: Any = functools.partial(losses.ntg, stride=loss.stride)
    elif loss.name == "ncc":
        by_level = [functools.partial(losses.ncc, window=w) for w in loss.windows]
    else:
        raise errors.UserError(
            f'loss.name is "{loss.name}", which is no loss; choose "ntg" or "ncc".'
        )
    return functools.partial(
        losses.similarity_pyramid, by_level, levels=loss.levels, pool=loss.pool
    )


def with_loss(
    config: ml_collections.ConfigDict, name: str
) -> ml_collections.ConfigDict:
    """A copy with the loss "ntg" or "ncc", pooled as in the authors' program."""
    changed = ml_collections.ConfigDict(config.to_dict())
    changed.loss.name = name
    if name != config.loss.name:
        changed.loss.pool = {"ntg": 5, "ncc": 3}[name]
    return changed


def create_state(
    config: ml_collections.ConfigDict,
    network: models.Network,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
) -> TrainState:
    """The state before the first step, drawn from `config.seed`, on every device."""

    def create() -> TrainState:
        volume = jnp.zeros((1, *[config.data.size] * 3))
        params = network.init(jax.random.key(config.seed), volume, volume)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return jax.jit(create, out_shardings=sharding.replicated(mesh))()


def create_step(
    config: ml_collections.ConfigDict,
    network: models.Network,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
) -> Callable[[TrainState, Array, Array], tuple[TrainState, Measurements]]:
    """Compile-once training step on batches [batch, n, n, n] in [0, 1].

    The state is donated: its buffers are the new state's. Randomness depends on the
    seed and the step alone, so that a resumed run draws what an unbroken one does.
    The network starts from the centres of mass laid on each other, as in the paper.
    """
    loss_of_pairs = objective(config.loss)
    augmentation = augment.Augmentation(**config.augment.to_dict())

    def step(state: TrainState, fixed: Array, moving: Array):
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        augment_key, dropout_key = jax.random.split(key)
        fixed, moving = augment.augment(augment_key, fixed, moving, augmentation)
        initial = geometry.centre_shift(fixed, moving)

        def mean_loss(params):
            estimate = network.apply(
                params, fixed, moving, initial=initial, dropout_key=dropout_key
            )
            of_pairs = loss_of_pairs(fixed, estimate.warped)
            return of_pairs.mean(), of_pairs

        gradient, of_pairs = jax.grad(mean_loss, has_aux=True)(state.params)
        updates, optimizer_state = optimizer.update(
            gradient, state.optimizer, state.params
        )
        params = optax.apply_updates(state.params, updates)
        measured = Measurements(of_pairs, optax.tree.norm(gradient))
        return TrainState(state.step + 1, params, optimizer_state), measured

    copied, shared = sharding.replicated(mesh), sharding.by_pair(mesh)
    return jax.jit(
        step,
        in_shardings=(copied, shared, shared),
        out_shardings=copied,
        donate_argnums=0,
    )
