"""KeyMorph: its closed form, its laws, and its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from configs import default
from mdvit_jax import errors, geometry, models
from mdvit_jax.models import keymorph

pytestmark = pytest.mark.usefixtures("quick_compilation")


def points(seed: int, count: int = 20):
    random = np.random.default_rng(seed)
    fixed, noise = random.uniform(-0.6, 0.6, (2, 3, count, 3))
    linear = np.eye(3) + random.uniform(-0.4, 0.4, (3, 3, 3))
    moving = fixed @ linear.transpose(0, 2, 1) + random.uniform(-0.2, 0.2, (3, 1, 3))
    return fixed, moving, noise, random.uniform(0, 1, (3, count))


fit_affine = jax.jit(keymorph.fit_affine)


def fit(*arrays) -> np.ndarray:
    return np.asarray(fit_affine(*map(np.float32, arrays)))


def test_exact_points_give_the_exact_affine():
    fixed, moving, _, weights = points(0)
    matrix = fit(fixed, moving, weights)
    homogeneous = np.concatenate([fixed, np.ones_like(fixed[..., :1])], axis=-1)
    mapped = (homogeneous @ matrix.transpose(0, 2, 1))[..., :3]
    np.testing.assert_allclose(mapped, moving, atol=2e-3)
    # Also for a quarter turn and more.
    turned = fixed[..., [1, 0, 2]] * [1, -1, 1]
    matrix = fit(fixed, turned, weights)
    expected = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(matrix[0, :3, :3], expected, atol=1e-3)


def test_it_is_numpys_weighted_least_squares():
    fixed, moving, noise, weights = points(1)
    moving = moving + 0.1 * noise
    result = fit(fixed, moving, weights)
    for i in range(3):
        root = np.sqrt(weights[i])[:, None]
        design = np.column_stack([fixed[i], np.ones(20)])
        expected = np.linalg.lstsq(design * root, moving[i] * root, rcond=None)[0].T
        np.testing.assert_allclose(result[i, :3], expected, atol=2e-3)
        assert (result[i, 3] == [0, 0, 0, 1]).all()


def test_the_misfit():
    fixed, moving, noise, weights = points(3)
    matrix = fit(fixed, moving, weights)
    exact = keymorph.misfit(fixed, moving, weights, matrix)
    np.testing.assert_allclose(exact, 0, atol=1e-2)
    moving = moving + noise
    result = keymorph.misfit(fixed, moving, weights, matrix)
    for i in range(3):
        mapped = fixed[i] @ matrix[i, :3, :3].T + matrix[i, :3, 3]
        squares = np.average(((mapped - moving[i]) ** 2).sum(1), weights=weights[i])
        spread = np.cov(moving[i].T, aweights=weights[i], ddof=0)
        expected = np.sqrt(squares / np.linalg.eigvalsh(spread).min())
        np.testing.assert_allclose(result[i], expected, rtol=1e-4)
    nothing = keymorph.misfit(fixed, moving, 0 * weights, matrix)
    in_a_plane = keymorph.misfit(fixed, moving * [1, 1, 0], weights, matrix)
    assert np.isinf([*nothing, *in_a_plane]).all()


def test_the_gradient_of_the_fit():
    with jax.enable_x64(True):
        fixed, moving, noise, weights = points(2, 8)
        arrays = fixed, moving + noise, weights
        test_util.check_grads(fit_affine, arrays, order=1, modes=["rev"])


def made(first_stride: int = 1, heat_maps: str = "relu"):
    config = default.get_config()
    config.model.name = "keymorph"
    config.model.update({"channels": (6, 8), "keypoints": 12})
    config.model.first_stride = first_stride
    config.model.heat_maps = heat_maps
    network = models.create(config)
    fixed = np.random.default_rng(0).random((2, 16, 20, 24), np.float32)
    fixed[:, :3] = fixed[:, -3:] = fixed[:, :, :3] = fixed[:, :, -3:] = 0
    fixed[..., :3] = fixed[..., -3:] = 0
    params = network.init(jax.random.key(0), fixed, fixed)
    return network, params, fixed


def test_the_solution_follows_what_moves_the_points():
    """If T moves the moving points, the answer becomes T after the answer."""
    fixed, moving, noise, weights = points(3)
    moving = moving + 0.1 * noise
    random = np.random.default_rng(4)
    linear, shift = np.eye(3) + random.uniform(-0.5, 0.5, (3, 3)), random.random(3)
    plain = fit(fixed, moving, weights)
    followed = fit(fixed, moving @ linear.T + shift, weights)
    expected = np.eye(4)
    expected[:3, :3], expected[:3, 3] = linear, shift
    np.testing.assert_allclose(followed, expected @ plain, atol=3e-3)


def test_a_volume_and_itself_give_the_identity():
    network, params, fixed = made()
    estimate = jax.jit(network.apply)(params, fixed, fixed)
    identity = np.tile(np.eye(4), (2, 1, 1))
    np.testing.assert_allclose(estimate.matrix, identity, atol=1e-3)
    assert len(estimate.stages) == 1 and estimate.stages[0].active.shape == (2, 12)


def test_the_estimate_includes_where_it_started():
    network, params, fixed = made()
    fixed[:, 9:] = 0  # so that nothing comes back on the other side
    moving = np.roll(fixed, 4, axis=1)
    estimate = jax.jit(network.from_centres)(params, fixed, moving)
    assert float(estimate.matrix[0, 0, 3]) == pytest.approx(2 * 4 / 16, abs=0.02)
    warped = jax.jit(geometry.warp_affine)(moving, estimate.matrix)
    assert estimate.warped == pytest.approx(np.asarray(warped), abs=1e-5)


@pytest.mark.parametrize(("first_stride", "heat_maps"), [(1, "relu"), (2, "softplus")])
def test_every_parameter_gets_a_gradient(first_stride, heat_maps):
    network, params, fixed = made(first_stride, heat_maps)
    moving = np.roll(fixed, 2, axis=2) ** 2

    def loss(params):
        matrix = network.apply(params, fixed, moving).matrix
        return (matrix[:, :3] ** 2).sum()

    gradient = jax.jit(jax.grad(loss))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        name = jax.tree_util.keystr(path)
        assert jnp.isfinite(leaf).all() and jnp.abs(leaf).max() > 0, name


def test_a_keypoint_whose_map_is_negative_can_come_back():
    silent = {}
    for heat_maps in keymorph.HEAT_MAPS:
        network, params, fixed = made(2, heat_maps)
        params["detector"]["keypoints"]["bias"] -= 10.0

        config = network.module.config

        def loss(params, config=config, fixed=fixed):
            return keymorph.detect(config, params, fixed)[1].sum()

        bias = jax.jit(jax.grad(loss))(params)["detector"]["keypoints"]["bias"]
        silent[heat_maps] = bool((bias == 0).all())
    assert silent == {"relu": True, "softplus": False}


def test_a_stride_leaves_fewer_places_for_the_same_points():
    network, params, fixed = made(2)
    detect = jax.jit(functools.partial(keymorph.detect, network.module.config))
    points, strengths = detect(params, fixed)
    assert points.shape == (2, 12, 3) and strengths.shape == (2, 12)
    assert jnp.abs(points).max() < 1
    with pytest.raises(errors.UserError, match="must be a multiple of 4"):
        network.apply(params, fixed[:, :, :, :22], fixed[:, :, :, :22])
