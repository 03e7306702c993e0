"""How far an affine maps points from where the true one maps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax import geometry

if TYPE_CHECKING:
    from jaxtyping import Float

_LATTICE = 8  # points along each axis: an affine has twelve numbers, these are plenty
_SMOOTH = 1e-6  # squared normalised units: a thousandth of the half field of view


def mapped_distance(
    estimate: Float[Array, "*batch 4 4"],
    truth: Float[Array, "*batch 4 4"],
    weights: Float[Array | np.ndarray, "*batch x y z"],
) -> Float[Array, "*batch"]:
    """Mean distance between the images of points under two affines, [*batch].

    Args:
        estimate, truth: [*batch, 4, 4] `fixed_to_moving`, normalised coordinates.
        weights: [*batch, x, y, z], how much a point of the fixed grid counts: the
            brain's image or mask. Nowhere negative; averaged over 8³ cells at whose
            centres the points are. If all are 0 the distance is 0.

    Returns:
        In normalised units: times half the field of view it is in mm. Differentiable
        everywhere, with gradient 0 where estimate and truth are equal.

    Raises:
        ValueError: an axis of `weights` that 8³ cells do not divide evenly.
    """
    cell_weights, points = _cells(weights)
    # [*batch, points, 3]
    apart = jnp.einsum(
        "...ab,pb->...pa", (estimate - truth)[..., :3, :], points, precision="highest"
    )
    distance = jnp.sqrt((apart**2).sum(-1) + _SMOOTH) - _SMOOTH**0.5
    total = cell_weights.sum(-1)
    mean = (cell_weights * distance).sum(-1) / jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, mean, 0)


def _cells(weights: Array | np.ndarray) -> tuple[Array, Array]:
    """Means over the cells [*batch, cells], and their centres [cells, 4]."""
    weights = jnp.asarray(weights)
    *batch, x, y, z = weights.shape
    counts = [min(_LATTICE, n) for n in (x, y, z)]
    if any(n % count for n, count in zip((x, y, z), counts, strict=True)):
        raise ValueError(
            f"each axis must be less than {_LATTICE} voxels or a multiple of it, not "
            f"{(x, y, z)}"
        )
    a, b, c = counts
    cells = weights.reshape(*batch, a, x // a, b, y // b, c, z // c)
    cells = cells.mean(axis=(-5, -3, -1)).reshape(*batch, a * b * c)
    centres = jnp.meshgrid(*map(geometry.voxel_centres, counts), indexing="ij")
    points = jnp.stack([*centres, jnp.ones(counts)], axis=-1)
    return cells, points.reshape(-1, 4)
