"""Affine alignment of two images of any contrast by Gauss-Newton steps.

Around every voxel the fixed image is modelled as a linear function of the moving one,
with a slope of either sign. With f and m the two images, each normalised by the mean
and the standard deviation of its neighbourhood, the residual is

    r(x) = f(x) - β(x) m(A x),    β(x) = ⟨f, m∘A⟩ / ⟨m∘A, m∘A⟩ around x.

Its sum of squares is small where the local correlation is high: the local correlation
of Cachier et al. (2003) and Avants et al. (2008), here for an affine, by second-order
steps, summed over the grids of both images. Only voxels inside both foregrounds take
part, because the edge towards an empty background keeps its sign whatever the contrast.
The outlines of the two foregrounds are a second channel, `outline`, whose weight falls
from coarse to fine.

Positions are in voxels from the centre of the cube, matrices are [3, 4].
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax.registration import sampling

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_EPSILON = 0.01  # standard deviation taken as noise, of the image's range of 1
_EPSILON_OUTLINE = 0.1
_SMALL = 1e-3
_WHOLLY_INSIDE = 0.999
_SLOWEST = 0.8  # largest ratio of two successive steps that is extrapolated
_LONGEST = 0.15  # longest step, as a share of the foreground's radius

# Rows and columns of the upper triangle of an n×n matrix.
_UPPER = {n: list(zip(*np.triu_indices(n), strict=True)) for n in (3, 4)}

# Accelerators round the factors of a plain `@` to fewer bits.
_multiply = functools.partial(jnp.matmul, precision="highest")


class Level(NamedTuple):
    """An image at one size of the pyramid.

    Attributes:
        image: [n, n, n], about [0, 1] within the foreground.
        inside: [n, n, n] in [0, 1], share of the voxel that is foreground.
        weight: [n, n, n] in [0, 1], 0 where the user's mask leaves the voxel out.
    """

    image: Any
    inside: Any
    weight: Any


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


class Samples(NamedTuple):
    """Two images as the objective reads them, at the k voxels that take part.

    Attributes:
        points: [k], indices into the flattened cube.
        x: [4, k], their positions, and 1.
        fixed: [k], the normalised fixed image.
        fixed_outline: [k], its outline.
        counted: [k], foreground · weight of the fixed image.
        weight: [k], weight of the fixed image.
        channels: [2, n, n, n], the normalised moving image and its outline.
        cells: [2, n, n, n], the lowest foreground · weight and the lowest weight of the
            moving image in each cell of eight voxels.
    """

    points: Int[Array, " k"]
    x: Float[Array, "4 k"]
    fixed: Float[Array, " k"]
    fixed_outline: Float[Array, " k"]
    counted: Float[Array, " k"]
    weight: Float[Array, " k"]
    channels: Float[Array, "2 n n n"]
    cells: Float[Array, "2 n n n"]


class NormalEquations(NamedTuple):
    """The Gauss-Newton system in all 12 entries of the matrix, and the measures.

    Attributes:
        hessian: [12, 12], JᵀJ of the residuals.
        gradient: [12], Jᵀr, downhill.
        correlation, outline, overlap: see `Fit`.
    """

    hessian: Float[Array, "12 12"]
    gradient: Float[Array, " 12"]
    correlation: Float[Array, ""]
    outline: Float[Array, ""]
    overlap: Float[Array, ""]


def align(
    fixed: Level,
    moving: Level,
    points: tuple[Int[Array, " k"], Int[Array, " k"]],
    start: Float[Array, "3 4"],
    outline_weight: Float[Array, ""] | float,
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
        steps: largest number of steps; 0 only measures the start.
        tolerance: in voxels; the steps end with one that moves the foreground less.
        dof: "rigid", "similarity" or "affine". A rigid step keeps the start's scale.
    """
    both = sample_pair(fixed, moving, points[0]), sample_pair(moving, fixed, points[1])
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


def symmetric_equations(
    forward: Samples,
    backward: Samples,
    matrix: Float[Array, "3 4"],
    outline_weight: Float[Array, ""] | float,
) -> NormalEquations:
    """The summed systems of both directions, in the entries of fixed → moving.

    For B = A⁻¹, dB = -B dA B turns the system of moving → fixed into one in A. The sum
    does not depend on which image is called fixed, so that the results of both calls
    are inverse to each other.
    """
    there = normal_equations(forward, matrix, outline_weight)
    inverse = invert(matrix)
    back = normal_equations(backward, inverse, outline_weight)
    whole = jnp.concatenate([inverse, jnp.eye(4)[3:]])
    slopes = -jnp.einsum(
        "ia,bj->ijab", inverse[:, :3], whole, precision="highest"
    ).reshape(12, 12)
    return NormalEquations(
        there.hessian + _multiply(_multiply(slopes.T, back.hessian), slopes),
        there.gradient + _multiply(slopes.T, back.gradient),
        (there.correlation + back.correlation) / 2,
        (there.outline + back.outline) / 2,
        jnp.maximum(there.overlap, back.overlap),
    )


