"""The training step: its result, what it depends on, and its types."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import ndimage

from configs import default
from helpers.programs import compiled_programs
from helpers.run import first_step
from mdvit_jax import errors, geometry, losses, models
from mdvit_jax.training import optimizer, sharding, step

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIZE = 16


def small_config(**changes):
    """A network of one stage and a few thousand parameters on 16³."""
    config = default.get_config()
    config.data.size = SIZE
    config.model.update({"embedding": 8, "depth": 1, "dilations": (2,)})
    config.model.update({"patches": (7,), "strides": (4,)})  # quicker to compile
    config.loss.stride = 1
    for name, value in changes.items():
        group, _, key = name.rpartition("__")
        (config[group] if group else config)[key] = value
    return config


def heads(count: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs in [0, 1], [count, n, n, n]."""
    noise = np.random.default_rng(seed).random((count, SIZE, SIZE, SIZE))
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.5))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    x = np.linspace(-1, 1, SIZE)
    inside = x[:, None, None] ** 2 + x[:, None] ** 2 + x**2 < 0.6
    return (smooth * inside).astype(np.float32)


class Training(NamedTuple):
    """A network's compiled step, and the state before the first one.

    The step takes the buffers of the state it is given: hand it `fresh()`.
    """

    config: Any
    network: models.Network
    state: step.TrainState
    placed: step.TrainState  # where each array of the state belongs
    step: Callable

    def fresh(self) -> step.TrainState:
        return jax.device_put(self.state, self.placed)

    def volumes(self, *seeds: int) -> list[jax.Array]:
        """Batches of heads where the step takes them, so that it is compiled once."""
        count = self.config.optim.batch
        mesh = sharding.create_mesh(count)
        return [sharding.to_devices(mesh, heads(count, seed)) for seed in seeds]


def set_up(config) -> Training:
    network, state, train_step = first_step(config)
    placed = jax.tree.map(lambda leaf: leaf.sharding, state)
    return Training(config, network, copy(state), placed, train_step)


def copy(tree):
    return jax.tree.map(np.array, tree)


@pytest.fixture(scope="module")
def plain() -> Training:
    """Two pairs at a time, without augmentation."""
    return set_up(
        small_config(
            augment__flip=0.0, augment__rotate=0.0, optim__batch=2, optim__lr=1e-2
        )
    )


@pytest.fixture(scope="module")
def random_and_frozen() -> Training:
    """Augmented in every way of the paper's; a part of the network is trained."""
    trained = ("patch_embedding", "msda", "head")
    return set_up(small_config(augment__gamma=0.3, optim__trained=trained))


def test_one_step_is_the_optimiser_applied_to_the_gradient(plain):
    """Of the loss by the calls of the library."""
    config, network, before = plain.config, plain.network, plain.state.params
    fixed, moving = heads(2), heads(2, seed=1)
    descent = optimizer.create(config.optim, before)

    def loss(params):
        initial = geometry.centre_shift(fixed, moving)
        warped = network.apply(params, fixed, moving, initial=initial).warped
        by_ntg = lambda f, w: losses.ntg(f, w, stride=1)  # noqa: E731
        of_pairs = losses.similarity_pyramid(by_ntg, fixed, warped)
        return of_pairs.mean(), of_pairs

    @jax.jit
    def library_calls(params):
        gradient, of_pairs = jax.grad(loss, has_aux=True)(params)
        updates, _ = descent.update(gradient, descent.init(params), params)
        updated = optax.apply_updates(params, updates)
        return of_pairs, optax.tree.norm(gradient), updated

    of_pairs, norm, expected = copy(library_calls(before))
    state, measured = plain.step(plain.fresh(), *plain.volumes(0, 1))
    assert int(state.step) == 1
    np.testing.assert_allclose(measured.loss, of_pairs, rtol=1e-5)
    assert float(measured.gradient_norm) == pytest.approx(float(norm), rel=1e-4)
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


