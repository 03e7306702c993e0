"""Augmentation: what is drawn, how often, and that both scans and labels follow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from configs import default
from mdvit_jax import geometry
from mdvit_jax.training import augment

pytestmark = pytest.mark.usefixtures("quick_compilation")

NONE = augment.settings(default.get_config().augment)._replace(flip=0.0, rotate=0.0)
N = 12

# Compiled whole: primitive by primitive takes ten times as long to compile.
augmented = jax.jit(augment.augment, static_argnums=3)
random_matrix = jax.jit(augment.random_matrix, static_argnums=1)
random_matrices = jax.jit(jax.vmap(augment.random_matrix, (0, None)), static_argnums=1)
warp_affine = jax.jit(geometry.warp_affine, static_argnames="order")


def keys(number: int, count: int):
    return jax.random.split(jax.random.key(number), (count, 2))


def volumes(count=1, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, N, N, N), np.float32)


def test_without_augmentation_nothing_changes():
    fixed, moving = volumes(2), volumes(2, seed=1)
    result = augmented(keys(0, 2), fixed, moving, NONE)
    np.testing.assert_array_equal(result[0], fixed)
    np.testing.assert_array_equal(result[1], moving)


def test_a_flip_reverses_one_random_axis_exactly():
    settings = NONE._replace(flip=1.0)
    fixed = volumes(60)
    flipped, also = augmented(keys(1, 60), fixed, fixed, settings)
    np.testing.assert_array_equal(flipped, also)
    counts = np.zeros(3, int)
    for before, after in zip(fixed, np.asarray(flipped), strict=True):
        same = [np.abs(np.flip(before, axis) - after).max() < 1e-5 for axis in range(3)]
        assert sum(same) == 1
        counts += same
    assert counts.min() > 8


def test_rotations_are_about_x_within_their_limits():
    settings = NONE._replace(rotate=1.0)
    keys = jax.random.split(jax.random.key(2), 400)
    matrices = np.asarray(random_matrices(keys, settings))
    np.testing.assert_allclose(
        matrices[:, 0], np.tile([1, 0, 0, 0], (400, 1)), atol=1e-6
    )
    angles = np.rad2deg(np.arctan2(matrices[:, 2, 1], matrices[:, 1, 1]))
    assert np.abs(angles).max() <= 30.001
    assert angles.min() < -27 and angles.max() > 27
    assert abs(angles.mean()) < 3
    np.testing.assert_allclose(np.linalg.det(matrices), 1, rtol=1e-5)


def test_the_rotation_is_that_of_scipy():
    volume = ndimage.gaussian_filter(volumes()[0], 1.5)
    matrix = random_matrix(jax.random.key(5), NONE._replace(rotate=1.0))
    warped = warp_affine(jnp.asarray(volume), matrix)
    angle = np.rad2deg(np.arctan2(matrix[2, 1], matrix[1, 1]))
    assert abs(angle) > 3
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    middle = np.full(3, (N - 1) / 2)
    oracle = ndimage.affine_transform(
        volume, turn, middle - turn @ middle, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(warped, oracle, atol=1e-4)


def test_flips_and_rotations_have_their_probabilities():
    settings = NONE._replace(flip=0.5, rotate=0.25)
    keys = jax.random.split(jax.random.key(3), 2000)
    matrices = np.asarray(random_matrices(keys, settings))
    flipped = np.linalg.det(matrices[:, :3, :3]) < 0
    turned = np.abs(matrices[:, 1, 2]) > 1e-6
    assert flipped.mean() == pytest.approx(0.5, abs=0.05)
    assert turned.mean() == pytest.approx(0.25, abs=0.05)
    assert (flipped & turned).mean() == pytest.approx(0.125, abs=0.04)


def test_labels_follow_the_image():
    """The matrix drawn from a pair's key moves labels as `augment` moves images."""
    labels = np.zeros((1, N, N, N), np.int32)
    labels[0, 2:5, 3:9, 6:11] = 1035
    settings, image = NONE._replace(flip=1.0, rotate=1.0), (labels > 0).astype("f4")
    pair_keys = keys(4, 1)
    moved, _ = augmented(pair_keys, image, image, settings)
    matrix = random_matrix(pair_keys[0, 0], settings)
    warped = np.asarray(warp_affine(labels[0], matrix, order=0))
    assert set(np.unique(warped)) == {0, 1035} and warped.dtype == np.int32
    assert ((warped > 0) == (np.asarray(moved[0]) > 0.5)).mean() > 0.98
    assert (warped != labels[0]).any()


def test_gamma_changes_the_moving_image_alone():
    settings = NONE._replace(gamma=0.5)
    fixed, moving = volumes(40), volumes(40, seed=1)
    same, changed = augmented(keys(6, 40), fixed, moving, settings)
    np.testing.assert_array_equal(same, fixed)
    exponents = np.log(np.asarray(changed)) / np.log(moving)
    logs = np.log(np.median(exponents, axis=(1, 2, 3)))
    np.testing.assert_allclose(
        exponents, np.exp(logs)[:, None, None, None] * np.ones((1, N, N, N)), rtol=2e-3
    )
    assert np.abs(logs).max() < 0.501 and logs.min() < -0.3 and logs.max() > 0.3


def test_pairs_draw_independently_and_reproducibly():
    settings = NONE._replace(rotate=1.0)
    volume = np.repeat(volumes(), 2, axis=0)
    (first, second), _ = augmented(keys(7, 2), volume, volume, settings)
    assert np.abs(np.asarray(first) - np.asarray(second)).max() > 0.01
    again, _ = augmented(keys(7, 2), volume, volume, settings)
    np.testing.assert_array_equal(again[0], first)
