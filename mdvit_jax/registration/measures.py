"""How well two objects lie on each other, at the voxels of the cube of 48³."""

from typing import NamedTuple

import jax
import numpy as np

from mdvit_jax import geometry, losses
from mdvit_jax.registration import align, levels

SIZE = 48


class Measures(NamedTuple):
    """Of a pair under a matrix.

    Attributes:
        ntg: 3D Normalized Total Gradient of the images (paper, Eq. 2), 0 to 1, lower is
            better; it means something where the two contrasts are alike.
        correlation: mean squared local correlation inside of both objects, 0 to 1,
            higher is better, whatever the contrasts.
        overlap: Dice of the two objects, 0 to 1.
    """

    ntg: float
    correlation: float
    overlap: float


def measure(pair: levels.Pair, fixed_to_moving: np.ndarray) -> Measures:
    """Measure a pair under a 4×4 matrix, world RAS+ mm."""
    matrix = pair.to_voxels(fixed_to_moving, SIZE)
    fit = align.fit(pair, SIZE, matrix, dof="affine", steps=0)
    normalised = np.eye(4, dtype=np.float32)
    normalised[:3] = matrix * [1, 1, 1, 2 / SIZE]
    ntg, overlap = _compare(*pair.cubes[SIZE], normalised)
    return Measures(float(ntg), float(fit.correlation), float(overlap))


@jax.jit
def _compare(fixed, moving, matrix):
    images = (level.image * level.inside for level in (fixed, moving))
    one, other = images
    ntg = losses.ntg(one, geometry.warp_affine(other, matrix))
    warped = geometry.warp_affine(moving.inside, matrix)
    both = (fixed.inside * warped).sum()
    return ntg, 2 * both / (fixed.inside.sum() + warped.sum() + 1e-6)
