"""Local normalised cross-correlation, the baseline of the paper."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

if TYPE_CHECKING:
    from jaxtyping import Float, Num

EPSILON = 1e-5  # in the denominator, as in the authors' program


def ncc(
    fixed: Num[Array | np.ndarray, "*batch x y z"],
    warped: Num[Array | np.ndarray, "*batch x y z"],
    *,
    window: int = 7,
) -> Float[Array, "*batch"]:
    """Dissimilarity 1 − mean(cc²), one value per pair.

    cc² is the squared correlation of the two images within the window about each
    voxel, cross² / (variance · variance + ε); voxels outside the volume count as zero
    (as in C2FViT, Mok & Chung 2022).

    Args:
        fixed, warped: [*batch, x, y, z] of equal shapes. Computed in float32 at least.
        window: odd width of the window in voxels.

    Returns:
        [*batch]; 0 for images that agree up to a local scale and shift, 1 for
        unrelated ones, so in [0, 1] up to rounding.

    Raises:
        ValueError: shapes that differ, or an even window.
    """
    if fixed.shape != warped.shape:
        raise ValueError(f"the shapes {fixed.shape} and {warped.shape} differ")
    if fixed.ndim < 3:
        raise ValueError(f"volumes [*batch, x, y, z] are expected, not {fixed.shape}")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the window is an odd number of voxels, not {window}")
    dtype = jnp.promote_types(jnp.promote_types(fixed.dtype, warped.dtype), jnp.float32)
    return _dissimilarity(window, jnp.asarray(fixed, dtype), jnp.asarray(warped, dtype))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _dissimilarity(window: int, fixed: Array, warped: Array) -> Array:
    cross, variance_f, variance_w, _, _ = _moments(window, fixed, warped)
    squared = cross * cross / (variance_f * variance_w + EPSILON)
    return 1 - squared.mean((-3, -2, -1))


def _moments(window: int, fixed: Array, warped: Array):
    """Windowed sums of products of deviations, and the windowed means.

    A variance below the rounding error of the sums it is the difference of counts as 0:
    the quotient of two rounding errors would be a large gradient without a meaning.
    """
    mean_f, mean_w = (_box_sum(v, window) / window**3 for v in (fixed, warped))
    power_f, power_w = (_box_sum(v * v, window) for v in (fixed, warped))
    cross = _box_sum(fixed * warped, window) - mean_f * mean_w * window**3
    variance_f = power_f - mean_f * mean_f * window**3
    variance_w = power_w - mean_w * mean_w * window**3
    rounding = 10 * jnp.finfo(fixed.dtype).eps
    varies = (variance_f > rounding * power_f) & (variance_w > rounding * power_w)
    cross, variance_f, variance_w = (
        jnp.where(varies, moment, 0) for moment in (cross, variance_f, variance_w)
    )
    return cross, variance_f, variance_w, mean_f, mean_w


def _dissimilarity_jvp(window: int, primals, tangents):
    """Gradient by three more box sums, S, which are their own transpose.

    With a = ∂cc²/∂cross and b = ∂cc²/∂variance_w at each voxel,
    ∂Σcc²/∂w = f·S(a) + 2w·S(b) − S(a·mean_f + 2b·mean_w).
    """
    cross, *moments = _moments(window, *primals)
    variances, means = moments[:2], moments[2:]
    denominator = variances[0] * variances[1] + EPSILON
    value = 1 - (cross * cross / denominator).mean((-3, -2, -1))
    tangent = jnp.zeros_like(value)
    for own, other in ((0, 1), (1, 0)):
        if isinstance(tangents[own], jax.custom_derivatives.SymbolicZero):
            continue
        a = 2 * cross / denominator
        b = -variances[other] * (cross / denominator) ** 2
        gradient = (
            primals[other] * _box_sum(a, window)
            + 2 * primals[own] * _box_sum(b, window)
            - _box_sum(a * means[other] + 2 * b * means[own], window)
        )
        tangent -= (gradient * tangents[own]).mean((-3, -2, -1))
    return value, tangent


_dissimilarity.defjvp(_dissimilarity_jvp, symbolic_zeros=True)


def _box_sum(volume: Array, window: int) -> Array:
    """Sum over the window about each voxel: 3·window additions instead of window³.

    The passes are windowed reductions, which XLA does not merge: sums of shifted slices
    take three times the memory and, on a CPU, two to five times as long.
    """
    for dimension in range(volume.ndim - 3, volume.ndim):
        extent = [window if k == dimension else 1 for k in range(volume.ndim)]
        volume = lax.reduce_window(
            volume,
            np.zeros((), volume.dtype),
            lax.add,
            extent,
            [1] * len(extent),
            "SAME",
        )
    return volume
