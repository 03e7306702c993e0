"""Depthwise 3×3×3 convolution, dilated or not, as 27 shifted multiply-adds.

Features are `[batch, x, y, z, channels]`. As everywhere in deep learning the kernel
is not flipped.
"""

import jax.numpy as jnp
from jax import Array, lax


def depthwise(
    features: Array, kernel: Array, *, dilation: int = 1, padding: int | None = None
) -> Array:
    """Each channel filtered with its own 3×3×3 kernel.

    Args:
        features: [batch, x, y, z, channels].
        kernel: [3, 3, 3, channels].
        dilation: distance between taps in voxels.
        padding: zeros before and after each axis; None keeps the size (= dilation).

    Returns:
        [batch, x + 2·(padding − dilation), …, channels].
    """
    padding = dilation if padding is None else padding
    padded = jnp.pad(features, [(0, 0), *[(padding, padding)] * 3, (0, 0)])
    batch, *sizes, channels = padded.shape
    x, y, z = (size - 2 * dilation for size in sizes)
    total = jnp.zeros((batch, x, y, z, channels), features.dtype)
    for i in range(3):
        for j in range(3):
            for k in range(3):
                start = (0, i * dilation, j * dilation, k * dilation, 0)
                shifted = lax.dynamic_slice(padded, start, total.shape)
                total += kernel[i, j, k] * shifted
    return total
