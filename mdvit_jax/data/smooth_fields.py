"""Smooth random fields of space: sums of plane waves.

A wave of a position is the product of one wave along each axis, so that a field on a
grid, moved by any affine, is a matrix product, exact at every point; and a field at
single points is a short sum. Waves whose frequencies are normally distributed give a
field of Gaussian correlation (Rahimi & Recht 2007, "Random features").
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Waves(NamedTuple):
    """f(p) = Σ amplitudes · cos(frequencies · p + phases), of mean 0 and variance 1.

    Attributes:
        frequencies: [waves, 3], radians per mm.
        phases: [waves], radians.
        amplitudes: [components, waves].
    """

    frequencies: Array
    phases: Array
    amplitudes: Array


def random_waves(
    key: Array, length: Array | float, *, components: int = 1, waves: int = 32
) -> Waves:
    """A field of the correlation exp(-distance² / 2 length²).

    Args:
        key: of `jax.random.key`.
        length: mm.
        components: of the field's values.
        waves: how many are summed; the more, the nearer to a normal distribution.
    """
    drawn = jax.random.normal(key, (waves, 4 + components))
    return Waves(
        frequencies=drawn[:, :3] / length,
        phases=2 * jnp.pi * jax.scipy.special.ndtr(drawn[:, 3]),
        amplitudes=drawn[:, 4:].T * (2 / waves) ** 0.5,
    )


def at_points(field: Waves, points: Array) -> Array:
    """The field at points [*any, 3] in mm: [*any, components]."""
    angles = jnp.matmul(points, field.frequencies.T, precision="highest")
    waves = jnp.cos(angles + field.phases)
    return jnp.matmul(waves, field.amplitudes.T, precision="highest")


def on_grid(field: Waves, matrix: Array, axes: tuple[Array, Array, Array]) -> Array:
    """The field at `matrix` · p for the points p of a grid.

    Args:
        field: of one or several components.
        matrix: [4, 4], takes a point of the grid to the space of the field, both mm.
        axes: the coordinates along each axis of the grid: [x], [y], [z], in mm.

    Returns:
        [components, x, y, z].
    """
    turned = jnp.matmul(field.frequencies, matrix[:3, :3], precision="highest")
    shift = jnp.matmul(field.frequencies, matrix[:3, 3], precision="highest")
    x, y, z = (
        axis[:, None] * turned[:, k] for k, axis in enumerate(axes)
    )  # [n, waves]
    plane = (x[:, None] + y[None]) + (shift + field.phases)
    # cos(a + c) = cos a · cos c - sin a · sin c
    along = jnp.concatenate([jnp.cos(z), -jnp.sin(z)], axis=-1)
    across = jnp.concatenate([jnp.cos(plane), jnp.sin(plane)], axis=-1)
    amplitudes = jnp.tile(field.amplitudes, 2)
    weighted = amplitudes[:, None, None, :] * across
    return jnp.matmul(weighted, along.T, precision="highest")


def transform_grid(matrix: Array, axes: tuple[Array, Array, Array]) -> list[Array]:
    """The points of a grid under a 4×4 matrix, 3 × [x, y, z]."""
    x, y, z = axes
    return [
        (a * x + t)[:, None, None] + (b * y)[:, None] + c * z
        for a, b, c, t in matrix[:3]
    ]
