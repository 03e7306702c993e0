"""Halving and pooling against means of windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from helpers import images
from mdvit_jax import geometry
from oracle import pooling


def test_halve_is_the_mean_of_each_block():
    volume = images.noise(1, (2, 12, 8, 6))
    blocks = volume.reshape(2, 6, 2, 4, 2, 3, 2).mean((2, 4, 6))
    assert geometry.halve(volume) == pytest.approx(blocks, abs=1e-6)


def test_halving_moves_nothing():
    """One matrix serves all levels: a linear image stays the same function."""

    def linear(shape):
        x, y, z = (np.asarray(geometry.voxel_centres(n)) for n in shape)
        return 0.5 * x[:, None, None] - 0.8 * y[:, None] + 1.1 * z

    levels = geometry.image_pyramid(linear((16, 20, 12)), 3)
    for level in levels:
        assert level == pytest.approx(linear(level.shape), abs=1e-6)


def test_image_pyramid_is_coarse_first():
    volume = images.noise(3, (3, 16, 8, 12))
    levels = geometry.image_pyramid(volume, 3)
    assert [v.shape for v in levels] == [(3, 4, 2, 3), (3, 8, 4, 6), (3, 16, 8, 12)]
    assert np.array_equal(levels[-1], volume)
    assert np.array_equal(levels[0], geometry.halve(levels[1]))


def test_odd_sizes_cannot_be_halved():
    with pytest.raises(ValueError, match=r"even sizes .* not \(12, 14, 17\)"):
        geometry.halve(images.noise(0))


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_pool_equals_means_of_windows(kernel):
    volume = images.noise(4)
    result = geometry.pool(volume, kernel=kernel)
    assert result.shape == (6, 7, 9)
    assert result == pytest.approx(pooling.pool(volume, kernel), abs=1e-6)


def test_pool_of_batches_and_thin_volumes():
    volumes = images.noise(5, (2, 3, 5, 1, 8))
    result = geometry.pool(volumes, kernel=5)
    assert result.shape == (2, 3, 3, 1, 4)
    for index in np.ndindex(2, 3):
        expected = pooling.pool(volumes[index], 5)
        assert result[index] == pytest.approx(expected, abs=1e-6)


def test_pool_keeps_a_constant():
    """Also at the border: voxels outside are not counted."""
    assert geometry.pool(jnp.full((7, 9, 6), 0.7), kernel=5) == pytest.approx(0.7)


@pytest.mark.parametrize("kernel", [0, 2, -3])
def test_the_kernel_is_odd(kernel):
    with pytest.raises(ValueError, match=f"odd number, not {kernel}"):
        geometry.pool(images.noise(0), kernel=kernel)


@pytest.mark.parametrize(
    "coarser", [geometry.halve, lambda v: geometry.pool(v, kernel=5)]
)
def test_means_are_taken_in_single_precision(coarser):
    volume = images.noise(6, (4, 6, 8))
    half = jnp.asarray(volume, jnp.bfloat16)
    expected = coarser(half.astype(jnp.float32))
    result = coarser(half)
    assert result.dtype == jnp.float32 and np.array_equal(result, expected)
    counts = np.full((4, 6, 8), 200, np.uint8)
    assert np.array_equal(coarser(counts), np.full((2, 3, 4), 200))


@pytest.mark.parametrize(
    "coarser", [geometry.halve, lambda v: geometry.pool(v, kernel=5)]
)
def test_gradient(coarser):
    with jax.enable_x64(True):
        volume = jnp.asarray(images.noise(7, (2, 6, 4, 8)), float)
        test_util.check_grads(jax.jit(coarser), (volume,), order=1)
