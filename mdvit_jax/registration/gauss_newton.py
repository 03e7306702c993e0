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

DOF = ("rigid", "similarity", "affine")
_EPSILON = 0.01  # deviation, as a part of the image's range, below which all is noise
_EPSILON_OUTLINE = 0.1
_SMALL = 1e-3
_WHOLLY_INSIDE = 0.999
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
    start: Array,
    outline_weight: Array,
    steps: Array,
    tolerance: Array,
    *,
    dof: str = "affine",
) -> Fit:
    """Minimise over rigid, similarity or all affine matrices, from one start.

    Args:
        start: [3, 4].
        outline_weight: of the outlines against the interior.
        steps: the most that are made; with 0, the start itself is judged.
        tolerance: in voxels; steps end when none moves the object further.
        dof: "rigid", "similarity" or "affine". A rigid step keeps the start's scale.
    """
    f, f_outline, f_inside = _features(fixed)
    m, m_outline, m_inside = _features(moving)
    channels = jnp.stack([m, m_outline * moving.weight, m_inside * moving.weight])
    size = f.shape[0]
    x = _positions(size)
    pairs = jnp.stack([x[i] * x[j] for i in range(4) for j in range(4)])
    directions = generators(dof)
    radius = size / 4
    in_voxels = jnp.ones(len(directions) + 3).at[-3:].set(radius)
    counted = f_inside * fixed.weight

    def terms(matrix):
        value, slopes = _sample(channels, matrix, x)
        both = counted * (value[2] >= _WHOLLY_INSIDE)
        f_here, m_here = f * both, value[0] * both
        beta = _smooth(f_here * m_here) / (_smooth(m_here * m_here) + _SMALL)
        residual = f_here - beta * m_here
        edge = (f_outline * fixed.weight - value[1]) * outline_weight
        interior = [beta * s * both for s in slopes[0]]
        border = [s * outline_weight for s in slopes[1]]
        # Σ g_a g_c x_b x_d, for the 12 derivatives g_a x_b of both channels at once.
        g = jnp.stack(
            [
                interior[a] * interior[c] + border[a] * border[c]
                for a in range(3)
                for c in range(3)
            ]
        )
        hessian = _product(g, pairs).reshape(3, 3, 4, 4).transpose(0, 2, 1, 3)
        pull = jnp.stack(
            [i * residual + b * edge for i, b in zip(interior, border, strict=True)]
        )
        power = jnp.sum(f_here * f_here) + 1e-6
        summary = (
            jnp.sum(beta * m_here * f_here) / power,
            jnp.sum(edge * edge) / (outline_weight**2 * jnp.sum(f_outline**2) + 1e-6),
            jnp.sum(both) / (jnp.sum(counted) + 1e-6),
        )
        return hessian.reshape(12, 12), _product(pull, x).reshape(12), summary

    def step(state):
        matrix, _, _, count = state
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
        moves = radius * jnp.linalg.norm(free)
        free *= jnp.minimum(1, _LONGEST * radius / (moves + _SMALL))
        goes_on = (count < steps) & (moves > tolerance)
        matrix = jnp.where(goes_on, changed(matrix, free * in_voxels, dof), matrix)
        return matrix, goes_on, summary, count + goes_on

    # The last round only judges: the summary is that of the matrix it ends at.
    zero = jnp.zeros(())
    state = (start, jnp.array(True), (zero, zero, zero), jnp.zeros((), jnp.int32))
    matrix, _, summary, count = jax.lax.while_loop(lambda s: s[1], step, state)
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


def _features(level: Level) -> tuple[Array, Array, Array]:
    """The normalised image, the outline, and which voxels are inside, [n, n, n]."""
    inside = (level.inside > 0.5).astype(jnp.float32)
    image = inside * level.image
    count = _smooth(inside) + 1e-6
    mean = _smooth(image) / count
    variance = jnp.maximum(_smooth(image**2) / count - mean**2, 0)
    normalised = inside * (image - mean) / jnp.sqrt(variance + _EPSILON**2)
    around = _smooth(level.inside)
    variance = jnp.maximum(_smooth(level.inside**2) - around**2, 0)
    outline = (level.inside - around) / jnp.sqrt(variance + _EPSILON_OUTLINE**2)
    return normalised, outline, inside


def _smooth(volume: Array) -> Array:
    """Gaussian of one voxel's deviation along each axis, zeros around the cube."""
    taps = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    taps /= taps.sum()
    for axis in range(3):
        widths = [(3, 3) if k == axis else (0, 0) for k in range(3)]
        padded = jnp.pad(volume, widths)
        size = volume.shape[axis]
        shifted = (
            jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(7)
        )
        volume = sum(
            t * v for t, v in zip(taps.astype(np.float32), shifted, strict=True)
        )
    return volume


def _positions(size: int) -> Array:
    """[4, size³]: x, y and z from the centre of the cube, in voxels, and 1."""
    axes = [jax.lax.broadcasted_iota(jnp.float32, (size,) * 3, k) for k in range(3)]
    one = jnp.ones((size, size, size))
    return jnp.stack([*(a - (size - 1) / 2 for a in axes), one]).reshape(4, -1)


def _sample(channels: Array, matrix: Array, x: Array) -> tuple[Array, Array]:
    """Linear interpolation of [k, n, n, n] at matrix · x: values and slopes.

    Returns:
        [k, n, n, n] and [k, 3, n, n, n]; zero outside of the outermost centres.
    """
    size = channels.shape[-1]
    at = _product(matrix, x.T) + (size - 1) / 2
    within = ((at >= 0) & (at <= size - 1)).all(0)
    at = jnp.clip(at, 0, size - 1)
    low = jnp.minimum(jnp.floor(at), size - 2)
    (u, v, w), low = at - low, low.astype(jnp.int32)
    first = (low[0] * size + low[1]) * size + low[2]
    values, slopes = [], []
    for channel in channels:
        flat = channel.reshape(-1)
        c = [
            [[flat[first + (i * size + j) * size + k] for k in (0, 1)] for j in (0, 1)]
            for i in (0, 1)
        ]
        z = [
            [c[i][j][0] + w * (c[i][j][1] - c[i][j][0]) for j in (0, 1)] for i in (0, 1)
        ]
        y = [z[i][0] + v * (z[i][1] - z[i][0]) for i in (0, 1)]
        along_y = [z[i][1] - z[i][0] for i in (0, 1)]
        along_z = [
            (c[i][0][1] - c[i][0][0]) * (1 - v) + (c[i][1][1] - c[i][1][0]) * v
            for i in (0, 1)
        ]
        values.append((y[0] + u * (y[1] - y[0])) * within)
        slopes.append(
            jnp.stack(
                [
                    y[1] - y[0],
                    along_y[0] + u * (along_y[1] - along_y[0]),
                    along_z[0] + u * (along_z[1] - along_z[0]),
                ]
            )
            * within
        )
    shape = (size, size, size)
    return (
        jnp.stack(values).reshape(-1, *shape),
        jnp.stack(slopes).reshape(-1, 3, *shape),
    )


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


def _product(a: Array, b: Array) -> Array:
    """a · bᵀ over all voxels, in full float32."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return jnp.matmul(a, b.T, precision="highest")
