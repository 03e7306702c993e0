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
    from jaxtyping import Bool, Float, Int

_MEMORY = 4  # steps that the next one is extrapolated from
_FARTHEST = 10.0  # largest ratio of an extrapolated step to that of Gauss-Newton
_RIDGE = 1e-3
_LONGEST = 0.15  # longest step, as a share of the foreground's radius
# Where a plain step goes a share s of the way, from 0 to 1, a stretched one and a plain
# one leave (1 - 3s)(1 - s) of it: as much as four plain ones where s is small, and
# elsewhere between -1/3 and that.
_STRETCH = 3.0


class History(NamedTuple):
    """What the steps so far say of the next one, in the p free parameters.

    Attributes:
        newton: [p], the last step of Gauss-Newton.
        made: [p], the step that was made of it.
        steps: [m, p], the last steps made; 0 where there is none.
        changes: [m, p], how much each changed the step of Gauss-Newton.
    """

    newton: Any
    made: Any
    steps: Any
    changes: Any


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
    stretched: Bool[Array, ""] | bool = False,
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
        stretched: whether steps are not extrapolated, but those of Gauss-Newton, in
            turn `_STRETCH` times as long and as they are.
        dof: "rigid", "similarity" or "affine". A rigid step keeps the start's scale.
    """
    one, other = normalise(fixed, coverage), normalise(moving, coverage)
    both = sample_pair(one, other, points[0]), sample_pair(other, one, points[1])
    radius = fixed.image.shape[0] / 4
    directions = generators(dof)
    in_voxels = jnp.ones(len(directions) + 3).at[-3:].set(radius)

    def step(state):
        matrix, history, _, _, count = state
        system = symmetric_equations(*both, matrix, outline_weight)
        newton = damped_step(system, matrix, directions, radius)
        history = extrapolate(newton, history)
        stretch = jnp.where(count % 2 == 0, _STRETCH, 1)
        increment = jnp.where(stretched, shorten(stretch * newton), history.made)
        goes_on = (count < steps) & (radius * jnp.linalg.norm(increment) > tolerance)
        moved = apply_increment(matrix, increment * in_voxels, dof)
        matrix = jnp.where(goes_on, moved, matrix)
        return matrix, history, goes_on, system[2:], count + goes_on

    # The last round makes no step, so that the measures belong to the final matrix.
    free = len(directions) + 3
    shapes = free, free, (_MEMORY, free), (_MEMORY, free)
    none = History(*map(jnp.zeros, shapes))
    measures = (jnp.zeros(()),) * 3
    state = (start, none, jnp.array(True), measures, jnp.zeros((), jnp.int32))
    matrix, _, _, measures, count = jax.lax.while_loop(lambda s: s[2], step, state)
    return Fit(matrix, *measures, count)


def damped_step(
    system: NormalEquations,
    matrix: Float[Array, "3 4"],
    directions: Float[Array, "d 3 3"],
    radius: float,
) -> Float[Array, " p"]:
    """The step of Gauss-Newton in the p = d + 3 free parameters.

    Args:
        system: the system in the 12 entries of the matrix.
        matrix: where the system was set up.
        directions: in which the linear part may change, see `generators`.
        radius: radius of the foreground in voxels; shifts are in units of it.
    """
    turn = multiply(directions, matrix[:, :3])
    turn = jnp.pad(turn, ((0, 0), (0, 0), (0, 1)))
    shift = radius * jnp.eye(12)[3::4].reshape(3, 3, 4)
    basis = jnp.concatenate([turn, shift]).reshape(-1, 12)
    reduced = multiply(multiply(basis, system.hessian), basis.T)
    damped = reduced + jnp.diag(1e-4 * jnp.diag(reduced) + 1e-6)
    return jnp.linalg.solve(damped, multiply(basis, system.gradient))


def extrapolate(newton: Float[Array, " p"], history: History) -> History:
    """The history with the step that is to be made now.

    Between two people steps of Gauss-Newton go far too short a way: what the images
    have in common is smoother than the images are, and β follows the matrix. How the
    last steps changed those of Gauss-Newton tells the step that leaves nothing to do,
    as far as they span the parameters (Anderson, 1965). It begins anew where a step
    makes the next one longer.
    """
    shorter = jnp.linalg.norm(newton) < jnp.linalg.norm(history.newton)
    steps = jnp.concatenate([history.made[None], history.steps[:-1]]) * shorter
    change = newton - history.newton
    changes = jnp.concatenate([change[None], history.changes[:-1]]) * shorter
    # Each is scaled alike: old steps are far longer than the last ones.
    scale = jnp.linalg.norm(changes, axis=1, keepdims=True) + 1e-12
    unit = changes / scale
    gram = multiply(unit, unit.T) + _RIDGE * jnp.eye(_MEMORY)
    share = jnp.linalg.solve(gram, multiply(unit, newton))
    made = newton - multiply(share, steps / scale + unit)
    farthest = _FARTHEST * jnp.linalg.norm(newton)
    made *= jnp.minimum(1, farthest / (jnp.linalg.norm(made) + 1e-12))
    return History(newton, shorten(made), steps, changes)


def shorten(step: Float[Array, " p"]) -> Float[Array, " p"]:
    """A step of at most `_LONGEST`."""
    return step * jnp.minimum(1, _LONGEST / (jnp.linalg.norm(step) + 1e-12))


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