def invert(matrix: Float[Array, "3 4"]) -> Float[Array, "3 4"]:
    """The inverse of an affine matrix."""
    linear = jnp.linalg.inv(matrix[:, :3])
    return jnp.concatenate([linear, _multiply(-linear, matrix[:, 3:])], axis=1)


def sample_pair(fixed: Level, moving: Level, points: Int[Array, " k"]) -> Samples:
    """Normalise both images, and read the fixed one at the voxels that take part."""
    taken, points = points >= 0, jnp.maximum(points, 0)
    at_points = [volume.reshape(-1)[points] for volume in normalise(fixed)]
    weight = taken * fixed.weight.reshape(-1)[points]
    image, outline, inside = normalise(moving)
    cells = jnp.stack([inside * moving.weight, moving.weight])
    return Samples(
        points,
        sampling.positions(points, fixed.image.shape[0]),
        at_points[0],
        at_points[1],
        at_points[2] * weight,
        weight,
        jnp.stack([image, outline]),
        sampling.lowest_corner(cells),
    )


def normal_equations(
    samples: Samples,
    matrix: Float[Array, "3 4"],
    outline_weight: Float[Array, ""] | float,
) -> NormalEquations:
    """The residuals' Gauss-Newton system under a matrix, with β held as it is there."""
    x, size = samples.x, samples.channels.shape[-1]

    def local_sums(values):
        """Weighted sums of values [c, k] over the neighbourhood of each point."""
        volumes = jnp.zeros((len(values), size**3)).at[:, samples.points].add(values)
        smooth = sampling.smooth(volumes.reshape(-1, *(size,) * 3))
        return smooth.reshape(-1, size**3)[:, samples.points]

    values, slopes, (m_counted, m_weight) = sampling.sample(
        samples.channels, samples.cells, matrix, x
    )
    both = samples.counted * (m_counted >= _WHOLLY_INSIDE)
    f, m = samples.fixed * both, values[0] * both
    product, power = local_sums(jnp.stack([f * m, m * m]))
    beta = product / (power + _SMALL)
    residual = f - beta * m
    border = outline_weight * samples.weight * m_weight
    edge = border * (samples.fixed_outline - values[1])
    # Derivatives of both channels with respect to A x.
    inner, outer = beta * both * slopes[:, 0], border * slopes[:, 1]
    # Σ g_a g_c x_b x_d of both channels; by symmetry 6 · 10 of them differ.
    slopes_2 = [inner[a] * inner[c] + outer[a] * outer[c] for a, c in _UPPER[3]]
    x_2 = [x[b] * x[d] for b, d in _UPPER[4]]
    sums = sampling.product(jnp.stack(slopes_2), jnp.stack(x_2))
    a_c, b_d = (_place_upper(n) for n in (3, 4))
    hessian = sums[a_c[:, None, :, None], b_d[None, :, None, :]].reshape(12, 12)
    gradient = sampling.product(inner * residual + outer * edge, x).reshape(12)
    edges = jnp.sum((border * samples.fixed_outline) ** 2)
    return NormalEquations(
        hessian,
        gradient,
        jnp.sum(beta * m * f) / (jnp.sum(f * f) + 1e-6),
        jnp.sum(edge * edge) / (edges + 1e-6),
        jnp.sum(both) / (jnp.sum(samples.counted) + 1e-6),
    )


def _place_upper(n: int) -> np.ndarray:
    """[n, n]: for each entry of a symmetric matrix its index in the upper triangle."""
    place = np.zeros((n, n), int)
    for index, (row, column) in enumerate(_UPPER[n]):
        place[row, column] = place[column, row] = index
    return place


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
    turn = _multiply(directions, matrix[:, :3])
    turn = jnp.pad(turn, ((0, 0), (0, 0), (0, 1)))
    shift = radius * jnp.eye(12)[3::4].reshape(3, 3, 4)
    basis = jnp.concatenate([turn, shift]).reshape(-1, 12)
    reduced = _multiply(_multiply(basis, system.hessian), basis.T)
    damped = reduced + jnp.diag(1e-4 * jnp.diag(reduced) + 1e-6)
    increment = jnp.linalg.solve(damped, _multiply(basis, system.gradient))
    # Between two people steps shrink slowly: extrapolate their geometric series.
    ratio = _multiply(increment, last) / (_multiply(last, last) + 1e-12)
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
        linear = _multiply(identity + change, matrix[:, :3])
    else:
        half = (change - change.T) / 4
        # Cayley's transform: exactly a rotation.
        turn = jnp.linalg.solve(identity - half, identity + half)
        linear = _multiply((1 + jnp.trace(change) / 3) * turn, matrix[:, :3])
    shift = matrix[:, 3:] + increment[len(directions) :, None]
    return jnp.concatenate([linear, shift], axis=1)


@jax.jit  # traced once for both images
def normalise(
    level: Level,
) -> tuple[Float[Array, "n n n"], Float[Array, "n n n"], Float[Array, "n n n"]]:
    """The locally normalised image, the outline, and which voxels are foreground."""
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
