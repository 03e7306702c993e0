"""The similarity pyramid (Eq. 3) against its formula and golden values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import images
from mdvit_jax import geometry, losses
from oracle import similarity

SHAPE = (17, 14, 20)
NTG4 = functools.partial(losses.ntg, stride=4)


def compiled(loss, fixed, warped, **options):
    pyramid_loss = functools.partial(losses.similarity_pyramid, loss, **options)
    return jax.jit(pyramid_loss)(fixed, warped)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_value_equals_the_formula(levels):
    fixed, warped = images.smooth(1, SHAPE), images.smooth(2, SHAPE)
    result = compiled(NTG4, fixed, warped, levels=levels)
    slow = functools.partial(similarity.ntg, stride=4)
    expected = similarity.pyramid(slow, fixed, warped, levels, kernel=5)
    assert float(result) == pytest.approx(expected, rel=1e-5)


def test_any_loss_and_one_for_each_level():
    def squares(fixed, warped):
        return ((fixed - warped) ** 2).mean((-3, -2, -1))

    def largest(fixed, warped):
        return jnp.abs(fixed - warped).max((-3, -2, -1))

    fixed, warped = images.noise(3, (2, *SHAPE)), images.noise(4, (2, *SHAPE))
    result = compiled([squares, largest], fixed, warped, levels=2, pool=3)
    coarse = [geometry.pool(v, kernel=3) for v in (fixed, warped)]
    expected = squares(fixed, warped) + largest(*coarse) / 2
    assert result.shape == (2,)
    assert result == pytest.approx(np.asarray(expected), rel=1e-6)


def test_golden_ntg(golden):
    loss = functools.partial(losses.ntg, stride=1)
    value = compiled(loss, golden["fixed"], golden["moving"])
    assert float(value) == pytest.approx(
        golden["loss/ntg_pyramid_stride1_kernel5"], abs=1e-5
    )


def test_golden_ncc(golden):
    """Three levels of weight 1, ½ and ¼: ours is 1¾ above minus the mean of cc²."""
    levels = [functools.partial(losses.ncc, window=w) for w in (7, 5, 3)]
    result = compiled(levels, golden["fixed"], golden["moving"], pool=3)
    expected = golden["loss/ncc_pyramid_window7"]
    assert float(result) - 1.75 == pytest.approx(expected, abs=1e-5)


def test_equal_images_are_at_zero_and_the_gradient_is_finite():
    image = jnp.asarray(images.noise(5, SHAPE))
    value, gradient = jax.jit(
        jax.value_and_grad(functools.partial(losses.similarity_pyramid, NTG4))
    )(image, image)
    assert value == 0 and np.isfinite(gradient).all()


def test_levels_are_pooled_in_single_precision():
    fixed, warped = (jnp.asarray(images.noise(s, SHAPE), jnp.bfloat16) for s in (6, 7))
    result = compiled(NTG4, fixed, warped)
    expected = compiled(NTG4, fixed.astype(jnp.float32), warped.astype(jnp.float32))
    assert result.dtype == jnp.float32 and result == expected


def test_registers_a_translation_by_descent():
    """The whole chain: matrix → warp → pyramid → gradient, on an asymmetric volume."""
    moving = jnp.asarray(images.smooth(8, (24, 28, 32), sigma=3))

    @jax.jit
    def moved(offset):
        return geometry.warp_affine(moving, geometry.translation_matrix(offset))

    @jax.jit
    @jax.value_and_grad
    def step(offset):
        return losses.similarity_pyramid(losses.ntg, fixed, moved(offset), levels=2)

    true = np.array([0.10, -0.07, 0.05], np.float32)
    fixed = moved(true)
    offset, rate = np.zeros(3, np.float32), np.float32(0.02)
    start, _ = step(offset)
    for _ in range(60):
        value, gradient = step(offset)
        offset -= rate * np.asarray(gradient) / np.linalg.norm(gradient)
        rate *= np.float32(0.94)
    assert value < 0.1 * start
    assert offset == pytest.approx(true, abs=5e-3)


@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_arguments_are_named():
    volume = images.noise(9, SHAPE)
    with pytest.raises(ValueError, match="3 levels need 3 losses, not 2"):
        losses.similarity_pyramid([NTG4, NTG4], volume, volume)
    with pytest.raises(ValueError, match="one level at least, not 0"):
        losses.similarity_pyramid(NTG4, volume, volume, levels=0)
    with pytest.raises(ValueError, match=r"\(17, 14, 20\) and \(1, 14, 20\) differ"):
        losses.similarity_pyramid(NTG4, volume, volume[:1])


def test_pairs_on_several_devices_stay_where_they_are(run_python):
    """Sharded over four devices by pair: the same result, and nothing is exchanged."""
    program = """
import functools
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_disable_most_optimizations", True)  # quicker to compile
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from mdvit_jax import geometry, losses

mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
by_pair = NamedSharding(mesh, PartitionSpec("data"))
fixed, moving = np.random.default_rng(0).random((2, 4, 12, 14, 17), np.float32)
matrices = geometry.affine_matrix(
    jnp.asarray(np.random.default_rng(1).uniform(-0.1, 0.1, (4, 12)), jnp.float32)
)

def objective(loss):
    def value(matrices, fixed, moving):
        warped = geometry.warp_affine(moving, matrices)
        return losses.similarity_pyramid(loss, fixed, warped, levels=2).sum()
    return jax.value_and_grad(value)

def everything(matrices, fixed, moving):
    return {
        "ntg": objective(losses.ntg)(matrices, fixed, moving),
        "ncc": objective(losses.ncc)(matrices, fixed, moving),
        "to the image": jax.grad(lambda w: losses.ntg(fixed, w).sum())(moving),
        "labels": geometry.warp_affine(moving, matrices, order=0),
        "centre": geometry.centre_shift(fixed, moving),
    }

arguments = matrices, fixed, moving
alone = jax.jit(everything)(*arguments)
shared = [jax.device_put(a, by_pair) for a in arguments]
compiled = jax.jit(everything).lower(*shared).compile()
for exchange in ("all-gather", "all-to-all", "collective-permute"):
    assert exchange not in compiled.as_text(), exchange
jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6),
    compiled(*shared), alone,
)
print("equal")
"""
    run = run_python(program)
    assert run.stdout == "equal\n"
