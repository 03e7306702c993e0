"""Other intensities for the same anatomy: any curve of brightness, on the device."""

import jax
import jax.numpy as jnp
from jax import Array

_KNOTS = 8  # of the curve, from dark to bright
_RIM = 0.04  # intensities up to this one fade into the background, which stays 0


def draw_curve(key: Array) -> Array:
    """Values at the knots, [knots] in [0, 1]: curves of any form, rising or falling.

    Half of them go straight from one brightness to another but for small bends; in the
    others each knot is drawn independently.
    """
    kind, ends, bends, knots = jax.random.split(key, 4)
    first, last = jax.random.uniform(ends, (2,))
    straight = first + (last - first) * jnp.linspace(0, 1, _KNOTS)
    straight += 0.1 * jax.random.normal(bends, (_KNOTS,))
    free = jax.random.uniform(knots, (_KNOTS,))
    curve = jnp.clip(jnp.where(jax.random.bernoulli(kind), straight, free), 0, 1)
    # Some part of the brain stays visible under each of them.
    return curve / jnp.maximum(curve.max(), 0.1)


def apply_curve(curve: Array, image: Array) -> Array:
    """[*batch, knots] and [*batch, x, y, z] in [0, 1] → the same shape in [0, 1].

    Linear between the knots. As a sum of triangles: a table is slow to look up in.
    """
    result = jnp.zeros_like(image)
    position = jnp.clip(image, 0, 1) * (curve.shape[-1] - 1)
    for knot in range(curve.shape[-1]):
        triangle = jnp.maximum(1 - jnp.abs(position - knot), 0)
        result += curve[..., knot, None, None, None] * triangle
    return result * jnp.clip(image / _RIM, 0, 1)
