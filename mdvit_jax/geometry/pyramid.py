"""Coarser copies of a volume: halving for the network's stages, pooling for Eq. 3.

Means are taken in float32 at least, whatever the dtype of the volume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

if TYPE_CHECKING:
    from jaxtyping import Float, Num


def halve(
    volume: Num[Array | np.ndarray, "*batch x y z"],
) -> Float[Array, "*batch hx hy hz"]:
    """Mean of each 2×2×2 block, [*batch, x, y, z] → [*batch, x/2, y/2, z/2].

    Raises:
        ValueError: an odd size.
    """
    *batch, x, y, z = volume.shape
    if x % 2 or y % 2 or z % 2:
        raise ValueError(f"only even sizes can be halved, not {(x, y, z)}")
    volume = jnp.asarray(volume, jnp.promote_types(volume.dtype, jnp.float32))
    # One axis after the other: strided slices of the innermost axis come last, when
    # the volume is a quarter of its size.
    for axis in (-3, -2, -1):
        first, second = (
            lax.slice_in_dim(volume, k, None, stride=2, axis=volume.ndim + axis)
            for k in (0, 1)
        )
        volume = (first + second) / 2
    return volume


def image_pyramid(
    volume: Num[Array | np.ndarray, "*batch x y z"], levels: int
) -> list[Array]:
    """The volume and its `levels - 1` halvings, coarsest first.

    Args:
        volume: [*batch, x, y, z].
        levels: 1 is the volume alone.

    Raises:
        ValueError: a size that cannot be halved so often.
    """
    volumes = [jnp.asarray(volume)]
    for _ in range(levels - 1):
        volumes.append(halve(volumes[-1]))
    return volumes[::-1]


def pool(
    volume: Num[Array | np.ndarray, "*batch x y z"], *, kernel: int
) -> Float[Array, "*batch px py pz"]:
    """Average pooling with stride 2, the window centred and cut off at the border.

    The mean is taken over the voxels inside the volume only ("padding not counted").

    Args:
        volume: [*batch, x, y, z].
        kernel: odd width of the window in voxels.

    Returns:
        [*batch, ⌈x/2⌉, ⌈y/2⌉, ⌈z/2⌉].

    Raises:
        ValueError: an even kernel.

    Separable: three passes of `kernel` additions instead of kernel³. They are
    windowed reductions, as is their gradient; that of shifted slices takes five times
    as long.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"the pooling kernel is an odd number, not {kernel}")
    volume = jnp.asarray(volume, jnp.promote_types(volume.dtype, jnp.float32))
    reach = kernel // 2
    for axis in (-3, -2, -1):
        size = volume.shape[axis]
        window, strides = [1] * volume.ndim, [1] * volume.ndim
        padding = [(0, 0)] * volume.ndim
        window[axis], strides[axis], padding[axis] = kernel, 2, (reach, reach)
        zero = np.zeros((), volume.dtype)
        total = lax.reduce_window(volume, zero, lax.add, window, strides, padding)
        centres = np.arange(0, size, 2)
        first = np.maximum(centres - reach, 0)
        last = np.minimum(centres + reach, size - 1)
        inside = (last - first + 1).reshape((-1,) + (1,) * (-1 - axis))
        volume = total / jnp.asarray(inside, volume.dtype)
    return jnp.asarray(volume)
