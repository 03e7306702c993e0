"""The 3D Normalized Total Gradient (paper, Eq. 2 and Appendix B).

                Σ_l ‖∇_l (F − M)‖₁
    NTG(F, M) = ────────────────────────────── ,   l = x, y, z
                Σ_l (‖∇_l F‖₁ + ‖∇_l M‖₁) + ε

F is the fixed and M the warped moving image, ∇_l their 3D Sobel response along l. It
compares gradients, not intensities: 0 for equal images and at most 1.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax.geometry import forms
from mdvit_jax.losses import sobel

if TYPE_CHECKING:
    from jaxtyping import Float, Num

EPSILON = 1e-5  # keeps the quotient of two constant images finite: it is 0


def ntg(
    fixed: Num[Array | np.ndarray, "*batch x y z"],
    warped: Num[Array | np.ndarray, "*batch x y z"],
    *,
    stride: int = 1,
    form: str = "auto",
) -> Float[Array, "*batch"]:
    """Dissimilarity of two images by their gradients (Eq. 2), one value per pair.

    Args:
        fixed, warped: [*batch, x, y, z] of equal shapes, each axis at least 3 voxels.
            Computed in float32 at least.
        stride: Δ of Appendix B: the derivative along an axis is evaluated at every
            Δ-th voxel of that axis (the authors train with 4).
        form: of the Sobel filter: "reference" is its definition by
            `lax.conv_general_dilated`, "slices" sums shifted slices, "auto" takes the
            one that is faster on the platform (`geometry.forms`). Equal to rounding.

    Returns:
        [*batch], in [0, 1]. Value and gradient are finite for constant, zero and
        identical images; the gradient of |0| is 0.

    Raises:
        ValueError: shapes that differ, or are too small for the filter; a stride below
            1; an unknown form.

    >>> import jax.numpy as jnp
    >>> ramp = jnp.arange(5.0)[:, None, None] * jnp.ones((5, 6, 7))
    >>> float(ntg(ramp, ramp)), float(ntg(ramp, -ramp))
    (0.0, 1.0)
    """
    form = forms.choose_form("sobel", form, sobel.FORMS)
    stride = operator.index(stride)
    if stride < 1:
        raise ValueError(f"the stride is at least 1, not {stride}")
    if fixed.shape != warped.shape:
        raise ValueError(f"the shapes {fixed.shape} and {warped.shape} differ")
    if fixed.ndim < 3 or min(fixed.shape[-3:]) < 3:
        raise ValueError(
            f"volumes of at least 3 voxels along each of 3 axes are expected, not "
            f"{fixed.shape}"
        )
    dtype = jnp.promote_types(jnp.promote_types(fixed.dtype, warped.dtype), jnp.float32)
    return _quotient(
        form, stride, jnp.asarray(fixed, dtype), jnp.asarray(warped, dtype)
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _quotient(form: str, stride: int, fixed: Array, warped: Array) -> Array:
    difference, energy = _sum_gradients(form, stride, fixed, warped)
    return difference / (energy + EPSILON)


def _sum_gradients(form: str, stride: int, fixed: Array, warped: Array):
    """Numerator and denominator, [*batch] each.

    ∇(F − M) is taken as ∇F − ∇M, and both sums run in the same order, so that no
    rounding can push the quotient above 1.
    """
    difference = energy = jnp.zeros(fixed.shape[:-3], fixed.dtype)
    for axis in range(3):
        f, m = (
            sobel.filter_volume(v, axis, stride=stride, form=form)
            for v in (fixed, warped)
        )
        difference += jnp.abs(f - m).sum((-3, -2, -1))
        energy += (jnp.abs(f) + jnp.abs(m)).sum((-3, -2, -1))
    return difference, energy


def _quotient_jvp(form: str, stride: int, primals, tangents):
    """∂NTG/∂M = Σ_l ∇_lᵀ [sign(∇_l M − ∇_l F) − NTG · sign(∇_l M)] / (energy + ε).

    The tangent is the product of this gradient with the tangent of M, and likewise for
    F: what the backward pass keeps is one volume, not the nine responses.
    """
    fixed, warped = primals
    difference, energy = _sum_gradients(form, stride, fixed, warped)
    value = difference / (energy + EPSILON)
    tangent = jnp.zeros_like(value)
    for own, other, own_tangent in (
        (fixed, warped, tangents[0]),
        (warped, fixed, tangents[1]),
    ):
        if isinstance(own_tangent, jax.custom_derivatives.SymbolicZero):
            continue
        gradient = jnp.zeros_like(own)
        for axis in range(3):
            a, b = (
                sobel.filter_volume(v, axis, stride=stride, form=form)
                for v in (own, other)
            )
            signs = jnp.sign(a - b) - value[..., None, None, None] * jnp.sign(a)
            gradient += sobel.filter_transposed(
                signs, axis, own.shape, stride=stride, form=form
            )
        scale = 1 / (energy + EPSILON)
        tangent += scale * (gradient * own_tangent).sum((-3, -2, -1))
    return value, tangent


_quotient.defjvp(_quotient_jvp, symbolic_zeros=True)
