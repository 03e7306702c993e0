"""Affine alignment of two images of any contrast by Gauss-Newton steps.

What is minimised stands in `normal_equations`. Positions are in voxels from the centre
of the cube, matrices are [3, 4].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax.registration.normal_equations import (
    NormalEquations,
    multiply,
    sample_pair,
    symmetric_equations,
)
from mdvit_jax.registration.normalisation import Level, normalise

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_SMALL = 1e-3
_SLOWEST = 0.8  # largest ratio of two successive steps that is extrapolated
_LONGEST = 0.15  # longest step, as a share of the foreground's radius


class Fit(NamedTuple):
    """Where the steps ended.

    Attributes:
        matrix: [3, 4], fixed → moving.
        correlation: mean squared local correlation over the voxels inside both, in
            [0, 1]; the mean of both directions.
        outline: mean squared difference of the outlines, 0 where they agree; the mean
            of both directions.
        overlap: voxels inside both, as a share of those inside the smaller one.
        steps: number of steps made.
    """

    matrix: Any
    correlation: Any
    outline: Any
    overlap: Any
    steps: Any


def align(
    fixed: Level,
    moving: Level,
    points: tuple[Int[Array, " k"], Int[Array, " k"]],
    start: Float[Array, "3 4"],
    outline_weight: Float[Array, ""] | float,
    coverage: Float[Array, ""] | float,
    steps: Int[Array, ""] | int,
    tolerance: Float[Array, ""] | float,
    *,
    dof: str = "affine",
) -> Fit:
    """Minimise over rigid, similarity or all affine matrices, from one start.

    Args:
        fixed, moving: the images on cubes of one size.
        points: indices into the flattened fixed and moving cube of the voxels that
            take part: the foreground and the voxels about its outline; -1 is padding.
        start: fixed → moving, in voxels from the centres of the cubes.
        outline_weight: weight of the outlines, relative to the interior.
        coverage: share of a neighbourhood that must be tissue; see `normalise`.
        steps: largest number of steps; 0 only measures the start.
        tolerance: in voxels; the steps end with one that moves the foreground less.
        dof: "rigid", "similarity" or "affine". A rigid step keeps the start's scale.
    """
    one, other = normalise(fixed, coverage), normalise(moving, coverage)
    both = sample_pair(one, other, points[0]), sample_pair(other, one, points[1])
    radius = fixed.image.shape[0] / 4
    directions = generators(dof)
    in_voxels = jnp.ones(len(directions) + 3).at[-3:].set(radius)

    def step(state):
        matrix, last, _, _, count = state
        system = symmetric_equations(*both, matrix, outline_weight)
        increment = damped_step(system, matrix, last, directions, radius)
        goes_on = (count < steps) & (radius * jnp.linalg.norm(increment) > tolerance)
        moved = apply_increment(matrix, increment * in_voxels, dof)
        matrix = jnp.where(goes_on, moved, matrix)
        return matrix, increment, goes_on, system[2:], count + goes_on

    # The last round makes no step, so that the measures belong to the final matrix.
    none = jnp.zeros(len(directions) + 3)
    measures = (jnp.zeros(()),) * 3
    state = (start, none, jnp.array(True), measures, jnp.zeros((), jnp.int32))
    matrix, _, _, measures, count = jax.lax.while_loop(lambda s: s[2], step, state)
    return Fit(matrix, *measures, count)


def damped_step(
    system: NormalEquations,
    matrix: Float[Array, "3 4"],
    last: Float[Array, " p"],
    directions: Float[Array, "d 3 3"],
    radius: float,
) -> Float[Array, " p"]:
    """The step of the p = d + 3 free parameters.

    Args:
        system: the system in the 12 entries of the matrix.
        matrix: where the system was set up.
        last: the step before.
        directions: in which the linear part may change, see `generators`.
        radius: radius of the foreground in voxels; shifts are in units of it.
    """
    turn = multiply(directions, matrix[:, :3])
    turn = jnp.pad(turn, ((0, 0), (0, 0), (0, 1)))
    shift = radius * jnp.eye(12)[3::4].reshape(3, 3, 4)
    basis = jnp.concatenate([turn, shift]).reshape(-1, 12)
    reduced = multiply(multiply(basis, system.hessian), basis.T)
    damped = reduced + jnp.diag(1e-4 * jnp.diag(reduced) + 1e-6)
    increment = jnp.linalg.solve(damped, multiply(basis, system.gradient))
    # Between two people steps shrink slowly: extrapolate their geometric series.
    ratio = multiply(increment, last) / (multiply(last, last) + 1e-12)
    increment /= 1 - jnp.clip(ratio, 0, _SLOWEST)
    length = radius * jnp.linalg.norm(increment)
    return increment * jnp.minimum(1, _LONGEST * radius / (length + _SMALL))


def apply_increment(
    matrix: Float[Array, "3 4"], increment: Float[Array, " p"], dof: str
) -> Float[Array, "3 4"]:
    """A matrix after a small change.

    Args:
        matrix: in voxels of a cube.
        increment: of the linear part, one along each of `generators(dof)`, and of the
            shift, three in voxels.
    """
    directions = generators(dof)
    change = jnp.tensordot(
        increment[: len(directions)], directions, 1, precision="highest"
    )
    identity = jnp.eye(3)
    if dof == "affine":
        linear = multiply(identity + change, matrix[:, :3])
    else:
        half = (change - change.T) / 4
        # Cayley's transform: exactly a rotation.
        turn = jnp.linalg.solve(identity - half, identity + half)
        linear = multiply((1 + jnp.trace(change) / 3) * turn, matrix[:, :3])
    shift = matrix[:, 3:] + increment[len(directions) :, None]
    return jnp.concatenate([linear, shift], axis=1)


def generators(dof: str) -> Float[Array, "d 3 3"]:
    """The directions in which the linear part may change."""
    if dof == "affine":
        return jnp.eye(9).reshape(9, 3, 3)
    turns = np.zeros((3, 3, 3), np.float32)
    for axis, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        turns[axis, j, i], turns[axis, i, j] = 1, -1
    if dof == "similarity":
        turns = np.concatenate([turns, np.eye(3, dtype=np.float32)[None]])
    return jnp.asarray(turns)
