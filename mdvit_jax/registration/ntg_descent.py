"""Affine alignment of two images of like contrast: the paper's NTG is minimised.

Quasi-Newton steps (L-BFGS-B) at 48³ and 96³ voxels, from a start that is near.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from mdvit_jax import geometry, losses
from mdvit_jax.registration import gauss_newton, levels

_SIZES = (48, 96)
_EVALUATIONS = 40  # at each size, the most


def refine(
    pair: levels.Pair, fixed_to_moving: np.ndarray, *, dof: str = "affine"
) -> np.ndarray:
    """Minimise NTG (paper, Eq. 2) over rigid, similarity or all affine matrices.

    Args:
        fixed_to_moving: 4×4, world RAS+ mm, near the answer.

    Returns:
        4×4, world RAS+ mm.
    """
    for size in _SIZES:
        start = pair.to_voxels(fixed_to_moving, size).astype(np.float32)
        volumes = [level.image * level.inside for level in pair.cubes[size]]
        weight = pair.cubes[size][0].weight
        of_matrix = _program(dof)

        def evaluate(free, start=start, volumes=volumes, weight=weight, run=of_matrix):
            value, slope = run(free.astype(np.float32), start, *volumes, weight)
            return float(value), np.asarray(slope, np.float64)

        free = optimize.minimize(
            evaluate,
            np.zeros(len(gauss_newton.generators(dof)) + 3),
            jac=True,
            method="L-BFGS-B",
            options={"maxfun": _EVALUATIONS, "ftol": 1e-8, "gtol": 1e-7},
        ).x
        matrix = _matrix(jnp.asarray(free, jnp.float32), start, dof)
        fixed_to_moving = pair.to_world(np.asarray(matrix, np.float64), size)
    return fixed_to_moving


def _matrix(free, start, dof: str):
    """[3, 4] in voxels; all of `free` are about as large for moves of one size."""
    size_of_turn = len(gauss_newton.generators(dof))
    scale = jnp.ones(size_of_turn + 3).at[-3:].set(_QUARTER)
    return gauss_newton.changed(start, 0.1 * scale * free, dof)


_QUARTER = 24.0  # voxels of the finest cube


@functools.cache
def _program(dof: str):
    def value(free, start, fixed, moving, weight):
        matrix = _matrix(free, start, dof)
        # Voxels from the centre → coordinates in which the cube spans [-1, 1].
        offset = matrix[:, 3] * (2 / fixed.shape[0])
        normalised = geometry.homogeneous(matrix[:, :3], offset)
        warped = geometry.warp_affine(moving, normalised)
        return losses.ntg(fixed * weight, warped * weight)

    return jax.jit(jax.value_and_grad(value))
