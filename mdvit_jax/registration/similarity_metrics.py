"""How well two foregrounds match under a matrix, measured on cubes of 48³ voxels."""

from typing import NamedTuple

import numpy as np
from jax import Array

from mdvit_jax import geometry, losses
from mdvit_jax.io import programs
from mdvit_jax.registration import levels, refinement
from mdvit_jax.registration.normalisation import Level

SIZE = 48


class Measures(NamedTuple):
    """Similarity of a pair under a matrix.

    Attributes:
        ntg: 3D Normalized Total Gradient of the images (paper, Eq. 2), 0 to 1, lower is
            better; meaningful where the two contrasts are alike.
        correlation: mean squared local correlation inside both foregrounds, 0 to 1,
            higher is better, whatever the contrasts.
        overlap: soft Dice of the two foregrounds on the cubes, about 0.96 for a brain
            and itself; only where both masks count, if there are any (a whole head with
            a mask of its brain needs to cover the brain only).
    """

    ntg: float
    correlation: float
    overlap: float


def measure(pair: levels.Pair, fixed_to_moving: np.ndarray) -> Measures:
    """Measure a pair under a 4×4 matrix, world RAS+ mm."""
    matrix = pair.to_voxels(fixed_to_moving, SIZE)
    fit = refinement.fit(pair, SIZE, matrix, dof="affine", steps=0)
    dissimilarity, overlap = _comparison(*pair.cubes[SIZE], matrix.astype(np.float32))
    return Measures(float(dissimilarity), float(fit.correlation), float(overlap))


def ntg(fixed: Level, moving: Level, matrix: Array, *, weight: Array | float = 1.0):
    """NTG of two foregrounds on cubes, the moving one warped by a matrix.

    Args:
        fixed, moving: cubes of one size.
        matrix: [3, 4] fixed → moving, in voxels from the centres of the cubes.
        weight: [n, n, n], a factor of both images.
    """
    warped = _warp(moving.image * moving.inside, matrix)
    return losses.ntg(fixed.image * fixed.inside * weight, warped * weight)


def joint_weight(fixed: Level, moving: Level, matrix: Array) -> Array:
    """[n, n, n], where both images count; outside the moving cube there is background,
    which does.
    """
    return fixed.weight * (1 - _warp(1 - moving.weight, matrix))


def _warp(volume: Array, matrix: Array) -> Array:
    # Voxels from the centre → coordinates in which the cube spans [-1, 1].
    offset = matrix[:, 3] * (2 / volume.shape[0])
    normalised = geometry.homogeneous(matrix[:, :3], offset)
    return geometry.warp_affine(volume, normalised)


def _compare(fixed: Level, moving: Level, matrix: Array):
    weight = joint_weight(fixed, moving, matrix)
    warped = _warp(moving.inside, matrix) * weight
    inside = fixed.inside * weight
    overlap = 2 * (inside * warped).sum() / (inside.sum() + warped.sum() + 1e-6)
    return ntg(fixed, moving, matrix, weight=weight), overlap


_comparison = programs.Program(_compare, "compare", (Level,))


def prepare() -> None:
    """Load or compile the programs of `measure`."""
    refinement.prepare(SIZE, dof="affine")
    cube, _ = levels.empty_cube(SIZE)
    _comparison.prepare(cube, cube, np.zeros((3, 4), np.float32))
