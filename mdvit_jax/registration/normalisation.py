"""An image on a cube → what of it is compared, and where.

The image and the outline of its foreground are each normalised by the mean and the
standard deviation of their neighbourhoods.

Two things at the border differ from one contrast to another and bias the matrix: its
voxels are blended with the background, and neighbourhoods that the border cuts off have
another mean. Where the matrix is to be exact, a voxel therefore counts only if its
whole neighbourhood is foreground and has no such voxels (`coverage`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from mdvit_jax.registration import sampling

if TYPE_CHECKING:
    from jaxtyping import Float

_EPSILON = 0.01  # standard deviation taken as noise, of the image's range of 1
_EPSILON_OUTLINE = 0.1


class Level(NamedTuple):
    """An image at one size of the pyramid.

    Attributes:
        image: [n, n, n], about [0, 1] within the foreground.
        inside: [n, n, n] in [0, 1], share of the voxel that is foreground.
        weight: [n, n, n] in [0, 1], 0 where the user's mask leaves the voxel out, in
            padding, and where the field of view cuts the foreground off.
    """

    image: Any
    inside: Any
    weight: Any


class Features(NamedTuple):
    """The channels of an image that are compared, [n, n, n] each.

    Attributes:
        image: the locally normalised image, 0 where it does not count.
        outline: the locally normalised foreground.
        counted: 1 where the image counts, else 0.
        weight: weight of both channels, in [0, 1].
    """

    image: Float[Array, "n n n"]
    outline: Float[Array, "n n n"]
    counted: Float[Array, "n n n"]
    weight: Float[Array, "n n n"]


@jax.jit  # traced once for both images
def normalise(level: Level, coverage: Float[Array, ""] | float) -> Features:
    """Normalise an image and its outline by their neighbourhoods.

    Args:
        coverage: share of a voxel's neighbourhood, where it has any weight, that must
            be foreground for the voxel to be tissue, and tissue for it to count; 0
            counts the whole foreground.
    """
    around, squares_around = _smooth(level.inside), _smooth(level.inside**2)
    covered = coverage * _smooth((level.weight > 0).astype(jnp.float32))
    tissue = ((level.inside > 0.5) & (around >= covered)).astype(jnp.float32)
    image = tissue * level.image
    count, total, squares = _smooth(tissue), _smooth(image), _smooth(image**2)
    counted = tissue * (count >= covered)
    count += 1e-6
    mean = total / count
    variance = jnp.maximum(squares / count - mean**2, 0)
    image = counted * (image - mean) / jnp.sqrt(variance + _EPSILON**2)
    variance = jnp.maximum(squares_around - around**2, 0)
    outline = (level.inside - around) / jnp.sqrt(variance + _EPSILON_OUTLINE**2)
    return Features(image, outline, counted, level.weight)


def _smooth(volume: Float[Array, "n n n"]) -> Float[Array, "n n n"]:
    # One volume at a time fits the processor's cache. Without the barrier XLA sums the
    # last axis anew for everything that is made of it.
    return jax.lax.optimization_barrier(sampling.smooth(volume))
