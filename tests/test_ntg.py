"""NTG: against its formula, golden values and SciPy; laws, gradients, both forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import test_util
from scipy import ndimage

from helpers import images
from mdvit_jax import losses
from mdvit_jax.losses import sobel
from oracle import similarity

SHAPE = images.SHAPE
by_form = pytest.mark.parametrize("form", sobel.FORMS)
by_stride = pytest.mark.parametrize("stride", [1, 2, 4])

# Compiled whole: primitive by primitive takes ten times as long to compile.
ntg = jax.jit(losses.ntg, static_argnames=("stride", "form"))
filter_volume = jax.jit(sobel.filter_volume, static_argnames=("axis", "stride", "form"))
filter_transposed = jax.jit(
    sobel.filter_transposed, static_argnames=("axis", "shape", "stride", "form")
)


@functools.partial(jax.jit, static_argnames=("stride", "form"))
def value_and_gradients(fixed, warped, *, stride=1, form="auto"):
    """The values of all pairs, and the gradients of their sum to both images."""

    def total(fixed, warped):
        values = losses.ntg(fixed, warped, stride=stride, form=form)
        return values.sum(), values

    gradients, values = jax.grad(total, (0, 1), has_aux=True)(fixed, warped)
    return values, gradients


# The authors' program reads the matrices of Appendix B as tensors (depth, height,
# width), so that each derivative is strided along the axis before its own.
PROGRAM_AXES = [2, 0, 1]


def pair(seed: int, shape=SHAPE):
    return images.smooth(seed, shape), images.smooth(seed + 50, shape)


# The Sobel filter


@by_form
@pytest.mark.parametrize("axis", range(3))
@by_stride
def test_responses_equal_the_printed_kernels(form, axis, stride):
    volume = images.noise(1)
    strides = [stride if k == axis else 1 for k in range(3)]
    expected = similarity.sobel(volume, axis, strides)
    result = filter_volume(jnp.asarray(volume), axis, stride=stride, form=form)
    assert result == pytest.approx(expected, abs=3e-6)


@by_form
@pytest.mark.parametrize("axis", range(3))
def test_responses_equal_scipy(form, axis):
    volume = images.noise(2)
    expected = ndimage.sobel(volume.astype(float), axis)[1:-1, 1:-1, 1:-1]
    result = filter_volume(jnp.asarray(volume), axis, stride=1, form=form)
    assert result == pytest.approx(expected, abs=3e-6)


@by_form
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("stride", [1, 3, 4])
def test_the_adjoint_is_the_transpose(form, axis, stride):
    """⟨S v, u⟩ = ⟨v, Sᵀ u⟩, in batches."""
    shape = (2, *SHAPE)
    with jax.enable_x64(True):
        volume = jnp.asarray(images.noise(3, shape), float)
        response = filter_volume(volume, axis, stride=stride, form=form)
        other = jnp.asarray(images.noise(4, response.shape), float)
        adjoint = filter_transposed(other, axis, shape, stride=stride, form=form)
    assert adjoint.shape == shape
    assert np.vdot(response, other) == pytest.approx(
        np.vdot(volume, adjoint), rel=1e-13
    )


# The value


@by_form
@by_stride
def test_value_equals_the_formula(form, stride):
    fixed, warped = pair(5)
    expected = similarity.ntg(fixed, warped, stride)
    assert 0.1 < expected < 0.9
    result = ntg(fixed, warped, stride=stride, form=form)
    assert float(result) == pytest.approx(expected, rel=2e-6)


@by_stride
@pytest.mark.parametrize("shape", [(3, 3, 3), (2, 2, 9, 5, 17)])
def test_both_forms_agree_in_value_and_gradient(stride, shape):
    fixed, warped = images.smooth(6, shape), images.smooth(7, shape)
    (one, gradients), (other, other_gradients) = (
        jax.device_get(value_and_gradients(fixed, warped, stride=stride, form=form))
        for form in sobel.FORMS
    )
    assert one.shape == shape[:-3]
    assert one == pytest.approx(other, rel=1e-6)
    apart = np.linalg.norm(np.subtract(gradients, other_gradients))
    assert apart < 1e-6 * np.linalg.norm(other_gradients)


@pytest.mark.parametrize("delta", [1, 2, 4])
def test_golden(golden, delta):
    """The golden values are the authors' program's, whose strides permute the axes."""
    program = [[delta if k == axis else 1 for k in range(3)] for axis in PROGRAM_AXES]
    value = similarity.ntg(golden["fixed"], golden["moving"], program)
    assert value == pytest.approx(golden[f"loss/ntg_stride{delta}"], abs=1e-5)


def test_golden_in_the_papers_own_reading(golden):
    """Without a stride both readings agree; with stride 4 they differ by 1e-2."""
    fixed, moving = golden["fixed"], golden["moving"]
    assert float(ntg(fixed, moving)) == pytest.approx(
        golden["loss/ntg_stride1"], abs=1e-5
    )
    own = float(ntg(fixed, moving, stride=4))
    assert 5e-3 < abs(own - golden["loss/ntg_stride4"]) < 2e-2


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    stride=st.sampled_from([1, 2, 4]),
    contrast=st.floats(0.01, 100),
    blend=st.floats(-1, 1),
)
def test_laws(seed, stride, contrast, blend):
    fixed, other = images.noise(seed, (5, 6, 7)), images.noise(seed + 1, (5, 6, 7))
    warped = (blend * fixed + (1 - abs(blend)) * other).astype(np.float32)
    value = ntg(fixed, warped, stride=stride)
    assert 0 <= value <= 1
    # Symmetric, and blind to a common contrast, common mirror and own brightness.
    assert ntg(warped, fixed, stride=stride) == value
    scaled = ntg(contrast * fixed, contrast * warped, stride=stride)
    assert float(scaled) == pytest.approx(float(value), rel=1e-4, abs=1e-6)
    brighter = ntg(fixed + 0.5, warped - 0.25, stride=stride)
    assert float(brighter) == pytest.approx(float(value), abs=1e-5)
    mirrored = ntg(-fixed, -warped, stride=stride)
    assert mirrored == value


def test_axes_are_treated_alike():
    fixed, warped = pair(8)
    value = float(ntg(fixed, warped, stride=2))
    turned = ntg(fixed.transpose(2, 0, 1), warped.transpose(2, 0, 1), stride=2)
    assert float(turned) == pytest.approx(value, rel=1e-6)


def test_ends_of_the_range():
    image = images.noise(9)
    assert float(ntg(image, image)) == 0
    assert float(ntg(image, -image)) == pytest.approx(1, abs=1e-6)
    flat = np.full(SHAPE, 0.5, np.float32)
    assert float(ntg(image, flat)) == pytest.approx(1, abs=1e-6)


@by_form
def test_no_gradient_is_lost_or_infinite_on_flat_and_equal_images(form):
    image = jnp.asarray(images.noise(10))
    flat, empty = jnp.full(SHAPE, 0.5), jnp.zeros(SHAPE)
    for fixed, warped, expected in (
        (empty, empty, 0),
        (flat, flat, 0),
        (flat, empty, 0),
        (image, image, 0),
        (image, empty, 1),
        (empty, image, 1),
    ):
        value, gradients = value_and_gradients(fixed, warped, stride=2, form=form)
        assert float(value) == pytest.approx(expected, abs=1e-6)
        assert all(np.isfinite(g).all() for g in gradients)


def test_each_pair_has_its_own_value():
    fixed, warped = images.smooth(11, (2, 3, *SHAPE)), images.smooth(12, (2, 3, *SHAPE))
    warped[1, 2] = fixed[1, 2]
    together = np.asarray(ntg(fixed, warped))
    assert together.shape == (2, 3) and together[1, 2] == 0
    for index in np.ndindex(2, 3):
        alone = ntg(fixed[index], warped[index])
        assert together[index] == pytest.approx(float(alone), rel=2e-6)
    mapped = jax.jit(jax.vmap(jax.vmap(losses.ntg)))(fixed, warped)
    assert mapped == pytest.approx(together, rel=2e-6)


# Derivatives


@by_stride
def test_gradients_equal_differences(stride):
    """Of one form; both have the same gradients, see above."""
    with jax.enable_x64(True):
        fixed, warped = (jnp.asarray(v, float) for v in pair(13, (6, 7, 9)))
        loss = jax.jit(functools.partial(losses.ntg, stride=stride))
        test_util.check_grads(loss, (fixed, warped), order=1, eps=1e-7)


def test_gradient_of_a_batch_stays_with_its_pair():
    fixed, warped = images.smooth(14, (3, *SHAPE)), images.smooth(15, (3, *SHAPE))
    jacobian = jax.jit(jax.jacrev(losses.ntg, argnums=1))(fixed, warped)
    for one in range(3):
        for other in range(3):
            assert np.asarray(jacobian[one, other]).any() == (one == other)


def test_every_mode_gives_the_same_derivative():
    with jax.enable_x64(True):
        fixed, warped = (jnp.asarray(v, float) for v in pair(16, (4, 5, 6)))
        gradient = jax.jit(jax.grad(losses.ntg, argnums=1))
        expected = np.asarray(gradient(fixed, warped))
        forward = jax.jit(jax.jacfwd(losses.ntg, argnums=1))(fixed, warped)
        assert forward == pytest.approx(expected, abs=1e-14)
        direction = jnp.asarray(images.noise(17, (4, 5, 6)), float)
        change = float((expected * direction).sum())
        loss = functools.partial(losses.ntg, fixed)

        @jax.jit
        def along(warped, direction):
            value, tangent = jax.jvp(loss, (warped,), (direction,))
            again, linear = jax.linearize(loss, warped)
            _, second = jax.jvp(jax.grad(loss), (warped,), (direction,))
            kept = jax.grad(jax.checkpoint(loss))(warped)
            values = loss(warped), value, again
            return values, tangent, linear(direction), second, kept

        values, tangent, linear, second, kept = along(warped, direction)
        assert float(tangent) == pytest.approx(change)
        assert float(linear) == pytest.approx(change)
        assert float(values[0]) == float(values[1]) == float(values[2])
        # The second derivative along a direction, where no sign changes.
        step = 1e-7 * direction
        difference = (
            gradient(fixed, warped + step) - gradient(fixed, warped - step)
        ) / 2e-7
        assert second == pytest.approx(np.asarray(difference), abs=1e-6)
        assert kept == pytest.approx(expected, abs=1e-14)


def test_descending_the_gradient_brings_the_images_together():
    fixed, warped = map(jnp.asarray, pair(18))
    step = jax.jit(jax.value_and_grad(losses.ntg, argnums=1))
    before, gradient = step(fixed, warped)
    after, _ = step(fixed, warped - 1.0 * gradient)
    assert after < before


# Cost


@pytest.mark.parametrize("stride", [1, 4])
def test_the_gradient_takes_less_than_six_volumes(stride):
    shape = (48, 44, 52)
    volume = jnp.zeros(shape)
    step = jax.jit(
        jax.value_and_grad(functools.partial(losses.ntg, stride=stride), argnums=1)
    )
    memory = step.lower(volume, volume).compile().memory_analysis()
    extra = memory.temp_size_in_bytes / volume.nbytes
    assert extra < 6


def test_the_gradient_to_one_image_filters_no_other_signs():
    """The gradient to the warped image alone filters no signs for the fixed one."""
    fixed, warped = map(jnp.asarray, pair(19))

    def flops(argnums):
        step = jax.jit(jax.grad(losses.ntg, argnums=argnums))
        return step.lower(fixed, warped).compile().cost_analysis()["flops"]

    assert flops(1) < 0.75 * flops((0, 1))


# Types and errors


def test_computed_in_single_precision_at_least():
    fixed, warped = (jnp.asarray(v, jnp.bfloat16) for v in pair(20))
    result, (_, gradient) = value_and_gradients(fixed, warped)
    expected = ntg(fixed.astype(jnp.float32), warped.astype(jnp.float32))
    assert result.dtype == jnp.float32 and result == expected
    assert gradient.dtype == jnp.bfloat16
    counts = (images.noise(21) * 255).astype(np.uint8)
    mixed = ntg(counts, counts.astype(np.float32))
    assert mixed.dtype == jnp.float32 and mixed == 0
    with jax.enable_x64(True):
        precise = ntg(*(jnp.asarray(v, float) for v in pair(20)))
        assert precise.dtype == jnp.float64
        expected = similarity.ntg(*pair(20))
        assert float(precise) == pytest.approx(expected, rel=1e-12)


@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_arguments_are_named():
    volume = images.noise(22)
    with pytest.raises(ValueError, match=r"\(12, 14, 17\) and \(1, 14, 17\) differ"):
        losses.ntg(volume, volume[:1])
    with pytest.raises(ValueError, match=r"at least 3 voxels .* not \(2, 14, 17\)"):
        losses.ntg(volume[:2], volume[:2])
    with pytest.raises(ValueError, match=r"of 3 axes .* not \(14, 17\)"):
        losses.ntg(volume[0], volume[0])
    for stride in (0, -1):
        with pytest.raises(ValueError, match="stride is at least 1"):
            losses.ntg(volume, volume, stride=stride)
    with pytest.raises(TypeError, match="integer"):
        losses.ntg(volume, volume, stride=1.5)
    with pytest.raises(ValueError, match='"auto", "reference", "slices", not "fast"'):
        losses.ntg(volume, volume, form="fast")
    by_numpy = jax.jit(functools.partial(losses.ntg, stride=np.int64(2)))
    assert by_numpy(volume, volume[::-1]) == ntg(volume, volume[::-1], stride=2)
