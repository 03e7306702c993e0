"""PyTorch's normalised coordinates and ours.

In `affine_grid(align_corners=True)` x runs along the last array axis, and ±1 are the
centres of the outermost voxels. Ours are in the order of the array's axes, and ±1 are
the outer edges (`geometry`). Both have their origin at the volume's centre, so along
an axis of n voxels ours is (n − 1)/n times PyTorch's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax import Array

from mdvit_jax import geometry

if TYPE_CHECKING:
    from jaxtyping import Float


def affine_matrix(
    parameters: Float[Array, "batch 12"],
    centre: Float[Array, "batch 3"],
    shape: tuple[int, ...],
) -> Float[Array, "batch 4 4"]:
    """`geometry.affine_matrix` of parameters that are meant in PyTorch's coordinates.

    Args:
        parameters: [batch, 12].
        centre: [batch, 3], in ours.
        shape: x, y, z of the volume that will be warped.

    Returns:
        [batch, 4, 4] `fixed_to_moving`, in ours.
    """
    theirs = (centre / _scale(shape))[:, ::-1]
    return from_torch(geometry.affine_matrix(parameters, centre=theirs), shape)


def from_torch(
    matrix: Float[Array, "*batch 4 4"], shape: tuple[int, ...]
) -> Float[Array, "*batch 4 4"]:
    """A [*batch, 4, 4] matrix in PyTorch's coordinates → the same map in ours.

    `shape` is that of the array that is warped, and of the one it is warped onto.
    """
    order = jnp.array([2, 1, 0, 3])
    scale = jnp.append(_scale(shape), 1)
    return scale[:, None] * matrix[..., order, :][..., :, order] / scale


def _scale(shape: tuple[int, ...]) -> Array:
    return jnp.array([(n - 1) / n for n in shape], jnp.float32)
