"""The network's convolutions, by XLA's own operation or in forms that are faster.

Features are `[batch, x, y, z, channels]`. As everywhere in deep learning a kernel is
not flipped. Each takes a `form`: "reference" is `lax.conv_general_dilated`, against
which the tests hold the others; "auto" is the platform's fastest (`geometry.forms`).
The times below were measured on two CPU cores.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import Array, lax

from mdvit_jax.geometry import forms
from mdvit_jax.models.ops import dense

if TYPE_CHECKING:
    from jaxtyping import Float

_DIMENSIONS = ("NXYZC", "XYZIO", "NXYZC")


def depthwise(
    features: Float[Array, "batch x y z channels"],
    kernel: Float[Array, "3 3 3 channels"],
    *,
    dilation: int = 1,
    padding: int | None = None,
    form: str = "auto",
) -> Float[Array, "batch px py pz channels"]:
    """Each channel filtered with its own 3×3×3 kernel.

    Args:
        features: [batch, x, y, z, channels].
        kernel: [3, 3, 3, channels].
        dilation: distance between taps in voxels.
        padding: zeros before and after each axis; None keeps the size (= dilation).
        form: "reference", "slices" (27 shifted multiply-adds) or "auto".

    Returns:
        [batch, x + 2·(padding − dilation), …, channels].

    At 16³ × 256 channels the slices take 5 ms, `feature_group_count` 720 ms.
    """
    padding = dilation if padding is None else padding
    form = forms.choose_form("depthwise", form, ("reference", "slices"))
    if form == "slices":
        return _depthwise(dilation, padding, features, kernel)
    return lax.conv_general_dilated(
        features,
        kernel[:, :, :, None],
        (1, 1, 1),
        [(padding, padding)] * 3,
        rhs_dilation=(dilation,) * 3,
        dimension_numbers=_DIMENSIONS,
        feature_group_count=features.shape[-1],
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _depthwise(dilation: int, padding: int, features: Array, kernel: Array) -> Array:
    padded = _pad(features, padding)
    batch, *sizes, channels = padded.shape
    shape = (batch, *(size - 2 * dilation for size in sizes), channels)
    total = jnp.zeros(shape, features.dtype)
    for tap in itertools.product(range(3), repeat=3):
        total += kernel[tap] * _shifted(padded, tap, dilation, shape)
    return total


def _depthwise_forward(dilation, padding, features, kernel):
    return _depthwise(dilation, padding, features, kernel), (features, kernel)


def _depthwise_backward(dilation: int, padding: int, residuals, gradient: Array):
    """To the features the same filter turned round, to the kernel 27 correlations."""
    features, kernel = residuals
    features_gradient = _depthwise(
        dilation, 2 * dilation - padding, gradient, kernel[::-1, ::-1, ::-1]
    )
    correlate = KERNEL_GRADIENTS[forms.fastest("depthwise gradient")]
    kernel_gradient = correlate(_pad(features, padding), gradient, dilation)
    return features_gradient, kernel_gradient.astype(kernel.dtype)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _correlate(padded: Array, gradient: Array, dilation: int) -> Array:
    """Σ over positions of shifted features · gradient, [3, 3, 3, channels]."""
    sums = [
        (_shifted(padded, tap, dilation, gradient.shape) * gradient).sum(
            (0, 1, 2, 3), dtype=dense.wide(gradient)
        )
        for tap in itertools.product(range(3), repeat=3)
    ]
    return jnp.stack(sums).reshape(3, 3, 3, -1)


def _correlate_rows(padded: Array, gradient: Array, dilation: int) -> Array:
    """`_correlate` row by row: all taps add up at once, in the processor's cache.

    At 16³ × 512 channels this takes 9 ms, the 27 reductions 190 ms.
    """
    batch, x, y, z, channels = gradient.shape
    reach = 2 * dilation + 1

    def add_row(totals: tuple[Array, ...], row: Array):
        i, j, k = row // (x * y), row // y % x, row % y
        window = (1, reach, reach, padded.shape[3], channels)
        around = lax.dynamic_slice(padded, (i, j, k, 0, 0), window)
        around = around[0, ::dilation, ::dilation].astype(dtype)
        gradient_row = lax.dynamic_slice(
            gradient, (i, j, k, 0, 0), (1, 1, 1, z, channels)
        )
        gradient_row = gradient_row[0, 0].astype(dtype)
        totals = tuple(
            total + around[:, :, at * dilation : at * dilation + z] * gradient_row
            for at, total in enumerate(totals)
        )
        return totals, None

    dtype = dense.wide(gradient)
    start = (jnp.zeros((3, 3, z, channels), dtype),) * 3
    totals, _ = lax.scan(add_row, start, jnp.arange(batch * x * y))
    return jnp.stack([total.sum(2) for total in totals], axis=2)


KERNEL_GRADIENTS = {"rows": _correlate_rows, "sums": _correlate}


def _pad(features: Array, padding: int) -> Array:
    """Zeros about each axis; a negative number takes positions away."""
    widths = [(0, 0, 0), *[(padding, padding, 0)] * 3, (0, 0, 0)]
    return lax.pad(features, jnp.zeros((), features.dtype), widths)


def _shifted(padded: Array, tap: tuple[int, ...], dilation: int, shape) -> Array:
    start = (0, *(i * dilation for i in tap), 0)
    stop = tuple(a + b for a, b in zip(start, shape, strict=True))
    return lax.slice(padded, start, stop)


def same(
    dtype: jnp.dtype,
    features: Float[Array, "batch x y z inputs"],
    kernel: Float[Array, "3 3 3 inputs outputs"],
    *,
    form: str = "auto",
) -> Float[Array, "batch x y z outputs"]:
    """Dense 3×3×3 convolution that keeps the size, with factors of a dtype.

    Args:
        dtype: of the factors (`dense`).
        features: [batch, x, y, z, in].
        kernel: [3, 3, 3, in, out].
        form: "reference", whose result is rounded to the dtype, too; "taps", the sum
            of 27 matrix products in float32, one tap at a time; or "auto".

    Returns:
        [batch, x, y, z, out].

    At 16³ × 256 channels on one core the taps take 0.48 s in float32 and 0.13 s in
    bfloat16, XLA's convolution 0.61 s.
    """
    form = forms.choose_form("dense convolution", form, ("reference", "taps"))
    if form == "taps":
        return _same(dtype, features, kernel)
    factors = features.astype(dtype), kernel.astype(dtype)
    convolved = lax.conv_general_dilated(
        *factors, (1, 1, 1), "SAME", dimension_numbers=_DIMENSIONS
    )
    return convolved.astype(dense.wide(convolved))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _same(dtype: jnp.dtype, features: Array, kernel: Array) -> Array:
    padded = _pad(features.astype(dtype), 1)
    taps = kernel.astype(dtype).reshape(27, *kernel.shape[3:])

    def add(total: Array, tap: tuple[Array, Array]):
        rows = _tap(padded, tap[0], features.shape)
        return total + dense.contract(rows, tap[1], 1, 0), None

    count = features.size // features.shape[-1]
    start = jnp.zeros((count, kernel.shape[-1]), dense.wide(taps))
    total, _ = lax.scan(add, start, (jnp.arange(27), taps))
    return total.reshape(*features.shape[:-1], -1)


def _same_forward(dtype, features: Array, kernel: Array):
    return _same(dtype, features, kernel), (features.astype(dtype), kernel)


def _same_backward(dtype, residuals, gradient: Array):
    """To the features the same with the kernel turned round, to the kernel 27 sums."""
    features, kernel = residuals
    turned = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    padded, rows = _pad(features, 1), gradient.astype(dtype)
    rows = rows.reshape(-1, rows.shape[-1])
    kernel_gradient = lax.map(
        lambda tap: dense.contract(_tap(padded, tap, features.shape), rows, 0, 0),
        jnp.arange(27),
    )
    return _same(dtype, gradient, turned), kernel_gradient.reshape(kernel.shape)


_same.defvjp(_same_forward, _same_backward)


def _tap(padded: Array, tap: Array, shape: tuple[int, ...]) -> Array:
    """The features that one of the 27 taps meets, [positions, channels]."""
    start = (0, tap // 9, tap // 3 % 3, tap % 3, 0)
    return lax.dynamic_slice(padded, start, shape).reshape(-1, shape[-1])


def strided(
    features: Float[Array, "batch x y z inputs"],
    kernel: Float[Array, "k k k inputs outputs"],
    *,
    stride: int,
    form: str = "auto",
) -> Float[Array, "batch px py pz outputs"]:
    """Convolution with a stride, zeros about the volume as wide as half the kernel.

    Args:
        features: [batch, x, y, z, in], sizes that the stride divides.
        kernel: [k, k, k, in, out], k odd.
        form: "reference", "blocks" or "auto".

    Returns:
        [batch, x/stride, y/stride, z/stride, out].

    Blocks of stride³ voxels become channels, so that a small dense convolution with
    stride 1 is left. At 128³, 15³/8, two channels, this takes 0.17 s and the gradients
    to kernel and volume 0.35 s; the plain form takes 0.22 s, but its gradient to the
    volume (a convolution dilated by the stride) did not end in half an hour.
    """
    batch, *sizes, channels = features.shape
    half = kernel.shape[0] // 2
    form = forms.choose_form("strided convolution", form, ("reference", "blocks"))
    if form == "reference":
        return lax.conv_general_dilated(
            features,
            kernel,
            (stride,) * 3,
            [(half, half)] * 3,
            dimension_numbers=_DIMENSIONS,
        )
    before, after = -(-half // stride), half // stride
    window = before + after + 1
    front = before * stride - half
    back = window * stride - kernel.shape[0] - front
    kernel = jnp.pad(kernel, [*[(front, back)] * 3, (0, 0), (0, 0)])
    x, y, z = (size // stride for size in sizes)
    # z, the innermost axis, is divided last, after a transpose of whole rows.
    rows = features.reshape(batch, x, stride, y, stride, z * stride, channels)
    rows = rows.transpose(0, 1, 3, 6, 2, 4, 5).reshape(batch, x, y, -1, z * stride)
    blocks = rows.swapaxes(-1, -2).reshape(batch, x, y, z, -1)
    taps = kernel.reshape(*(window, stride) * 3, channels, -1)
    taps = taps.transpose(0, 2, 4, 5, 6, 1, 3, 7)
    taps = taps.reshape(window, window, window, -1, kernel.shape[-1])
    blocks = jnp.pad(blocks, [(0, 0), *[(before, after)] * 3, (0, 0)])
    return lax.conv_general_dilated(
        blocks, taps, (1, 1, 1), "VALID", dimension_numbers=_DIMENSIONS
    )
