"""`warp_affine` against SciPy, JAX and algebra; its gradients; labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import test_util

from helpers import images
from mdvit_jax import geometry
from mdvit_jax.geometry import block_warp, warp
from oracle import affine, resample

SHAPE = images.SHAPE
# Compiled whole: primitive by primitive takes ten times as long to compile.
warp_affine = jax.jit(geometry.warp_affine, static_argnames=("order", "form"))
by_form = pytest.mark.parametrize("form", warp.FORMS)


def generic(seed: int, size: float = 0.12) -> np.ndarray:
    """An affine under which no sample falls on a voxel centre."""
    parameters = np.random.default_rng(seed).uniform(-size, size, 12)
    return affine.matrix(parameters, (0.1, -0.05, 0.02))


def single(matrix) -> jax.Array:
    return jnp.asarray(matrix, jnp.float32)


@by_form
@pytest.mark.parametrize("seed", range(3))
def test_linear_equals_scipy(form, seed):
    moving, matrix = images.noise(seed), generic(seed)
    result = warp_affine(moving, single(matrix), form=form)
    assert result == pytest.approx(resample.warp(moving, matrix), abs=3e-5)
    with jax.enable_x64(True):
        precise = warp_affine(
            jnp.asarray(moving, float), jnp.asarray(matrix), form=form
        )
    expected = resample.warp(moving.astype(float), matrix)
    assert precise == pytest.approx(expected, abs=1e-12)


@by_form
def test_samples_fade_to_zero_at_the_border_as_in_scipy(form):
    """A matrix that shrinks shows all sides of the volume, and the far outside."""
    moving = images.noise(1) + 1
    matrix = generic(2) @ np.diag([1.9, 2.1, 1.7, 1])
    warped = np.asarray(warp_affine(moving, single(matrix), form=form))
    assert warped == pytest.approx(resample.warp(moving, matrix), abs=1e-4)
    landed = resample.voxel_positions(matrix, SHAPE)
    outside = ((landed <= -1) | (landed >= np.array(SHAPE))).any(-1)
    assert outside.mean() > 0.3 and not warped[outside].any()


@by_form
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("shape", [SHAPE, (1, 5, 3), (33, 10, 6)])
def test_the_identity_changes_no_bit(form, order, shape):
    moving = images.noise(5, shape)
    warped = warp_affine(moving, jnp.eye(4), order=order, form=form)
    # The form "blocks" adds three terms of each voxel in any order.
    rounding = 2e-7 if form == "blocks" else 0
    np.testing.assert_allclose(warped, moving, rtol=rounding, atol=0)


@pytest.mark.parametrize("order", [0, 1])
@settings(max_examples=25, deadline=None)
@given(shift=st.tuples(*(st.integers(-n - 2, n + 2) for n in SHAPE)))
def test_whole_voxels_are_moved_whole(order, shift):
    """out(x) = moving(x + shift), and zero where there is no such voxel."""
    moving = images.noise(6)
    offset = jnp.asarray([2 * s / n for s, n in zip(shift, SHAPE, strict=True)])
    matrix = geometry.translation_matrix(offset)
    expected = np.pad(moving, [(n + 2, 2 * n + 2) for n in SHAPE])
    for axis, (s, n) in enumerate(zip(shift, SHAPE, strict=True)):
        expected = expected.take(range(s + n + 2, s + 2 * n + 2), axis)
    warped = warp_affine(moving, matrix, order=order)
    assert warped == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("axis", range(3))
def test_mirroring_is_exact(axis):
    flip = np.eye(4, dtype=np.float32)
    flip[axis, axis] = -1
    moving = images.noise(7)
    for order in (0, 1):
        warped = warp_affine(moving, jnp.asarray(flip), order=order)
        assert warped == pytest.approx(np.flip(moving, axis), abs=1e-5)


def ramp() -> np.ndarray:
    """A linear image, which linear interpolation reproduces exactly."""
    index = np.moveaxis(np.indices(SHAPE), 0, -1)
    return ((2 * index + 1) / SHAPE - 1) @ [0.5, -0.8, 1.1] + 4.0


def inside(matrix, margin=0) -> np.ndarray:
    landed = resample.voxel_positions(matrix, SHAPE)
    return ((landed >= margin) & (landed <= np.array(SHAPE) - 1 - margin)).all(-1)


def test_a_linear_image_is_transformed_exactly():
    """out(x) = moving(A · x) by the formula: the direction, without an oracle."""
    matrix = generic(8)
    index = np.moveaxis(np.indices(SHAPE), 0, -1)
    landed = affine.apply(matrix, (2 * index + 1) / SHAPE - 1)
    expected = landed @ [0.5, -0.8, 1.1] + 4.0
    warped = np.asarray(warp_affine(single(ramp()), single(matrix)))
    kept = inside(matrix)
    assert warped[kept] == pytest.approx(expected[kept], abs=1e-4)


def test_two_warps_are_one_through_the_product():
    """Warping by A, then by B, is warping by A · B, in this order."""
    a, b = generic(9, 0.08), generic(10, 0.08)
    moving = single(ramp())
    twice = warp_affine(warp_affine(moving, single(a)), single(b))
    once = warp_affine(moving, geometry.compose(single(a), single(b)))
    kept = inside(b, margin=3) & inside(a @ b)
    assert kept.mean() > 0.1
    assert np.asarray(twice)[kept] == pytest.approx(np.asarray(once)[kept], abs=1e-4)


def test_the_inverse_undoes():
    matrix = generic(11, 0.08)
    moving = single(ramp())
    there = warp_affine(moving, single(matrix))
    back = warp_affine(there, single(np.linalg.inv(matrix)))
    kept = inside(np.linalg.inv(matrix), margin=3)
    assert kept.mean() > 0.1
    assert np.asarray(back)[kept] == pytest.approx(ramp()[kept], abs=1e-4)


def test_batches_jit_and_vmap_agree():
    moving = images.noise(12, (2, 3, *SHAPE))
    matrices = np.stack([single(generic(s)) for s in range(6)]).reshape(2, 3, 4, 4)
    for order in (0, 1):
        batched = warp_affine(moving, matrices, order=order)
        for index in np.ndindex(2, 3):
            alone = warp_affine(moving[index], matrices[index], order=order)
            assert np.array_equal(batched[index], alone)
    compiled = jax.jit(jax.vmap(geometry.warp_affine))(moving, matrices)
    expected = warp_affine(moving, matrices)
    assert compiled == pytest.approx(np.asarray(expected), abs=1e-5)


# Gradients


def test_gradients_at_a_generic_affine():
    with jax.enable_x64(True):
        moving = jnp.asarray(images.smooth(13), float)
        weights = jnp.asarray(images.noise(14), float)
        matrix = jnp.asarray(generic(15))

        def value(moving, matrix):
            return (weights * geometry.warp_affine(moving, matrix)).sum()

        test_util.check_grads(jax.jit(value), (moving, matrix), order=1, eps=1e-7)

        def value_at(matrix):
            return value(moving, matrix)

        # Other modes, and the second derivative along one direction.
        direction = jnp.asarray(generic(33) - np.eye(4))

        @jax.jit
        def by_every_mode(matrix):
            _, linear = jax.linearize(value_at, matrix)
            gradient, second = jax.jvp(jax.grad(value_at), (matrix,), (direction,))
            forward = jax.jacfwd(value_at)(matrix)
            return gradient, forward, linear(jnp.ones((4, 4))), second

        gradient, forward, linear, second = by_every_mode(matrix)
        assert forward == pytest.approx(np.asarray(gradient))
        assert float(linear) == pytest.approx(float(forward.sum()))
        above, below = (by_every_mode(matrix + s * direction)[0] for s in (1e-6, -1e-6))
        difference = (above - below) / 2e-6
        assert second == pytest.approx(np.asarray(difference), rel=1e-4, abs=1e-5)


def test_both_forms_have_the_same_gradient():
    """At a generic affine and at the identity, where both take the slope above."""
    with jax.enable_x64(True):
        moving = jnp.asarray(images.noise(16), float)
        weights = jnp.asarray(images.noise(17), float)

        def value(moving, matrix, form):
            return (weights * geometry.warp_affine(moving, matrix, form=form)).sum()

        gradient = jax.jit(jax.grad(value, argnums=(0, 1)), static_argnums=2)
        for matrix in (jnp.asarray(generic(18)), jnp.eye(4)):
            gathered, reference = (
                gradient(moving, matrix, form) for form in ("gather", "reference")
            )
            for one, other in zip(gathered, reference, strict=True):
                assert one == pytest.approx(np.asarray(other), abs=1e-9)


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((9, 30, 13), False), ((24, 7, 130), True)],
)
def test_blocks_have_the_values_and_gradients_of_the_gathered_form(
    shape, fits, monkeypatch
):
    """For a batch, where a block touches several boxes, and where volumes are large."""
    if not fits:
        monkeypatch.setattr(block_warp, "_FITS", 0)
    rng = np.random.default_rng(5)
    moving = jnp.asarray(rng.random((4, *shape)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=moving.shape), jnp.float32)
    parameters = rng.uniform(-0.3, 0.3, (4, 12))
    matrices = geometry.affine_matrix(jnp.asarray(parameters, jnp.float32))
    matrices = matrices.at[1].set(jnp.eye(4)).at[2].multiply(4).at[3, 0, 3].add(9)

    def value(matrices, moving, form):
        warped = geometry.warp_affine(moving, matrices, form=form)
        return (weights * warped).sum(), warped

    gradient = jax.jit(
        jax.value_and_grad(value, argnums=(0, 1), has_aux=True), static_argnums=2
    )
    (_, warped), gradients = gradient(matrices, moving, "blocks")
    (_, expected), expected_gradients = gradient(matrices, moving, "gather")
    assert float(jnp.abs(warped[2]).max()) > 0
    assert not warped[3].any()
    np.testing.assert_allclose(warped, expected, atol=1e-5)
    for result, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(result, wanted, atol=1e-4 * np.abs(wanted).max())


@jax.jit
def weighted_sum(matrix, moving, weights):
    return (weights * geometry.warp_affine(moving, matrix)).sum()


gradient_to_matrix = jax.jit(jax.grad(weighted_sum))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("column", range(4))
def test_gradient_at_the_identity_is_the_slope_above(axis, column):
    """It equals a forward difference; a central one would be wrong at the kink."""
    with jax.enable_x64(True):
        moving = jnp.asarray(images.noise(19), float)
        weights = images.noise(20).astype(float)
        if column < 3:  # where the change of this entry moves the samples upwards
            centres = np.asarray(geometry.voxel_centres(SHAPE[column]))
            upwards = np.expand_dims(centres > 0, [k for k in range(3) if k != column])
            weights = weights * upwards
        eps, identity = 1e-6, np.eye(4)
        changed = identity.copy()
        changed[axis, column] += eps
        above, at = (weighted_sum(m, moving, weights) for m in (changed, identity))
        difference = (above - at) / eps
        gradient = gradient_to_matrix(identity, moving, weights)[axis, column]
        assert abs(gradient) > 1e-2
        assert float(gradient) == pytest.approx(float(difference), rel=1e-5, abs=1e-6)


def test_the_gradient_to_the_matrix_never_scatters():
    moving, fixed = images.noise(21, (2, *SHAPE)), images.noise(22, (2, *SHAPE))
    matrices = np.stack([single(generic(s)) for s in (23, 24)])

    def value(matrices, moving):
        return ((geometry.warp_affine(moving, matrices) - fixed) ** 2).sum()

    to_matrix = jax.jit(jax.value_and_grad(value))
    assert "scatter" not in str(jax.make_jaxpr(to_matrix)(matrices, moving))
    compiled = to_matrix.lower(matrices, moving).compile().as_text()
    assert " gather(" in compiled and " scatter(" not in compiled
    # The test is sensitive: the gradient to the image does scatter.
    to_image = jax.grad(value, argnums=1)
    assert "scatter" in str(jax.make_jaxpr(to_image)(matrices, moving))


def test_the_gradient_is_zero_outside():
    far = jnp.eye(4).at[0, 3].set(5.0)
    moving = images.noise(25)
    gradient = jax.jit(jax.grad(lambda m: geometry.warp_affine(moving, m).sum()))(far)
    assert not np.asarray(gradient).any()


def test_a_diverged_affine_gives_nan_and_touches_no_foreign_memory():
    moving = images.noise(26)
    value_at = jax.jit(
        jax.value_and_grad(lambda m: geometry.warp_affine(moving, m).sum())
    )
    for bad in (jnp.nan, jnp.inf):
        matrix = jnp.eye(4).at[1, 1].set(bad)
        value, gradient = value_at(matrix)
        assert not np.isfinite(value) and not np.isfinite(gradient).all()
    huge = jnp.eye(4).at[1, 3].set(1e30)
    assert not np.asarray(warp_affine(moving, huge)).any()
    assert not np.asarray(warp_affine(moving, huge, order=0)).any()


# Labels and other types


@by_form
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float32])
def test_nearest_equals_scipy_and_keeps_type_and_values(form, dtype):
    values = np.array([0, 2, 17, 53, 255, 2035]).astype(dtype)
    choice = np.random.default_rng(27).integers(0, len(values), SHAPE)
    labels, matrix = values[choice], generic(28, 0.3)
    warped = warp_affine(labels, single(matrix), order=0, form=form)
    result = np.asarray(warped)
    expected = resample.warp(labels.astype(float), matrix, order=0)
    # Without ties, which the two round differently.
    parts = resample.voxel_positions(matrix, SHAPE) % 1
    clear = (np.abs(parts - 0.5) > 1e-4).all(-1)
    assert result.dtype == dtype and clear.mean() > 0.9
    assert np.array_equal(result[clear], expected[clear].astype(dtype))
    assert set(np.unique(result)) <= {*values.tolist(), dtype(0)}


def test_nearest_makes_no_new_label_and_keeps_large_ones():
    labels = np.zeros(SHAPE, np.int32)
    labels[3:9, 3:9, 3:9] = 2**31 - 1
    labels[9:, 3:9, 3:9] = 2**24 + 1  # float32 has no such number
    warped = warp_affine(labels, single(generic(29)), order=0)
    assert set(np.unique(warped).tolist()) == {0, 2**24 + 1, 2**31 - 1}


def test_nearest_rounds_halves_up():
    half_a_voxel = geometry.translation_matrix(jnp.array([1 / 8, 0, 0]))
    labels = np.arange(8, dtype=np.int32)[:, None, None] * np.ones((8, 3, 3), np.int32)
    warped = np.asarray(warp_affine(labels, half_a_voxel, order=0))
    assert warped[:, 1, 1].tolist() == [1, 2, 3, 4, 5, 6, 7, 0]


def test_coordinates_are_single_precision_whatever_the_image():
    """In bfloat16 two neighbouring voxels would have the same coordinates."""
    moving, matrix = images.noise(30), single(generic(31))
    half = jnp.asarray(moving, jnp.bfloat16)
    warped = warp_affine(half, matrix)
    expected = warp_affine(half.astype(jnp.float32), matrix)
    assert warped.dtype == jnp.float32 and np.array_equal(warped, expected)
    counts = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE)
    assert warp_affine(counts, matrix).dtype == jnp.float32


@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_arguments_are_named():
    moving = images.noise(32)
    with pytest.raises(ValueError, match=r"must have \(4, 4\), not \(3, 4\)"):
        geometry.warp_affine(moving, jnp.eye(4)[:3])
    with pytest.raises(ValueError, match=r"\(2, 4, 4\), not \(4, 4\)"):
        geometry.warp_affine(np.stack([moving] * 2), jnp.eye(4))
    with pytest.raises(ValueError, match="order is 0 .* not 3"):
        geometry.warp_affine(moving, jnp.eye(4), order=3)
    with pytest.raises(ValueError, match=r"\[\*batch, x, y, z\] are expected"):
        geometry.warp_affine(moving[0], jnp.eye(4))
    with pytest.raises(ValueError, match='"gather", "blocks", not "fast"'):
        geometry.warp_affine(moving, jnp.eye(4), form="fast")
