"""The three responses of the 3D Sobel filter (paper, Appendix B, Eqs. 5–10).

Along its own axis the filter is the difference (-1, 0, 1), along the two others the
smoothing (1, 2, 1). It is evaluated where it fits ("valid"), and along its own axis at
every `stride`-th voxel (Δ of Appendix B): for axis 0 a volume [x, y, z] gives
[⌊(x − 3)/stride⌋ + 1, y − 2, z − 2].

Two forms compute the same: "reference" is one dense convolution, which is the
definition, "slices" are sums of shifted slices. Each has its adjoint, with which the
gradient of a loss is written down rather than derived: the automatic transpose of a
slice is a volume of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

if TYPE_CHECKING:
    from jaxtyping import Float

FORMS = ("reference", "slices")
DIFFERENCE, SMOOTHING = (-1, 0, 1), (1, 2, 1)


def filter_volume(
    volume: Float[Array, "*batch x y z"], axis: int, *, stride: int, form: str
) -> Float[Array, "*batch rx ry rz"]:
    """Sobel response along one axis (paper, Eqs. 5–7), without padding.

    Args:
        volume: [*batch, x, y, z].
        axis: 0, 1 or 2: the derivative along x, y or z.
        stride: of the response along that axis, in voxels.
        form: one of `FORMS`.
    """
    filter_ = _convolve if form == "reference" else _filter_slices
    return filter_(volume, axis, stride)


def filter_transposed(
    response: Float[Array, "*batch rx ry rz"],
    axis: int,
    shape: tuple[int, ...],
    *,
    stride: int,
    form: str,
) -> Float[Array, "*batch x y z"]:
    """Adjoint of `filter_volume`, ⟨S v, u⟩ = ⟨v, Sᵀ u⟩.

    Args:
        response: [*batch, rx, ry, rz], of the shape that `filter_volume` returns.
        axis, stride, form: as in `filter_volume`.
        shape: (x, y, z) of the volume.
    """
    transposed = (
        _convolve_transposed if form == "reference" else _filter_slices_transposed
    )
    return transposed(response, axis, shape, stride)


def _convolve(volume: Array, axis: int, stride: int) -> Array:
    taps = [DIFFERENCE if k == axis else SMOOTHING for k in range(3)]
    kernel = np.einsum("i,j,k->ijk", *taps)[None, None]
    *batch, x, y, z = volume.shape
    # lax convolves without flipping the kernel: the cross-correlation of Eqs. 5–7.
    response = lax.conv_general_dilated(
        volume.reshape(-1, 1, x, y, z),
        jnp.asarray(kernel, volume.dtype),
        window_strides=[stride if k == axis else 1 for k in range(3)],
        padding="VALID",
        precision="highest",
    )
    return response.reshape(*batch, *response.shape[2:])


def _convolve_transposed(
    response: Array, axis: int, shape: tuple[int, ...], stride: int
) -> Array:
    volume = jax.ShapeDtypeStruct(shape, response.dtype)
    transposed = jax.linear_transpose(lambda v: _convolve(v, axis, stride), volume)
    (result,) = transposed(response)
    return result


def _filter_slices(volume: Array, axis: int, stride: int) -> Array:
    # The difference first: its stride makes the rest of the work smaller.
    for k in _filter_order(axis):
        dimension = volume.ndim - 3 + k
        end = volume.shape[dimension] - 2
        step = stride if k == axis else 1
        first, middle, last = (
            lax.slice_in_dim(volume, i, end + i, step, axis=dimension)
            for i in (0, 1, 2)
        )
        volume = last - first if k == axis else first + 2 * middle + last
    return volume


def _filter_slices_transposed(
    response: Array, axis: int, shape: tuple[int, ...], stride: int
) -> Array:
    for k in reversed(_filter_order(axis)):
        dimension = response.ndim - 3 + k
        size = shape[dimension]
        step = stride if k == axis else 1
        # Put every value back where its window began, then filter with the taps turned
        # round: the window of three begins at most two voxels before a voxel.
        reach = (response.shape[dimension] - 1) * step + 1
        widths = [(0, 0, 0)] * response.ndim
        widths[dimension] = (2, size - reach, step - 1)
        spread = lax.pad(response, jnp.zeros((), response.dtype), widths)
        last, middle, first = (
            lax.slice_in_dim(spread, i, size + i, axis=dimension) for i in (0, 1, 2)
        )
        response = last - first if k == axis else first + 2 * middle + last
    return response


def _filter_order(axis: int) -> list[int]:
    return [axis, *(k for k in range(3) if k != axis)]
