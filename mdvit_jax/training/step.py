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
from jax.sharding import PartitionSpec as P

from mdvit_jax import errors, losses, models
from mdvit_jax.training import (
    augment,
    examples,
    sharding,
    stage_loss,
    synthetic_pairs,
)
from mdvit_jax.training.optimizer import learning_rate


class TrainState(NamedTuple):
    """All that changes in training; step counts the updates that were made."""

    step: Array
    params: Any
    optimizer: optax.OptState


class Measurements(NamedTuple):
    """Of a step: the loss of each row, [batch], gradient norm and learning rate."""

    loss: Array
    gradient_norm: Array
    learning_rate: Array


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
            f'loss.name is "{loss.name}", which is not a loss; choose "ntg" or "ncc".'
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
    """The state before the first step, drawn from `config.seed`, on all devices."""
    create = _initial(config, network, optimizer)
    placed = sharding.state_sharding(mesh, jax.eval_shape(create))
    return jax.jit(create, out_shardings=placed)()


def _initial(config, network, optimizer) -> Callable[[], TrainState]:
    def create() -> TrainState:
        volume = jnp.zeros((1, *[config.data.size] * 3))
        params = network.init(jax.random.key(config.seed), volume, volume)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return create


def create_step(
    config: ml_collections.ConfigDict,
    network: models.Network,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
) -> Callable[..., tuple[TrainState, Measurements]]:
    """Compile-once training step (state, fixed, moving) → (state, measurements).

    The volumes are [batch, n, n, n] in [0, 1].

    The state is donated: its buffers are the new state's. Randomness depends on the
    seed, the step and the row alone, so that a resumed run draws what an unbroken one
    does, on whatever devices. The network starts from the centres of mass laid on each
    other, as in the paper.

    With `config.loss.people` the step takes one argument more, where the two scans of
    each pair lie in the template, [batch, 2, 4, 4] (`template_affines.read`). With
    `config.synthesis.pairs` the label maps are read, and held by each device.

    Raises:
        UserError: label maps that cannot be used, or too few rows for each device.
    """
    gradient_of = _gradient(config, network, mesh)
    rate = learning_rate(config.optim)

    people, synthetic = config.loss.people, bool(config.synthesis.pairs)

    def step(state: TrainState, fixed: Array, moving: Array, *others):
        pair = fixed, moving, others[0] if people else None
        heads = others[-1] if synthetic else None
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        gradient, pair_losses = gradient_of(state.params, key, pair, heads)
        updates, optimizer_state = optimizer.update(
            gradient, state.optimizer, state.params
        )
        params = optax.apply_updates(state.params, updates)
        measured = Measurements(
            pair_losses, optax.tree.norm(gradient), rate(state.step)
        )
        return TrainState(state.step + 1, params, optimizer_state), measured

    copied, shared = sharding.replicated(mesh), sharding.by_pair(mesh)
    shapes = jax.eval_shape(_initial(config, network, optimizer))
    placed = sharding.state_sharding(mesh, shapes)
    others = [shared] * people + [copied] * synthetic
    compiled = jax.jit(
        step,
        in_shardings=(placed, shared, shared, *others),
        out_shardings=(placed, copied),
        donate_argnums=0,
    )
    if not synthetic:
        return compiled
    heads = jax.device_put(synthetic_pairs.read_heads(config, "train"), copied)
    return lambda *arguments: compiled(*arguments, heads)


