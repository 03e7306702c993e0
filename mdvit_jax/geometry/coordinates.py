"""Normalised coordinates and their relation to voxels and to world millimetres.

Along an axis of n voxels the normalised coordinate runs from -1 at the outer edge
of the first voxel to 1 at the outer edge of the last: the centre of voxel i lies at
(2i + 1)/n - 1. Halving a volume by averaging keeps every coordinate in its place, so
that one matrix serves all levels of an image pyramid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import Array

if TYPE_CHECKING:
    from jaxtyping import Float


def voxel_centres(size: int, *, dtype=jnp.float32) -> Float[Array, " size"]:
    """Normalised coordinates of the voxel centres along one axis, [size].

    They are (2i + 1) / size − 1: the volume reaches from -1 to 1, edge to edge.
    """
    return (2 * jnp.arange(size, dtype=dtype) + 1) / size - 1


def voxel_to_normalised(shape: tuple[int, ...]) -> Float[np.ndarray, "4 4"]:
    """4×4 float64 matrix from voxel indices to normalised coordinates."""
    size = np.asarray(shape, np.float64)
    matrix = np.diag([*(2 / size), 1.0])
    matrix[:3, 3] = 1 / size - 1
    return matrix


def normalised_to_world(
    shape: tuple[int, ...], to_world: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "4 4"]:
    """4×4 float64 matrix from normalised coordinates to world RAS+ millimetres.

    `to_world` is the 4×4 affine of the volume: voxel indices → world RAS+ mm.
    """
    return np.asarray(to_world, np.float64) @ np.linalg.inv(voxel_to_normalised(shape))


def in_world(
    fixed_to_moving: Float[Array | np.ndarray, "4 4"],
    *,
    fixed: Float[np.ndarray, "4 4"],
    moving: Float[np.ndarray, "4 4"],
) -> Float[np.ndarray, "4 4"]:
    """Carry a normalised `fixed_to_moving` over to world RAS+ millimetres, 4×4 float64.

    Args:
        fixed_to_moving: 4×4 in normalised coordinates.
        fixed: 4×4, normalised coordinates of the fixed volume → world
            (`normalised_to_world`).
        moving: the same of the moving volume.

    Returns:
        4×4 float64, a point of the fixed world → its point of the moving world, mm.
    """
    return moving @ np.asarray(fixed_to_moving, np.float64) @ np.linalg.inv(fixed)
