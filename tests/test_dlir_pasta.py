"""DLIR and PASTA: where they start, how large they are, that they can be trained."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from mdvit_jax import geometry, models
from mdvit_jax.models import pasta

pytestmark = pytest.mark.usefixtures("quick_compilation")

CHANNELS = (5, 4)
BOTH = pytest.mark.parametrize("name", ["dlir", "pasta"])


def made(name: str, *, dropout: float = 0.0):
    """A network of two blocks, its parameters, and two volumes that are not cubes."""
    config = default.get_config()
    config.model.name = name
    config.model.channels = CHANNELS
    config.model.dropout = dropout
    config.model.linear_weights = "fan_in"
    network = models.create(config)
    random = np.random.default_rng(0)
    fixed, moving = random.random((2, 2, 8, 12, 16), np.float32)
    return network, network.init(jax.random.key(0), fixed, moving), fixed, moving


def shaken(params):
    """Parameters from which the answer is not the identity."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, noisy)


@BOTH
def test_they_start_at_the_initial_matrix(name):
    network, params, fixed, moving = made(name)
    estimate = jax.jit(network.apply)(params, fixed, moving)
    np.testing.assert_allclose(
        estimate.matrix, np.tile(np.eye(4), (2, 1, 1)), atol=1e-6
    )
    np.testing.assert_allclose(estimate.warped, moving, atol=1e-5)
    assert estimate.parameters.shape == (2, 12) and len(estimate.stages) == 1
    assert estimate.stages[0].active.all()
    start = geometry.affine_matrix(np.linspace(-0.1, 0.1, 24).reshape(2, 12))
    estimate = jax.jit(network.apply)(params, fixed, moving, initial=start)
    np.testing.assert_allclose(estimate.matrix, start, atol=1e-6)
    warped = geometry.warp_affine(moving, start)
    np.testing.assert_allclose(estimate.warped, warped, atol=1e-5)


@BOTH
def test_every_parameter_gets_a_gradient(name):
    network, params, fixed, moving = made(name)

    def loss(params):
        return (network.apply(params, fixed, moving).matrix[:, :3] ** 2).sum()

    gradient = jax.jit(jax.grad(loss))(shaken(params))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        leaf_name = jax.tree_util.keystr(path)
        assert jnp.isfinite(leaf).all() and jnp.abs(leaf).max() > 0, leaf_name


def block_weights(inputs: int, channels: int) -> int:
    return 27 * inputs * channels + 27 * channels * channels


def test_the_number_of_parameters():
    first, last = CHANNELS
    stream = block_weights(1, first) + block_weights(first, last)
    heads = sum((2 * last + 1) * last + (last + 1) * count for count in (3, 3, 6, 3))
    expected = {
        "dlir": stream + (2 * last + 1) * 12,
        "pasta": 2 * stream + 4 * last + heads,
    }
    for name, count in expected.items():
        leaves = jax.tree.leaves(made(name)[1])
        assert sum(math.prod(leaf.shape) for leaf in leaves) == count, name


@BOTH
def test_a_pair_does_not_depend_on_those_beside_it(name):
    """With dropout, too: each pair draws from its own key."""
    network, params, fixed, moving = made(name, dropout=0.3)
    params, keys = shaken(params), jax.random.split(jax.random.key(2))
    apply = jax.jit(network.apply)
    both = apply(params, fixed, moving, dropout_keys=keys).matrix
    alone = apply(params, fixed[1:], moving[1:], dropout_keys=keys[1:]).matrix
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)
    without = apply(params, fixed, moving).matrix
    assert np.abs(both - without).max() > 1e-3


def test_pasta_composes_its_parameters_as_numpy_does():
    random = np.random.default_rng(3)
    shift, sines, scales, centre = random.uniform(-0.5, 0.5, (4, 3))
    shears = random.uniform(-0.3, 0.3, 6)
    cosines = np.sqrt(1 - sines**2)
    turns = []
    for axis, (s, c) in enumerate(zip(sines, cosines, strict=True)):
        turn, (i, j) = np.eye(3), [(1, 2), (2, 0), (0, 1)][axis]
        turn[i, i] = turn[j, j] = c
        turn[i, j], turn[j, i] = -s, s
        turns.append(turn)
    sheared = np.eye(3)
    sheared[0, 1:], sheared[1, ::2], sheared[2, :2] = shears.reshape(3, 2)
    linear = turns[2] @ turns[1] @ turns[0] @ sheared @ np.diag(1 + scales)
    result = pasta.compose_affine(
        *map(jnp.asarray, (shift, sines, shears, scales, centre))
    )
    np.testing.assert_allclose(result[:3, :3], linear, atol=1e-6)
    offset = centre + linear @ (shift - centre)
    np.testing.assert_allclose(result[:3, 3], offset, atol=1e-6)


def test_pasta_stays_within_its_ranges():
    """Above a range nothing passes, below it a hundredth of what passes within."""
    head = pasta.Head(3, 0.4)
    params = head.init(jax.random.key(0), jnp.zeros((1, 4)))
    for place, value in ((0.0, 0.0), (0.25, 0.2), (9.0, 0.4), (-0.5, -0.4)):
        bias = params["params"]["parameters"]["regressor"]
        bias["bias"], bias["kernel"] = jnp.full(3, place), jnp.zeros((2, 3))
        result, within = head.apply(params, jnp.zeros((1, 4)))
        np.testing.assert_allclose(result, value, atol=1e-6)
        assert bool(within.all()) == (place < 0.5)
