"""The 12 parameters and their matrix, against products of 4×4 matrices and laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import test_util
from scipy import ndimage

from helpers import images
from mdvit_jax import geometry
from oracle import affine

# Compiled whole: primitive by primitive takes ten times as long to compile.
affine_matrix = jax.jit(geometry.affine_matrix)
centre_of_mass = jax.jit(geometry.centre_of_mass)
centre_shift = jax.jit(geometry.centre_shift)
warp_affine = jax.jit(geometry.warp_affine)

parameter_sets = st.lists(
    st.floats(-1, 1, width=32), min_size=12, max_size=12, unique=False
)


def random_parameters(seed: int, *batch: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (*batch, 12)).astype(np.float32)


def random_matrix(seed: int) -> np.ndarray:
    return affine.matrix(0.3 * random_parameters(seed), (0.1, -0.2, 0.05))


@pytest.mark.parametrize("seed", range(5))
def test_matrix_equals_the_product(seed):
    parameters = random_parameters(seed)
    centre = random_parameters(seed + 100)[:3]
    assert affine_matrix(parameters) == pytest.approx(
        affine.matrix(parameters), abs=3e-6
    )
    assert affine_matrix(parameters, centre=jnp.asarray(centre)) == (
        pytest.approx(affine.matrix(parameters, centre), abs=3e-6)
    )


@settings(max_examples=60, deadline=None)
@given(parameters=parameter_sets, centre=st.tuples(*[st.floats(-1, 1, width=32)] * 3))
def test_matrix_equals_the_product_in_double_precision(parameters, centre):
    with jax.enable_x64(True):
        result = affine_matrix(
            jnp.asarray(parameters, float), centre=jnp.asarray(centre, float)
        )
    assert result == pytest.approx(affine.matrix(parameters, centre), abs=1e-13)


def test_each_parameter_has_its_place():
    """Order and units: translation, rotation, shear, scale, each along x, y, z."""

    def matrix_with(index, value):
        return np.asarray(affine_matrix(jnp.zeros(12).at[index].set(value)))

    for axis in range(3):
        assert matrix_with(axis, 0.3)[axis, 3] == pytest.approx(0.3)
        assert matrix_with(9 + axis, 0.4)[axis, axis] == pytest.approx(1.2)
    y, z = np.eye(3)[1:]
    quarter = matrix_with(3, 0.5)[:3, :3]  # a quarter turn about x takes y to z
    assert quarter @ y == pytest.approx(z, abs=1e-6)
    for index, place in ((6, (0, 1)), (7, (0, 2)), (8, (1, 2))):
        assert matrix_with(index, 0.1)[place] == pytest.approx(0.1 * np.pi)


def test_zero_is_the_identity_exactly():
    assert np.array_equal(affine_matrix(jnp.zeros(12)), np.eye(4))
    centre = jnp.array([0.3, -0.1, 0.7])
    shifted = affine_matrix(jnp.zeros((2, 12)), centre=jnp.stack([centre] * 2))
    assert np.array_equal(shifted, np.stack([np.eye(4)] * 2))


def test_only_translation_moves_the_centre():
    parameters, centre = random_parameters(3), np.array([0.2, -0.3, 0.1], np.float32)
    translation = parameters[:3].copy()
    matrix = affine_matrix(parameters, centre=jnp.asarray(centre))
    # The translation acts first: the point that far before the centre lands on it.
    assert affine.apply(matrix, centre - translation) == pytest.approx(centre, abs=1e-5)


def test_rotation_alone_is_orthonormal():
    parameters = np.zeros((7, 12), np.float32)
    parameters[:, 3:6] = random_parameters(4, 7)[:, 3:6]
    linear = np.asarray(affine_matrix(parameters))[:, :3, :3]
    assert linear @ np.swapaxes(linear, -1, -2) == pytest.approx(
        np.stack([np.eye(3)] * 7), abs=1e-6
    )
    assert np.linalg.det(linear) == pytest.approx(1, abs=1e-6)


def test_volume_changes_by_the_scales_alone():
    parameters = random_parameters(5, 9)
    determinants = np.linalg.det(np.asarray(affine_matrix(parameters)))
    scales = np.prod(1 + parameters[:, 9:] / 2, axis=-1)
    assert determinants == pytest.approx(scales, rel=1e-4)


def test_composing_and_applying_commute():
    first, second, third = (random_matrix(seed) for seed in (1, 2, 3))
    points = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    one_by_one = affine.apply(first, affine.apply(second, affine.apply(third, points)))
    with jax.enable_x64(True):
        at_once = geometry.compose(*map(jnp.asarray, (first, second, third)))
    assert affine.apply(at_once, points) == pytest.approx(one_by_one, abs=1e-13)
    inverse = jnp.asarray(np.linalg.inv(first), jnp.float32)
    there_and_back = geometry.compose(jnp.asarray(first, jnp.float32), inverse)
    assert there_and_back == pytest.approx(np.eye(4), abs=1e-6)


def test_batches_jit_and_vmap_agree():
    parameters = random_parameters(6, 2, 3)
    centre = jnp.asarray(random_parameters(7, 2, 3)[..., :3])
    batched = affine_matrix(parameters, centre=centre)
    assert batched.shape == (2, 3, 4, 4)
    for index in np.ndindex(2, 3):
        alone = affine_matrix(parameters[index], centre=centre[index])
        assert batched[index] == pytest.approx(np.asarray(alone), abs=1e-6)

    def affine(parameters, centre):
        return geometry.affine_matrix(parameters, centre=centre)

    compiled = jax.jit(jax.vmap(affine))(parameters, centre)
    assert compiled == pytest.approx(np.asarray(batched), abs=1e-6)


def test_gradients():
    @jax.jit
    def value(parameters, centre):
        return geometry.affine_matrix(parameters, centre=centre)

    with jax.enable_x64(True):
        parameters = jnp.asarray(random_parameters(8, 3), float).at[2].set(0)
        centre = jnp.asarray(random_parameters(9, 3)[:, :3], float)
        test_util.check_grads(value, (parameters, centre), order=2)


def test_computed_in_single_precision_at_least():
    assert affine_matrix(jnp.ones(12, jnp.bfloat16)).dtype == jnp.float32
    volume = jnp.asarray(images.noise(1), jnp.bfloat16)
    assert centre_of_mass(volume).dtype == jnp.float32


def test_another_number_of_parameters_is_refused():
    with pytest.raises(ValueError, match="12 parameters are expected, not 6"):
        geometry.affine_matrix(jnp.zeros((3, 6)))


def test_centre_of_mass_equals_scipy():
    volumes = np.stack([images.smooth(s) ** 4 for s in range(4)]).reshape(
        2, 2, *images.SHAPE
    )
    centre = np.asarray(centre_of_mass(volumes))
    for index in np.ndindex(2, 2):
        voxel = ndimage.center_of_mass(volumes[index].astype(float))
        expected = (2 * np.array(voxel) + 1) / images.SHAPE - 1
        assert centre[index] == pytest.approx(expected, abs=1e-6)


def test_centre_of_mass_of_one_voxel_and_of_mirror_images():
    point = np.zeros(images.SHAPE, np.float32)
    point[2, 3, 16] = 5
    expected = (2 * np.array([2, 3, 16]) + 1) / images.SHAPE - 1
    assert centre_of_mass(point) == pytest.approx(expected, abs=1e-6)
    volume = images.smooth(5)
    mirrored = centre_of_mass(volume[::-1, ::-1, ::-1].copy())
    expected = -np.asarray(centre_of_mass(volume))
    assert mirrored == pytest.approx(expected, abs=1e-6)


def test_centre_of_mass_of_a_large_volume_keeps_its_digits():
    volume = np.ones((64, 72, 80), np.float32)
    volume[:, :, 40:] = 0.5
    expected = (np.array([0, 0, -0.5]) * 1 + np.array([0, 0, 0.5]) * 0.5) / 1.5
    assert centre_of_mass(volume) == pytest.approx(expected, abs=1e-6)


def test_an_empty_volume_has_a_centre_and_a_finite_gradient():
    empty = jnp.zeros(images.SHAPE)
    assert np.array_equal(centre_of_mass(empty), np.zeros(3))
    gradient = jax.jit(jax.grad(lambda v: geometry.centre_of_mass(v).sum()))(empty)
    assert np.isfinite(gradient).all()


def test_centre_of_mass_gradient():
    with jax.enable_x64(True):
        volume = jnp.asarray(images.smooth(6), float)
        test_util.check_grads(centre_of_mass, (volume,), order=2)


def test_centre_shift_lays_the_centres_on_each_other():
    moving = np.zeros(images.SHAPE, np.float32)
    moving[5:8, 4:8, 6:11] = images.noise(7)[5:8, 4:8, 6:11]
    fixed = np.roll(moving, (2, -1, 3), (0, 1, 2))
    shift = centre_shift(fixed, moving)
    assert warp_affine(moving, shift) == pytest.approx(fixed, abs=1e-5)
    assert shift == pytest.approx(
        np.asarray(geometry.translation_matrix(jnp.array([-4 / 12, 2 / 14, -6 / 17]))),
        abs=1e-6,
    )


def torch_coordinates(shape) -> np.ndarray:
    """4×4 from our normalised coordinates to PyTorch's, corner-aligned and x last."""
    matrix = np.zeros((4, 4))
    for axis, n in enumerate(shape):
        matrix[2 - axis, axis] = n / (n - 1)
    matrix[3, 3] = 1
    return matrix


def test_golden_matrix_and_warp(golden):
    moving = golden["moving"]
    to_torch = torch_coordinates(moving.shape)
    centre = affine.apply(to_torch, np.asarray(centre_of_mass(moving)))
    matrix = affine_matrix(
        golden["affine/parameters"][0], centre=jnp.asarray(centre, jnp.float32)
    )
    assert np.asarray(matrix)[:3] == pytest.approx(golden["affine/matrix"], abs=1e-5)
    ours = np.linalg.inv(to_torch) @ np.asarray(matrix, float) @ to_torch
    warped = warp_affine(moving, jnp.asarray(ours, jnp.float32))
    assert warped == pytest.approx(golden["affine/warped"], abs=1e-4)


def test_golden_centre_shift(golden):
    fixed, moving = golden["fixed"], golden["moving"]
    warped = warp_affine(moving, centre_shift(fixed, moving))
    assert warped == pytest.approx(golden["com/warped"], abs=1e-4)
