"""Affine alignment of two images of like contrast by minimising the paper's NTG.

Quasi-Newton steps (L-BFGS-B) at 48³ and 96³ voxels from a start near the result.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mdvit_jax.io import programs
from mdvit_jax.registration import gauss_newton, levels, similarity_metrics
from mdvit_jax.registration.normalisation import Level

_SIZES = (48, 96)
_EVALUATIONS = 40  # largest number at each size
_QUARTER = 24.0  # voxels of the finest cube


def refine(
    pair: levels.Pair, fixed_to_moving: np.ndarray, *, dof: str = "affine"
) -> np.ndarray:
    """Minimise NTG (paper, Eq. 2) over rigid, similarity or all affine matrices.

    Args:
        fixed_to_moving: 4×4, world RAS+ mm, the start.

    Returns:
        4×4, world RAS+ mm.
    """
    from scipy import optimize  # slow to import, and seldom needed

    for size in _SIZES:
        start = pair.to_voxels(fixed_to_moving, size).astype(np.float32)
        increment = optimize.minimize(
            _value_and_gradient,
            np.zeros(len(gauss_newton.generators(dof)) + 3),
            args=(_program(dof), start, *pair.cubes[size]),
            jac=True,
            method="L-BFGS-B",
            options={"maxfun": _EVALUATIONS, "ftol": 1e-8, "gtol": 1e-7},
        ).x
        matrix = _matrix(jnp.asarray(increment, jnp.float32), start, dof)
        fixed_to_moving = pair.to_world(np.asarray(matrix, np.float64), size)
    return fixed_to_moving


def _value_and_gradient(increment: np.ndarray, program, *arguments):
    """In float64 for SciPy."""
    value, gradient = program(increment.astype(np.float32), *arguments)
    return float(value), np.asarray(gradient, np.float64)


@functools.cache
def _program(dof: str) -> programs.Program:
    def value(increment, start, fixed, moving):
        matrix = _matrix(increment, start, dof)
        # Taken at the start: the weight must not pull at the matrix.
        weight = similarity_metrics.joint_weight(fixed, moving, start)
        return similarity_metrics.ntg(fixed, moving, matrix, weight=weight)

    return programs.Program(jax.value_and_grad(value), f"ntg-{dof}", (Level,))


def _matrix(increment, start, dof: str):
    """[3, 4] in voxels; `increment` is scaled so that equal entries move alike."""
    size_of_turn = len(gauss_newton.generators(dof))
    scale = jnp.ones(size_of_turn + 3).at[-3:].set(_QUARTER)
    return gauss_newton.apply_increment(start, 0.1 * scale * increment, dof)