def test_the_measured_loss_is_that_of_the_library_calls():
    """With NCC; with NTG above."""
    ncc = set_up(
        small_config(
            loss__name="ncc", augment__flip=0.0, augment__rotate=0.0, optim__batch=2
        )
    )
    fixed, moving = heads(2), heads(2, seed=1)
    windows = [lambda f, w, k=k: losses.ncc(f, w, window=k) for k in (7, 5, 3)]

    @jax.jit
    def library_calls(params):
        initial = geometry.centre_shift(fixed, moving)
        warped = ncc.network.apply(params, fixed, moving, initial=initial).warped
        return losses.similarity_pyramid(windows, fixed, warped)

    expected = library_calls(ncc.state.params)
    state, measured = ncc.step(ncc.fresh(), *ncc.volumes(0, 1))
    np.testing.assert_allclose(measured.loss, expected, rtol=1e-5)
    assert int(state.step) == 1


def test_randomness_depends_on_seed_and_step_alone(random_and_frozen):
    fixed, moving = random_and_frozen.volumes(0, 1)
    train_step, start = random_and_frozen.step, random_and_frozen.fresh
    first, measured = train_step(start(), fixed, moving)
    again, same = train_step(start(), fixed, moving)
    for one, other in zip(*map(jax.tree.leaves, (first, again)), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    np.testing.assert_array_equal(measured.loss, same.loss)
    first = start()
    later = first._replace(step=jax.device_put(jnp.int32(7), first.step.sharding))
    _, other = train_step(later, fixed, moving)
    assert float(other.loss[0]) != float(measured.loss[0])  # another augmentation


def test_frozen_parameters_stay_bit_identical(random_and_frozen):
    config, before = random_and_frozen.config, random_and_frozen.state.params
    state, pair = random_and_frozen.fresh(), random_and_frozen.volumes(0, 1)
    trained = optimizer.trained_mask(before, config.optim.trained)
    for _ in range(3):
        state, _ = random_and_frozen.step(state, *pair)
    for old, new, is_trained in zip(
        *map(jax.tree.leaves, (before, state.params, trained)), strict=True
    ):
        if not is_trained:
            assert old.tobytes() == np.asarray(new).tobytes()
        elif old.any():  # biases that begin at zero may have no gradient yet
            assert old.tobytes() != np.asarray(new).tobytes()


def test_the_step_lowers_the_loss_of_a_pair_and_is_compiled_once(plain):
    (moving,) = plain.volumes(0)
    stretch, middle = np.array([0.85, 1.1, 1.15]), (SIZE - 1) / 2
    fixed = np.stack(
        [
            ndimage.affine_transform(volume, stretch, middle * (1 - stretch), order=1)
            for volume in np.asarray(moving)
        ]
    )
    fixed = jax.device_put(fixed, moving.sharding)
    state, measured = plain.step(plain.fresh(), fixed, moving)
    values = [np.asarray(measured.loss)]
    with compiled_programs() as programs:
        for _ in range(30):
            state, measured = plain.step(state, fixed, moving)
            values.append(np.asarray(measured.loss))
    assert programs == []
    assert (np.min(values[-5:], axis=0) < 0.5 * values[0]).all()


def test_the_state_keeps_its_types_so_that_nothing_is_compiled_twice(plain):
    state = plain.fresh()
    volume = jax.ShapeDtypeStruct((2, SIZE, SIZE, SIZE), jnp.float32)
    before = jax.tree.map(jax.typeof, state)
    after, _ = jax.eval_shape(plain.step, state, volume, volume)
    for old, new in zip(*map(jax.tree.leaves, (before, after)), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
        assert old.weak_type == new.weak_type


def test_an_unknown_loss_is_refused():
    with pytest.raises(errors.UserError, match='loss.name is "mse"'):
        step.objective(small_config(loss__name="mse").loss)


def test_later_steps_neither_compile_nor_copy(plain):
    """After the first step nothing is compiled, and nothing copied to or from the host.

    Nor is the state copied: each step reuses the buffers of the one before.
    """
    batches = [plain.volumes(*pair) for pair in ((0, 1), (2, 3), (4, 5))]
    state, _ = plain.step(plain.fresh(), *batches[0])
    with jax.transfer_guard("disallow"), compiled_programs() as programs:
        for pair in batches[1:]:
            before = state
            state, measured = plain.step(state, *pair)
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
        jax.block_until_ready(measured)
        assert programs == []
        jax.jit(jnp.negative)(measured.loss)
        assert programs != []  # had one been compiled, it would be there
        with pytest.raises(Exception, match="Disallowed"):  # the guard sees a copy
            plain.step(state, *(np.asarray(volume) for volume in batches[0]))
    assert int(state.step) == 3
