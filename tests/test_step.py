"""The training step: its result, what it depends on, and its types."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import ndimage

from configs import default
from helpers.programs import compiled_programs
from mdvit_jax import errors, geometry, losses, models
from mdvit_jax.training import optimizer, sharding, step

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZE = 32


def small_config(**changes):
    """A network of two stages and a few thousand parameters on 32³."""
    config = default.get_config()
    config.data.size = SIZE
    config.model.update({"embedding": 8, "depth": 1, "dilations": (2,)})
    config.model.update({"patches": (3, 7), "strides": (2, 4)})  # quicker to compile
    config.loss.stride = 1
    for name, value in changes.items():
        group, _, key = name.rpartition("__")
        (config[group] if group else config)[key] = value
    return config


def heads(count: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs in [0, 1], [count, n, n, n]."""
    noise = np.random.default_rng(seed).random((count, SIZE, SIZE, SIZE))
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3, 3))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    x = np.linspace(-1, 1, SIZE)
    inside = x[:, None, None] ** 2 + x[:, None] ** 2 + x**2 < 0.6
    return (smooth * inside).astype(np.float32)


def set_up(config):
    mesh = sharding.create_mesh(config.optim.batch)
    network = models.create(config)
    volume = jax.ShapeDtypeStruct((1, SIZE, SIZE, SIZE), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), volume, volume)
    descent = optimizer.create(config.optim, shapes)
    state = step.create_state(config, network, descent, mesh)
    return network, state, step.create_step(config, network, descent, mesh)


def copy(tree):
    return jax.tree.map(np.array, tree)


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("ntg", lambda f, w: losses.ntg(f, w, stride=1)),
        ("ncc", [lambda f, w, k=k: losses.ncc(f, w, window=k) for k in (7, 5, 3)]),
    ],
)
def test_the_measured_loss_is_that_of_the_library_calls(name, loss):
    config = small_config(
        loss__name=name, augment__flip=0.0, augment__rotate=0.0, optim__batch=2
    )
    network, state, train_step = set_up(config)
    fixed, moving = heads(2), heads(2, seed=1)
    initial = geometry.centre_shift(fixed, moving)

    @jax.jit
    def library_calls(params):
        estimate = network.apply(params, fixed, moving, initial=initial)
        return losses.similarity_pyramid(loss, fixed, estimate.warped)

    expected = library_calls(state.params)
    state, measured = train_step(state, fixed, moving)
    np.testing.assert_allclose(measured.loss, expected, rtol=1e-5)
    assert int(state.step) == 1


def test_one_step_is_the_optimiser_applied_to_the_gradient():
    config = small_config(augment__flip=0.0, augment__rotate=0.0)
    network, state, train_step = set_up(config)
    fixed, moving = heads(1), heads(1, seed=1)
    initial = geometry.centre_shift(fixed, moving)

    def loss(params):
        warped = network.apply(params, fixed, moving, initial=initial).warped
        by_ntg = lambda f, w: losses.ntg(f, w, stride=1)  # noqa: E731
        return losses.similarity_pyramid(by_ntg, fixed, warped).mean()

    gradient = jax.jit(jax.grad(loss))(state.params)
    descent = optimizer.create(config.optim, state.params)
    update = jax.jit(lambda g, p: descent.update(g, descent.init(p), p))
    updates, _ = update(gradient, state.params)
    expected = copy(optax.apply_updates(state.params, updates))
    before = copy(state.params)
    state, measured = train_step(state, fixed, moving)
    norm = float(optax.tree.norm(gradient))
    assert float(measured.gradient_norm) == pytest.approx(norm, rel=1e-4)
    assert float(measured.learning_rate) == np.float32(config.optim.lr)
    moved = 0
    for value, goal, start in zip(
        *map(jax.tree.leaves, (state.params, expected, before)), strict=True
    ):
        # Adam's first step is the sign of the gradient: where that is next to nothing,
        # the order of a sum decides it.
        same = np.isclose(value, goal, rtol=1e-4, atol=1e-7)
        assert same.mean() > 0.98
        moved += np.abs(value - start).max() > 0
    assert moved > 10


