"""The 3D Normalized Total Gradient (paper, Eq. 2 and Appendix B).

                Σ_l ‖∇_l (F − M)‖₁
    NTG(F, M) = ────────────────────────────── ,   l = x, y, z
                Σ_l (‖∇_l F‖₁ + ‖∇_l M‖₁) + ε

F is the fixed and M the warped moving image, ∇_l their 3D Sobel response along l. It
compares gradients, not intensities: 0 for equal images and at most 1.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax.losses import sobel

EPSILON = 1e-5  # keeps the quotient of two constant images finite: it is 0

# Where each form of the Sobel filter is faster, forward and gradient at 128³ (measured
# by benchmarks/losses.py). Platforms that are not named take the slices.
FORMS: dict[str, sobel.Form] = {"cpu": sobel.SLICES}

Stride = int | Sequence[sobel.Strides]

# What the authors' program does with Δ = 4: it reads the matrices of Appendix B as
# tensors (depth, height, width), so that each derivative is strided along the axis
# before its own. Only for comparison with that program.
PROGRAM_STRIDE = ((1, 1, 4), (4, 1, 1), (1, 4, 1))


def ntg(fixed: Array, warped: Array, *, stride: Stride = 1) -> Array:
    """Dissimilarity of two images by their gradients (Eq. 2), one value per pair.

    Args:
        fixed, warped: [*batch, x, y, z] of equal shapes, each axis at least 3 voxels.
            Computed in float32 at least.
        stride: Δ of Appendix B: the derivative along an axis is evaluated at every
            Δ-th voxel of that axis (the authors train with 4). Or, for each of the
            three derivatives, its strides along x, y and z.

    Returns:
        [*batch], in [0, 1]. Value and gradient are finite for constant, zero and
        identical images; the gradient of |0| is 0.

    Raises:
        ValueError: shapes that differ, or are too small for the filter; a stride that
            is none.

    >>> import jax.numpy as jnp
    >>> ramp = jnp.arange(5.0)[:, None, None] * jnp.ones((5, 6, 7))
    >>> float(ntg(ramp, ramp)), float(ntg(ramp, -ramp))
    (0.0, 1.0)
    """
    form = FORMS.get(jax.default_backend(), sobel.SLICES)
    return ntg_by(form, fixed, warped, stride=stride)


def ntg_by(
    form: sobel.Form, fixed: Array, warped: Array, *, stride: Stride = 1
) -> Array:
    """`ntg` with a given form of the Sobel filter (`losses.sobel`)."""
    if fixed.shape != warped.shape:
        raise ValueError(f"the shapes {fixed.shape} and {warped.shape} differ")
    if fixed.ndim < 3 or min(fixed.shape[-3:]) < 3:
        raise ValueError(
            f"volumes of at least 3 voxels along each of 3 axes are expected, not "
            f"{fixed.shape}"
        )
    dtype = jnp.promote_types(jnp.promote_types(fixed.dtype, warped.dtype), jnp.float32)
    return _quotient(form, _strides(stride), fixed.astype(dtype), warped.astype(dtype))


def _strides(stride: Stride) -> tuple[sobel.Strides, ...]:
    """Those of each derivative along x, y and z."""
    strides = np.asarray(stride)
    if strides.ndim == 0:
        strides = np.where(np.eye(3, dtype=bool), strides, 1)
    if strides.shape != (3, 3) or strides.dtype.kind not in "iu":
        raise ValueError(
            f"the stride is a whole number or three times three, not {stride}"
        )
    if strides.min() < 1:
        raise ValueError(f"strides are at least 1, not {stride}")
    return tuple(tuple(of_axis) for of_axis in strides.tolist())


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _quotient(form: sobel.Form, strides, fixed: Array, warped: Array) -> Array:
    difference, energy = _sums(form, strides, fixed, warped)
    return difference / (energy + EPSILON)


def _sums(form: sobel.Form, strides, fixed: Array, warped: Array):
    """Numerator and denominator, [*batch] each.

    ∇(F − M) is taken as ∇F − ∇M, and both sums run in the same order, so that no
    rounding can push the quotient above 1.
    """
    difference = energy = jnp.zeros(fixed.shape[:-3], fixed.dtype)
    for axis in range(3):
        f, m = (form.response(v, axis, strides[axis]) for v in (fixed, warped))
        difference += jnp.abs(f - m).sum((-3, -2, -1))
        energy += (jnp.abs(f) + jnp.abs(m)).sum((-3, -2, -1))
    return difference, energy


def _quotient_jvp(form: sobel.Form, strides, primals, tangents):
    """∂NTG/∂M = Σ_l ∇_lᵀ [sign(∇_l M − ∇_l F) − NTG · sign(∇_l M)] / (energy + ε).

    The tangent is the product of this gradient with the tangent of M, and likewise for
    F: what the backward pass keeps is one volume, not the nine responses.
    """
    fixed, warped = primals
    difference, energy = _sums(form, strides, fixed, warped)
    value = difference / (energy + EPSILON)
    tangent = jnp.zeros_like(value)
    for one, other, of_one in (
        (fixed, warped, tangents[0]),
        (warped, fixed, tangents[1]),
    ):
        if isinstance(of_one, jax.custom_derivatives.SymbolicZero):
            continue
        gradient = jnp.zeros_like(one)
        for axis in range(3):
            a, b = (form.response(v, axis, strides[axis]) for v in (one, other))
            signs = jnp.sign(a - b) - value[..., None, None, None] * jnp.sign(a)
            gradient += form.adjoint(signs, axis, strides[axis], one.shape)
        scale = 1 / (energy + EPSILON)
        tangent += scale * (gradient * of_one).sum((-3, -2, -1))
    return value, tangent


_quotient.defjvp(_quotient_jvp, symbolic_zeros=True)
