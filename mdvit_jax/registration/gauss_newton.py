"""Affine alignment of two images of any contrast by Gauss-Newton steps.

Around every voxel the fixed image is taken to be a linear function of the moving one,
of either sign. With both images normalised by the mean and the deviation of their
surroundings (f and m), the residual is

    r(x) = f(x) - β(x) m(A x),    β(x) = ⟨f, m∘A⟩ / ⟨m∘A, m∘A⟩ around x,

whose sum of squares is small where the local correlation is high: the local
correlation of Cachier et al. (2003) and Avants et al. (2008), here for an affine and
by second-order steps. Only what lies inside of both objects takes part, so the edge
towards an empty background, which no change of contrast inverts, cannot pull. The
outlines of the two objects are a second image of their own, `outline`, whose weight
falls from coarse to fine.

Positions are in voxels from the centre of the cube, matrices are [3, 4].
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax.registration import sampling

_EPSILON = 0.01  # deviation, as a part of the image's range, below which all is noise
_EPSILON_OUTLINE = 0.1
_SMALL = 1e-3
_WHOLLY_INSIDE = 0.999
_SLOWEST = 0.8  # ratio of the lengths of two steps that is made up for
_LONGEST = 0.15  # of the object's radius, in one step


class Level(NamedTuple):
    """An image at one size of the pyramid.

    Attributes:
        image: [n, n, n], about [0, 1] within the object.
        inside: [n, n, n], how much of a voxel belongs to the object, [0, 1].
        weight: [n, n, n], how much it counts (a mask of the user's), [0, 1].
    """

    image: Any
    inside: Any
    weight: Any


class Fit(NamedTuple):
    """Where the steps ended.

    Attributes:
        matrix: [3, 4], fixed → moving.
        correlation: mean squared local correlation over the voxels inside of both, in
            [0, 1].
        outline: mean squared difference of the outlines, 0 where they agree.
        overlap: voxels inside of both, as a part of those inside of the fixed one.
        steps: how many were made.
    """

    matrix: Any
    correlation: Any
    outline: Any
    overlap: Any
    steps: Any


def align(
    fixed: Level,
    moving: Level,
    points: Array,
    start: Array,
    outline_weight: Array,
    steps: Array,
    tolerance: Array,
    *,
    dof: str = "affine",
) -> Fit:
    """Minimise over rigid, similarity or all affine matrices, from one start.

    Args:
        points: [k], indices into the flattened fixed cube, of the voxels that take
            part: the object's and those about its outline; -1 is none.
        start: [3, 4].
        outline_weight: of the outlines against the interior.
        steps: the most that are made; with 0, the start itself is judged.
        tolerance: in voxels; steps end when none moves the object further.
        dof: "rigid", "similarity" or "affine". A rigid step keeps the start's scale.
    """
    size = fixed.image.shape[0]
    radius = size / 4
    directions = generators(dof)
    in_voxels = jnp.ones(len(directions) + 3).at[-3:].set(radius)
    points, used = jnp.maximum(points, 0), points >= 0
    f, f_outline, f_inside = (volume.reshape(-1)[points] for volume in features(fixed))
    weight = used * fixed.weight.reshape(-1)[points]
    counted = f_inside * weight
    m, m_outline, m_inside = features(moving)
    channels = jnp.stack([m, m_outline])
    cells = sampling.lowest_corner(jnp.stack([m_inside * moving.weight, moving.weight]))
    x = sampling.positions(points, size)
    pairs = jnp.stack([x[i] * x[j] for i in range(4) for j in range(4)])

    def around(values):
        """Sums over the surroundings of each point, of values [n, k]."""
        volumes = jnp.zeros((len(values), size**3)).at[:, points].add(values)
        smooth = sampling.smooth(volumes.reshape(-1, *(size,) * 3))
        return smooth.reshape(-1, size**3)[:, points]

    def terms(matrix):
        (m_value, m_outline_value), slopes, (m_counted, m_weight) = sampling.sample(
            channels, cells, matrix, x
        )
        both = counted * (m_counted >= _WHOLLY_INSIDE)
        f_here, m_here = f * both, m_value * both
        product, power = around(jnp.stack([f_here * m_here, m_here * m_here]))
        beta = product / (power + _SMALL)
        residual = f_here - beta * m_here
        border = outline_weight * weight * m_weight
        edge = border * (f_outline - m_outline_value)
        # Of both channels, the derivatives by what is added to A x.
        inner, outer = beta * both * slopes[:, 0], border * slopes[:, 1]
        # Σ g_a g_c x_b x_d, for the 12 derivatives g_a x_b of both channels at once.
        g = inner[:, None] * inner[None] + outer[:, None] * outer[None]
        hessian = sampling.product(g.reshape(9, -1), pairs).reshape(3, 3, 4, 4)
        hessian = hessian.transpose(0, 2, 1, 3).reshape(12, 12)
        pull = sampling.product(inner * residual + outer * edge, x).reshape(12)
        edges = jnp.sum((border * f_outline) ** 2)
        summary = (
            jnp.sum(beta * m_here * f_here) / (jnp.sum(f_here * f_here) + 1e-6),
            jnp.sum(edge * edge) / (edges + 1e-6),
            jnp.sum(both) / (jnp.sum(counted) + 1e-6),
        )
        return hessian, pull, summary

    def step(state):
        matrix, before, _, _, count = state
        hessian, pull, summary = terms(matrix)
        # What the free parameters do to the 12 entries: 9 or fewer change the linear
        # part, three of the size of the object shift.
        turn = jnp.einsum("kij,jl->kil", directions, matrix[:, :3])
        turn = jnp.pad(turn, ((0, 0), (0, 0), (0, 1)))
        shift = radius * jnp.eye(12)[3::4].reshape(3, 3, 4)
        basis = jnp.concatenate([turn, shift]).reshape(-1, 12)
        reduced = basis @ hessian @ basis.T
        damped = reduced + jnp.diag(1e-4 * jnp.diag(reduced) + 1e-6)
        free = jnp.linalg.solve(damped, basis @ pull)
        # Between two people steps shrink slowly: go as far as their sum will come to.
        ratio = (free @ before) / (before @ before + 1e-12)
        free /= 1 - jnp.clip(ratio, 0, _SLOWEST)
        moves = radius * jnp.linalg.norm(free)
        free *= jnp.minimum(1, _LONGEST * radius / (moves + _SMALL))
        goes_on = (count < steps) & (moves > tolerance)
        matrix = jnp.where(goes_on, changed(matrix, free * in_voxels, dof), matrix)
        return matrix, free, goes_on, summary, count + goes_on

    # The last round only judges: the summary is that of the matrix it ends at.
    zero = jnp.zeros(())
    still = jnp.zeros(len(directions) + 3)
    count = jnp.zeros((), jnp.int32)
    state = (start, still, jnp.array(True), (zero, zero, zero), count)
    matrix, _, _, summary, count = jax.lax.while_loop(lambda s: s[2], step, state)
    return Fit(matrix, *summary, count)


def changed(matrix: Array, free: Array, dof: str) -> Array:
    """A matrix after a small change.

    Args:
        matrix: [3, 4], in voxels of a cube.
        free: of the linear part, one along each of `generators(dof)`, and of the shift,
            three in voxels.
    """
    size_of_turn = len(generators(dof))
    change = jnp.tensordot(free[:size_of_turn], generators(dof), 1)
    one = jnp.eye(3)
    if dof == "affine":
        linear = (one + change) @ matrix[:, :3]
    else:
        half = (change - change.T) / 4
        turn = jnp.linalg.solve(one - half, one + half)  # Cayley: exactly a rotation
        linear = (1 + jnp.trace(change) / 3) * turn @ matrix[:, :3]
    return jnp.concatenate([linear, matrix[:, 3:] + free[size_of_turn:, None]], axis=1)


@jax.jit  # traced once for both images
def features(level: Level) -> tuple[Array, Array, Array]:
    """The normalised image, the outline, and which voxels are inside, [n, n, n]."""
    inside = (level.inside > 0.5).astype(jnp.float32)
    image = inside * level.image
    volumes = inside, image, image**2, level.inside, level.inside**2
    count, total, squares, around, squares_around = sampling.smooth(jnp.stack(volumes))
    count += 1e-6
    mean = total / count
    variance = jnp.maximum(squares / count - mean**2, 0)
    normalised = inside * (image - mean) / jnp.sqrt(variance + _EPSILON**2)
    variance = jnp.maximum(squares_around - around**2, 0)
    outline = (level.inside - around) / jnp.sqrt(variance + _EPSILON_OUTLINE**2)
    return normalised, outline, inside


def generators(dof: str) -> Array:
    """[k, 3, 3]: the directions in which the linear part may change."""
    if dof == "affine":
        return jnp.eye(9).reshape(9, 3, 3)
    turns = np.zeros((3, 3, 3), np.float32)
    for axis, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        turns[axis, j, i], turns[axis, i, j] = 1, -1
    if dof == "similarity":
        turns = np.concatenate([turns, np.eye(3, dtype=np.float32)[None]])
    return jnp.asarray(turns)