def test_randomness_depends_on_seed_and_step_alone():
    config = small_config(augment__gamma=0.3)
    _, state, train_step = set_up(config)
    fixed, moving = heads(1), heads(1, seed=1)
    start = copy(state)
    first, measured = train_step(jax.tree.map(jnp.array, start), fixed, moving)
    again, same = train_step(jax.tree.map(jnp.array, start), fixed, moving)
    for one, other in zip(*map(jax.tree.leaves, (first, again)), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    np.testing.assert_array_equal(measured.loss, same.loss)
    later = jax.tree.map(jnp.array, start)._replace(step=jnp.int32(7))
    _, other = train_step(later, fixed, moving)
    assert float(other.loss[0]) != float(measured.loss[0])  # another augmentation


def test_frozen_parameters_stay_bit_identical():
    config = small_config(optim__trained=("patch_embedding", "msda", "head"))
    _, state, train_step = set_up(config)
    before = copy(state.params)
    trained = optimizer.trained_mask(state.params, config.optim.trained)
    for _ in range(3):
        state, _ = train_step(state, heads(1), heads(1, seed=1))
    for old, new, is_trained in zip(
        *map(jax.tree.leaves, (before, state.params, trained)), strict=True
    ):
        if not is_trained:
            assert old.tobytes() == np.asarray(new).tobytes()
        elif old.any():  # biases that begin at zero may have no gradient yet
            assert old.tobytes() != np.asarray(new).tobytes()


def test_the_step_lowers_the_loss_of_a_pair_and_is_compiled_once():
    config = small_config(
        augment__flip=0.0, augment__rotate=0.0, optim__lr=3e-3, model__embedding=16
    )
    _, state, train_step = set_up(config)
    moving = heads(1)
    fixed = np.roll(moving, 2, axis=1) ** 0.7
    values, compiled = [], []
    with compiled_programs() as programs:
        for _ in range(30):
            state, measured = train_step(state, fixed, moving)
            values.append(np.asarray(measured.loss)[0])
            compiled.append(len(programs))
    assert min(values[-5:]) < 0.95 * values[0]
    assert compiled[-1] == compiled[0] > 0


def test_the_state_keeps_its_types_so_that_nothing_is_compiled_twice():
    config = small_config()
    network, state, train_step = set_up(config)
    volume = jax.ShapeDtypeStruct((1, SIZE, SIZE, SIZE), jnp.float32)
    before = jax.tree.map(jax.typeof, state)
    after, _ = jax.eval_shape(train_step, state, volume, volume)
    for old, new in zip(*map(jax.tree.leaves, (before, after)), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
        assert old.weak_type == new.weak_type


def test_an_unknown_loss_is_refused():
    with pytest.raises(errors.UserError, match='loss.name is "mse"'):
        step.objective(small_config(loss__name="mse").loss)


def test_later_steps_neither_compile_nor_copy():
    """After the first step nothing is compiled, and nothing copied to or from the host.

    Nor is the state copied: each step reuses the buffers of the one before.
    """
    config = small_config()
    _, state, train_step = set_up(config)
    mesh = sharding.create_mesh(config.optim.batch)
    batches = [
        [sharding.to_devices(mesh, heads(1, seed)) for seed in pair]
        for pair in ((0, 1), (2, 3), (4, 5))
    ]
    state, _ = train_step(state, *batches[0])
    with jax.transfer_guard("disallow"), compiled_programs() as programs:
        for pair in batches[1:]:
            before = state
            state, measured = train_step(state, *pair)
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
        jax.block_until_ready(measured)
        assert programs == []
        with pytest.raises(Exception, match="Disallowed"):  # the guard sees a copy
            train_step(state, *(np.asarray(volume) for volume in batches[0]))
    assert int(state.step) == 3
