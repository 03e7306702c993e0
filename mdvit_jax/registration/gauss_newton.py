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

_EPSILON = 0.01  # deviation, as a part of the image's range, below which all is noise
_EPSILON_OUTLINE = 0.1
_SMALL = 1e-3
_WHOLLY_INSIDE = 0.999
REACH = 3  # voxels, of the surroundings of a voxel
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
    cells = _lowest_corner(m_inside * moving.weight), _lowest_corner(moving.weight)
    x = _positions(points, size)
    pairs = jnp.stack([x[i] * x[j] for i in range(4) for j in range(4)])

    def around(values):
        """Sums over the surroundings of each point, of values [n, k]."""
        volumes = jnp.zeros((len(values), size**3)).at[:, points].add(values)
        smooth = _smooth(volumes.reshape(-1, *(size,) * 3))
        return smooth.reshape(-1, size**3)[:, points]

    def terms(matrix):
        (m_value, m_outline_value), slopes, (m_counted, m_weight) = _sample(
            (m, m_outline), cells, matrix, x
        )
        both = counted * (m_counted >= _WHOLLY_INSIDE)
        f_here, m_here = f * both, m_value * both
        product, power = around(jnp.stack([f_here * m_here, m_here * m_here]))
        beta = product / (power + _SMALL)
        residual = f_here - beta * m_here
        border = outline_weight * weight * m_weight
        edge = border * (f_outline - m_outline_value)
        # Of both channels, the derivatives by what is added to A x.
        inner, outer = beta * both * slopes[0], border * slopes[1]
        # Σ g_a g_c x_b x_d, for the 12 derivatives g_a x_b of both channels at once.
        g = inner[:, None] * inner[None] + outer[:, None] * outer[None]
        hessian = _product(g.reshape(9, -1), pairs).reshape(3, 3, 4, 4)
        hessian = hessian.transpose(0, 2, 1, 3).reshape(12, 12)
        pull = _product(inner * residual + outer * edge, x).reshape(12)
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


def features(level: Level) -> tuple[Array, Array, Array]:
    """The normalised image, the outline, and which voxels are inside, [n, n, n]."""
    inside = (level.inside > 0.5).astype(jnp.float32)
    image = inside * level.image
    volumes = inside, image, image**2, level.inside, level.inside**2
    count, total, squares, around, squares_around = _smooth(jnp.stack(volumes))
    count += 1e-6
    mean = total / count
    variance = jnp.maximum(squares / count - mean**2, 0)
    normalised = inside * (image - mean) / jnp.sqrt(variance + _EPSILON**2)
    variance = jnp.maximum(squares_around - around**2, 0)
    outline = (level.inside - around) / jnp.sqrt(variance + _EPSILON_OUTLINE**2)
    return normalised, outline, inside


def _smooth(volumes: Array) -> Array:
    """Gaussian of one voxel's deviation along the last three axes, zeros around."""
    taps = np.exp(-0.5 * np.arange(-REACH, REACH + 1) ** 2)
    taps = (taps / taps.sum()).tolist()
    for axis in (-3, -2, -1):
        # Shifted copies are summed in one pass, five times as fast as a product with
        # a band matrix. The barrier keeps XLA from doing one axis anew for each tap
        # of the next.
        margin = [(0, 0)] * volumes.ndim
        margin[axis] = REACH, REACH
        padded = jax.lax.optimization_barrier(jnp.pad(volumes, margin))
        length = volumes.shape[axis]
        volumes = sum(
            tap * jax.lax.slice_in_dim(padded, shift, shift + length, axis=axis)
            for shift, tap in enumerate(taps)
        )
    return volumes


def _positions(points: Array, size: int) -> Array:
    """[4, k]: x, y and z of voxels from the centre of the cube, and 1."""
    indices = [points // size**2, points // size % size, points % size]
    axes = [i.astype(jnp.float32) - (size - 1) / 2 for i in indices]
    return jnp.stack([*axes, jnp.ones(points.shape)])


def _lowest_corner(volume: Array) -> Array:
    """Of each voxel and the next ones along the axes, the lowest: [n, n, n].

    So one look-up tells whether all eight voxels around a place count.
    """
    for axis in range(3):
        volume = jnp.minimum(volume, jnp.roll(volume, -1, axis))
    return volume


def _sample(channels, cells, matrix: Array, x: Array):
    """Look up cubes [n, n, n] at matrix · x.

    Args:
        channels: cubes to be interpolated linearly.
        cells: cubes of one value for the eight voxels around a place.

    Returns:
        Values [channels, k], slopes [channels, 3, k] and values of the cells
        [cells, k]; zero outside of the outermost voxel centres.
    """
    size = channels[0].shape[-1]
    at = _product(matrix, x.T) + (size - 1) / 2
    within = ((at >= 0) & (at <= size - 1)).all(0)
    at = jnp.clip(at, 0, size - 1)
    low = jnp.minimum(jnp.floor(at), size - 2)
    (u, v, w), low = at - low, low.astype(jnp.int32)
    first = (low[0] * size + low[1]) * size + low[2]
    values, slopes = [], []
    for channel in channels:
        flat = channel.reshape(-1)
        (c000, c001, c010, c011), (c100, c101, c110, c111) = (
            [flat[first + (i * size + j) * size + k] for j in (0, 1) for k in (0, 1)]
            for i in (0, 1)
        )
        # Along z first, then y, then x; differences give the slopes on the way.
        d00, d01, d10, d11 = c001 - c000, c011 - c010, c101 - c100, c111 - c110
        c00, c01, c10, c11 = (
            c000 + w * d00,
            c010 + w * d01,
            c100 + w * d10,
            c110 + w * d11,
        )
        d0, d1 = c01 - c00, c11 - c10
        c0, c1 = c00 + v * d0, c10 + v * d1
        along_z = [d00 + v * (d01 - d00), d10 + v * (d11 - d10)]
        values.append((c0 + u * (c1 - c0)) * within)
        slope = [
            c1 - c0,
            d0 + u * (d1 - d0),
            along_z[0] + u * (along_z[1] - along_z[0]),
        ]
        slopes.append(jnp.stack(slope) * within)
    around = jnp.stack([cell.reshape(-1)[first] * within for cell in cells])
    return jnp.stack(values), jnp.stack(slopes), around


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
