"""DLIR and PASTA: where they start, how large they are, that they can be trained."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from mdvit_jax import errors, geometry, models
from mdvit_jax.models import pasta

pytestmark = pytest.mark.usefixtures("quick_compilation")

CHANNELS = (5, 4)


def create(name: str, channels=CHANNELS, dropout: float = 0.3) -> models.Network:
    config = default.get_config()
    config.model.update({"name": name, "channels": channels, "dropout": dropout})
    config.model.linear_weights = "fan_in"
    return models.create(config)


class Small(NamedTuple):
    """A network of two blocks, and two volumes that are not cubes."""

    network: models.Network
    apply: Callable[..., models.AffineEstimate]
    params: models.Params
    shaken: models.Params  # from which the answer is not the identity
    fixed: np.ndarray
    moving: np.ndarray
    initial: jax.Array
    keys: jax.Array


@pytest.fixture(scope="module", params=["dlir", "pasta"])
def small(request) -> Small:
    network = create(request.param)
    fixed, moving = np.random.default_rng(0).random((2, 2, 8, 12, 16), np.float32)
    params = network.init(jax.random.key(0), fixed, moving)
    noise = np.random.default_rng(1)
    shaken = jax.tree.map(
        lambda leaf: leaf + 0.1 * noise.standard_normal(leaf.shape, np.float32), params
    )
    twelve = np.linspace(-0.1, 0.1, 24, dtype=np.float32).reshape(2, 12)
    initial = geometry.affine_matrix(twelve)
    keys = jax.random.split(jax.random.key(2))

    @jax.jit
    def apply(params, fixed, moving, initial, keys):
        return network.apply(params, fixed, moving, initial=initial, dropout_keys=keys)

    return Small(network, apply, params, shaken, fixed, moving, initial, keys)


def test_they_start_at_the_initial_matrix(small):
    for start in (small.initial, jnp.tile(jnp.eye(4), (2, 1, 1))):
        estimate = small.apply(
            small.params, small.fixed, small.moving, start, small.keys
        )
        np.testing.assert_allclose(estimate.matrix, start, atol=1e-6)
        warped = jax.jit(geometry.warp_affine)(small.moving, start)
        np.testing.assert_allclose(estimate.warped, warped, atol=1e-5)
    assert estimate.parameters.shape == (2, 12) and len(estimate.stages) == 1
    assert estimate.stages[0].active.all()


def test_a_pair_does_not_depend_on_those_beside_it(small):
    """With dropout, too: each pair draws from its own key."""
    arguments = small.fixed, small.moving, small.initial, small.keys
    matrix = small.apply(small.shaken, *arguments).matrix
    assert np.abs(matrix - small.initial).max() > 0.01
    turned = small.apply(small.shaken, *(value[::-1] for value in arguments)).matrix
    np.testing.assert_allclose(turned[::-1], matrix, atol=1e-5)
    other = small.apply(small.shaken, *arguments[:3], small.keys[::-1]).matrix
    assert np.abs(matrix - other).max() > 1e-3


def test_every_parameter_gets_a_gradient(small):
    @jax.jit
    @jax.grad
    def gradient_of(params):
        matrix = small.network.apply(params, small.fixed, small.moving).matrix
        return (matrix[:, :3] ** 2).sum()

    gradient = gradient_of(small.shaken)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        name = jax.tree_util.keystr(path)
        assert jnp.isfinite(leaf).all() and jnp.abs(leaf).max() > 0, name


def stream_weights(channels) -> int:
    """Two convolutions a block, without biases."""
    pairs = zip((1, *channels), channels, strict=False)
    return sum(27 * (before * n + n * n) for before, n in pairs)


@pytest.mark.parametrize("channels", [CHANNELS, (64, 32, 32, 32, 16, 16)])
def test_the_number_of_parameters(channels):
    """The second ones are the published sizes."""
    last, deep = channels[-1], channels[len(channels) // 2 :]
    heads = sum((2 * last + 1) * last + (last + 1) * count for count in (3, 3, 6, 3))
    expected = {
        "dlir": stream_weights(channels) + (2 * last + 1) * 12,
        "pasta": 2 * stream_weights(channels) + 4 * sum(deep) + heads,
    }
    volume = jax.ShapeDtypeStruct((1, 64, 64, 128), jnp.float32)
    for name, count in expected.items():
        init = create(name, channels).init
        shapes = jax.eval_shape(init, jax.random.key(0), volume, volume)
        leaves = jax.tree.leaves(shapes)
        assert sum(math.prod(leaf.shape) for leaf in leaves) == count, name


def test_volumes_that_the_poolings_do_not_divide():
    volume = np.zeros((1, 8, 8, 10), np.float32)
    for name in ("dlir", "pasta"):
        with pytest.raises(errors.UserError, match="multiple of 4"):
            create(name).init(jax.random.key(0), volume, volume)


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
    result = jax.jit(pasta.compose_affine)(
        *map(jnp.asarray, (shift, sines, shears, scales, centre))
    )
    np.testing.assert_allclose(result[:3, :3], linear, atol=1e-6)
    offset = centre + linear @ (shift - centre)
    np.testing.assert_allclose(result[:3, 3], offset, atol=1e-6)


def test_pasta_stays_within_its_ranges():
    """Above a range nothing passes, below it a hundredth of what passes within."""
    head = pasta.Head(3, 0.4)
    apply = jax.jit(head.apply)
    params = head.init(jax.random.key(0), jnp.zeros((1, 4)))
    for place, value in ((0.0, 0.0), (0.25, 0.2), (9.0, 0.4), (-0.5, -0.4)):
        bias = params["params"]["parameters"]["regressor"]
        bias["bias"], bias["kernel"] = jnp.full(3, place), jnp.zeros((2, 3))
        result, within = apply(params, jnp.zeros((1, 4)))
        np.testing.assert_allclose(result, value, atol=1e-6)
        assert bool(within.all()) == (place < 0.5)
