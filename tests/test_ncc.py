"""Local NCC against its formula, golden values and laws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from helpers import images
from mdvit_jax import losses
from oracle import similarity

SHAPE = (8, 9, 11)
# Compiled whole: primitive by primitive takes ten times as long to compile.
ncc = jax.jit(losses.ncc, static_argnames="window")


@pytest.mark.parametrize("window", [1, 3, 5, 7])
def test_value_equals_the_formula(window):
    fixed, warped = images.smooth(1, SHAPE), images.smooth(2, SHAPE)
    result = ncc(fixed, warped, window=window)
    expected = similarity.ncc(fixed, warped, window)
    assert float(result) == pytest.approx(expected, abs=2e-5)
    with jax.enable_x64(True):
        fixed, warped = jnp.asarray(fixed, float), jnp.asarray(warped, float)
        precise = ncc(fixed, warped, window=window)
    assert float(precise) == pytest.approx(expected, abs=1e-10)


def test_a_window_wider_than_the_volume():
    fixed, warped = images.noise(3, (4, 2, 5)), images.noise(4, (4, 2, 5))
    expected = similarity.ncc(fixed, warped, 7)
    assert float(ncc(fixed, warped)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("window", [3, 5, 7])
def test_golden(golden, window):
    """The golden value is the negative mean of cc², ours its distance from 1."""
    result = ncc(golden["fixed"], golden["moving"], window=window)
    expected = golden[f"loss/ncc_window{window}"]
    assert float(result) - 1 == pytest.approx(expected, abs=1e-5)


def test_laws():
    fixed, warped = images.noise(5), images.noise(6)
    value = float(ncc(fixed, warped))
    assert 0.5 < value <= 1
    assert float(ncc(warped, fixed)) == pytest.approx(value, abs=1e-6)
    # Blind to the contrast of either image, even to its sign.
    for contrast in (2.0, -1.5):
        other = ncc(fixed, contrast * warped)
        assert float(other) == pytest.approx(value, abs=1e-4)
        # ε is not negligible beside the variances of small windows.
        same = ncc(fixed, contrast * fixed, window=5)
        assert float(same) == pytest.approx(0, abs=1e-3)


def test_flat_and_empty_images():
    """No correlation: 1, and a gradient that is finite."""
    image = jnp.asarray(images.noise(7))
    step = jax.jit(jax.value_and_grad(losses.ncc, argnums=(0, 1)))
    for fixed, warped in (
        (jnp.zeros_like(image), jnp.zeros_like(image)),
        (jnp.zeros_like(image), image),
        (image, jnp.zeros_like(image)),
    ):
        value, gradients = step(fixed, warped)
        assert float(value) == pytest.approx(1, abs=1e-6)
        assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("brightness", [1.0, 30.0])
def test_rounding_never_makes_a_variance_negative(brightness):
    """A window that is flat and bright has a variance of about ±1e-4 by rounding."""
    rng = np.random.default_rng(8)
    fixed = np.full(images.SHAPE, brightness, np.float32)
    fixed[:, :, 12:] += rng.random((12, 14, 5), np.float32)
    warped = rng.random(images.SHAPE, np.float32) * brightness
    step = jax.jit(jax.value_and_grad(losses.ncc, argnums=(0, 1)))
    value, gradients = step(fixed, warped)
    expected = similarity.ncc(fixed, warped, 7)
    assert float(value) == pytest.approx(expected, abs=1e-3)
    with jax.enable_x64(True):
        _, precise = step(jnp.asarray(fixed, float), jnp.asarray(warped, float))
    for result, exact in zip(gradients, precise, strict=True):
        assert result == pytest.approx(np.asarray(exact), abs=1e-3)


def test_each_pair_has_its_own_value():
    fixed, warped = images.noise(9, (2, 3, *SHAPE)), images.noise(10, (2, 3, *SHAPE))
    together = np.asarray(ncc(fixed, warped, window=5))
    assert together.shape == (2, 3)
    for index in np.ndindex(2, 3):
        alone = ncc(fixed[index], warped[index], window=5)
        assert together[index] == pytest.approx(float(alone), abs=1e-6)
    loss = functools.partial(losses.ncc, window=5)
    mapped = jax.jit(jax.vmap(jax.vmap(loss)))(fixed, warped)
    assert mapped == pytest.approx(together, abs=1e-6)


def test_gradients():
    with jax.enable_x64(True):
        fixed, warped = (
            jnp.asarray(images.smooth(s, (2, 6, 7, 9)), float) for s in (11, 12)
        )
        loss = jax.jit(functools.partial(losses.ncc, window=5))
        test_util.check_grads(loss, (fixed, warped), order=1)
        direction = jnp.asarray(images.noise(13, (2, 6, 7, 9)), float)

        def total(warped):
            return loss(fixed, warped).sum()

        @jax.jit
        def along(warped):
            gradient, second = jax.jvp(jax.grad(total), (warped,), (direction,))
            _, linear = jax.linearize(total, warped)
            return gradient, second, linear(direction)

        gradient, second, linear = along(warped)
        above, below = (along(warped + s * direction)[0] for s in (1e-6, -1e-6))
        difference = (above - below) / 2e-6
        assert second == pytest.approx(np.asarray(difference), rel=1e-4, abs=1e-6)
        assert float(linear) == pytest.approx(float((gradient * direction).sum()))


def test_computed_in_single_precision_at_least():
    fixed, warped = (jnp.asarray(images.noise(s), jnp.bfloat16) for s in (14, 15))
    result = ncc(fixed, warped)
    expected = ncc(fixed.astype(jnp.float32), warped.astype(jnp.float32))
    assert result.dtype == jnp.float32 and result == expected


@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_arguments_are_named():
    volume = images.noise(16)
    with pytest.raises(ValueError, match=r"\(12, 14, 17\) and \(1, 14, 17\) differ"):
        losses.ncc(volume, volume[:1])
    with pytest.raises(ValueError, match=r"\[\*batch, x, y, z\] are expected"):
        losses.ncc(volume[0], volume[0])
    for window in (0, 4, -3):
        with pytest.raises(ValueError, match=f"odd number of voxels, not {window}"):
            losses.ncc(volume, volume, window=window)