def _gradient(config, network: models.Network, mesh: Mesh) -> Callable:
    """(params, key, pair, heads) → mean gradient, and the loss of each row.

    A row is the pair of a batch and, if there are heads, the synthetic ones beside it.
    Where these are beside several rows, the loss of each is the mean of all of them.

    Each device works on its own pairs, one micro-step after the other, and they meet
    once, to add up the gradients: nothing that is as large as a volume or its features
    travels. Left to the compiler, loops over pairs would gather all of them first.
    """
    similarity = objective(config.loss)
    augmentation = augment.settings(config.augment)
    recipe = synthetic_pairs.recipe(config)
    field_of_view = config.data.field_of_view
    batch, parts = config.optim.batch, config.optim.accumulate
    divided = mesh.shape[sharding.DATA] > 1
    every = recipe.every
    if batch // (mesh.shape[sharding.DATA] * parts) % every:
        raise errors.UserError(
            f"synthesis.pairs is {config.synthesis.pairs}, so the pairs that a device "
            f"works on at once must be a multiple of {every}; change optim.batch "
            f"({batch}) or optim.accumulate ({parts}), or use fewer devices."
        )

    def micro_step(params, heads, keys: tuple[Array, Array], pair):
        augment_keys, dropout_keys = keys
        fixed, moving, to_template = pair
        rows = len(fixed)
        shown = examples.make(
            augment_keys, fixed, moving, augmentation, field_of_view, to_template
        )
        if heads is not None:
            synthetic_keys = jax.vmap(jax.random.fold_in, (0, None))(
                augment_keys[::every, 0], 2
            )
            synthetic = jax.vmap(lambda k: synthetic_pairs.make(k, heads, recipe))(
                synthetic_keys
            )
            shown = examples.join(shown, synthetic)
            dropout_keys = jax.vmap(
                lambda k: jax.random.split(k, len(shown.fixed) // len(synthetic_keys))
            )(dropout_keys[::every]).reshape(-1)

        def total_loss(params):
            estimate = network.from_centres(
                params, shown.fixed, shown.moving, dropout_keys=dropout_keys
            )
            pair_losses = stage_loss.pair_losses(
                shown,
                estimate,
                similarity,
                known=config.loss.known,
                deep=config.loss.deep,
                field_of_view=field_of_view,
            )
            row_losses = jnp.repeat(
                pair_losses.reshape(rows // every, -1).mean(1), every
            )
            return row_losses.sum() / batch, row_losses

        return jax.grad(total_loss, has_aux=True)(params)

    def device_gradient(params, key: Array, pair, heads):
        rows = len(pair[0])
        first = jax.lax.axis_index(sharding.DATA) * rows if divided else 0
        # Of all pairs, so that a pair's keys do not depend on which device has it.
        augment_key, dropout_key = jax.random.split(key)
        keys = (
            jax.random.split(augment_key, (batch, 2)),
            jax.random.split(dropout_key, batch),
        )
        keys = jax.tree.map(
            lambda k: jax.lax.dynamic_slice_in_dim(k, first, rows), keys
        )
        if parts == 1:
            gradient, losses = micro_step(params, heads, keys, pair)
        else:

            def add(total, part):
                gradient, losses = micro_step(params, heads, *part)
                return jax.tree.map(jnp.add, total, gradient), losses

            in_parts = jax.tree.map(
                lambda x: x.reshape(parts, rows // parts, *x.shape[1:]),
                (keys, pair),
            )
            nothing = jax.tree.map(jnp.zeros_like, params)
            gradient, losses = jax.lax.scan(add, nothing, in_parts)
        # Each device knows its own losses; as a sum, all know all of them.
        all_losses = jnp.zeros(batch, losses.dtype)
        all_losses = jax.lax.dynamic_update_slice_in_dim(
            all_losses, losses.reshape(rows), first, 0
        )
        result = gradient, all_losses
        return jax.lax.psum(result, sharding.DATA) if divided else result

    if not divided:  # XLA cannot partition for the other axis beside one of size 1

        def undivided(*arguments):
            # As within shard_map, so that the network says where features are whole.
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return device_gradient(*arguments)

        return undivided
    return jax.shard_map(
        device_gradient,
        mesh=mesh,
        in_specs=(P(), P(), P(sharding.DATA), P()),
        out_specs=P(),
        axis_names={sharding.DATA},
        check_vma=False,
    )
