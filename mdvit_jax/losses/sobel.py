"""The three responses of the 3D Sobel filter (paper, Appendix B, Eqs. 5–10).

Along its own axis the filter is the difference (-1, 0, 1), along the two others the
smoothing (1, 2, 1). It is evaluated where it fits ("valid"), at every `strides[k]`-th
voxel along axis k: a volume [x, y, z] gives [⌊(x - 3)/strides[0]⌋ + 1, …].

Two forms compute the same: one dense convolution, which is the definition, and sums
of shifted slices. Each has its adjoint, with which the gradient of a loss is written
down rather than derived: the automatic transpose of a slice is a volume of its own.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

DIFFERENCE, SMOOTHING = (-1, 0, 1), (1, 2, 1)

Strides = tuple[int, int, int]
Shape = tuple[int, ...]


class Form(NamedTuple):
    """A way to compute the filter and its adjoint.

    response: (volume [*batch, x, y, z], axis 0–2, strides) → response.
    adjoint: (response, axis, strides, shape of the volume) → [*batch, x, y, z].
    """

    response: Callable[[Array, int, Strides], Array]
    adjoint: Callable[[Array, int, Strides, Shape], Array]


def _convolve(volume: Array, axis: int, strides: Strides) -> Array:
    taps = [DIFFERENCE if k == axis else SMOOTHING for k in range(3)]
    kernel = np.einsum("i,j,k->ijk", *taps)[None, None]
    *batch, x, y, z = volume.shape
    # lax convolves without flipping the kernel: the cross-correlation of Eqs. 5–7.
    response = lax.conv_general_dilated(
        volume.reshape(-1, 1, x, y, z),
        jnp.asarray(kernel, volume.dtype),
        window_strides=strides,
        padding="VALID",
        precision="highest",
    )
    return response.reshape(*batch, *response.shape[2:])


def _convolve_adjoint(
    response: Array, axis: int, strides: Strides, shape: Shape
) -> Array:
    volume = jax.ShapeDtypeStruct(shape, response.dtype)
    (adjoint,) = jax.linear_transpose(lambda v: _convolve(v, axis, strides), volume)(
        response
    )
    return adjoint


def _slices(volume: Array, axis: int, strides: Strides) -> Array:
    # The difference first: its stride makes the rest of the work smaller.
    for k in _order(axis):
        dimension = volume.ndim - 3 + k
        end = volume.shape[dimension] - 2
        first, middle, last = (
            lax.slice_in_dim(volume, i, end + i, strides[k], axis=dimension)
            for i in (0, 1, 2)
        )
        volume = last - first if k == axis else first + 2 * middle + last
    return volume


def _slices_adjoint(
    response: Array, axis: int, strides: Strides, shape: Shape
) -> Array:
    for k in reversed(_order(axis)):
        dimension = response.ndim - 3 + k
        size = shape[dimension]
        # Put every value back where its window began, then filter with the taps turned
        # round: the window of three begins at most two voxels before a voxel.
        reach = (response.shape[dimension] - 1) * strides[k] + 1
        widths = [(0, 0, 0)] * response.ndim
        widths[dimension] = (2, size - reach, strides[k] - 1)
        spread = lax.pad(response, jnp.zeros((), response.dtype), widths)
        last, middle, first = (
            lax.slice_in_dim(spread, i, size + i, axis=dimension) for i in (0, 1, 2)
        )
        response = last - first if k == axis else first + 2 * middle + last
    return response


def _order(axis: int) -> list[int]:
    return [axis, *(k for k in range(3) if k != axis)]


CONVOLUTION = Form(_convolve, _convolve_adjoint)
SLICES = Form(_slices, _slices_adjoint)
