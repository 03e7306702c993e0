"""Two images and a matrix → the Gauss-Newton system of their alignment.

Around every voxel the fixed image is taken to be a linear function of the moving one,
of either sign. With both images normalised by the mean and the deviation of their
surroundings (f and m), the residual is

    r(x) = f(x) - β(x) m(A x),    β(x) = ⟨f, m∘A⟩ / ⟨m∘A, m∘A⟩ around x,

whose sum of squares is small where the local correlation is high: the local
correlation of Cachier et al. (2003) and Avants et al. (2008), here for an affine and
by second-order steps, summed over both images' grids. Only what lies inside of both
foregrounds takes part, so the edge towards an empty background, which no change of
contrast inverts, cannot pull. The outlines of the two foregrounds are a second image of
their own, `outline`, with a weight.

Voxels of a border are blended with the background, and where the surroundings are cut
off by it, their mean depends on where exactly: both differ from one contrast to
another, and bend the answer. So on fine cubes a voxel counts only where its whole
surroundings are tissue, without such voxels (`solid`).

Positions are in voxels from the centre of the cube, matrices are [3, 4].
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax.registration import sampling

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_EPSILON = 0.01  # deviation, as a part of the image's range, below which all is noise
_EPSILON_OUTLINE = 0.1
_SMALL = 1e-3
_WHOLLY_INSIDE = 0.999

# Rows and columns of the upper triangle of an n×n matrix.
_UPPER = {n: list(zip(*np.triu_indices(n), strict=True)) for n in (3, 4)}

# Accelerators round the factors of a plain `@` to fewer bits.
multiply = functools.partial(jnp.matmul, precision="highest")


class Level(NamedTuple):
    """An image at one size of the pyramid.

    Attributes:
        image: [n, n, n], about [0, 1] within the foreground.
        inside: [n, n, n], how much of a voxel belongs to the foreground, [0, 1].
        weight: [n, n, n], how much it counts (a mask of the user's), [0, 1].
    """

    image: Any
    inside: Any
    weight: Any


class Features(NamedTuple):
    """What of an image is compared, [n, n, n] each.

    Attributes:
        image: the locally normalised image, 0 where it is not counted.
        outline: the locally normalised foreground.
        counted: 1 where the image counts, else 0.
        weight: how much, and how much the outline, [0, 1].
    """

    image: Float[Array, "n n n"]
    outline: Float[Array, "n n n"]
    counted: Float[Array, "n n n"]
    weight: Float[Array, "n n n"]


class Samples(NamedTuple):
    """What the objective needs of two images, at the k voxels that take part.

    Attributes:
        points: [k], indices into the flattened cube.
        x: [4, k], their positions, and 1.
        fixed: [k], the normalised fixed image.
        fixed_outline: [k], its outline.
        counted: [k], where the fixed image is foreground, times its weight.
        weight: [k], of the fixed image.
        channels: [2, n, n, n], the normalised moving image and its outline.
        cells: [2, n, n, n], of a cell of eight voxels, the lowest foreground · weight
            and the lowest weight of the moving image.
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
    """The Gauss-Newton system of all 12 entries of the matrix, and the measures.

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


def normalise(level: Level, solid: Float[Array, ""] | float) -> Features:
    """Normalise an image and its outline by their surroundings.

    Args:
        solid: how much of the surroundings of a voxel must be tissue for it to be
            tissue, and must be such tissue for it to count; 0 takes the foreground.
    """
    shares = jnp.stack([level.inside, level.inside**2])
    around, squares_around = sampling.smooth(shares)
    tissue = ((level.inside > 0.5) & (around >= solid)).astype(jnp.float32)
    image = tissue * level.image
    volumes = jnp.stack([tissue, image, image**2])
    count, total, squares = sampling.smooth(volumes)
    counted = tissue * (count >= solid)
    count += 1e-6
    mean = total / count
    variance = jnp.maximum(squares / count - mean**2, 0)
    image = counted * (image - mean) / jnp.sqrt(variance + _EPSILON**2)
    variance = jnp.maximum(squares_around - around**2, 0)
    outline = (level.inside - around) / jnp.sqrt(variance + _EPSILON_OUTLINE**2)
    return Features(image, outline, counted, level.weight)


def sample_pair(fixed: Features, moving: Features, points: Int[Array, " k"]) -> Samples:
    """Read the fixed image at the voxels that take part."""
    taken, points = points >= 0, jnp.maximum(points, 0)
    image, outline, counted, weight = (v.reshape(-1)[points] for v in fixed)
    weight = taken * weight
    return Samples(
        points,
        sampling.positions(points, fixed.image.shape[0]),
        image,
        outline,
        counted * weight,
        weight,
        jnp.stack([moving.image, moving.outline]),
        sampling.lowest_corner(
            jnp.stack([moving.counted * moving.weight, moving.weight])
        ),
    )


def normal_equations(
    samples: Samples,
    matrix: Float[Array, "3 4"],
    outline_weight: Float[Array, ""] | float,
) -> NormalEquations:
    """The residuals' Gauss-Newton system under a matrix, with β held as it is there."""
    x, size = samples.x, samples.channels.shape[-1]

    def local_sums(values):
        """Sums over the surroundings of each point, of values [c, k]."""
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
    border = samples.weight * m_weight
    edge = border * (samples.fixed_outline - values[1])
    # Of both channels, the derivatives by what is added to A x.
    inner = beta * both * slopes[:, 0]
    outer = outline_weight * border * slopes[:, 1]
    # Σ g_a g_c x_b x_d of both channels, of which 6 · 10 are different.
    slopes_2 = [inner[a] * inner[c] + outer[a] * outer[c] for a, c in _UPPER[3]]
    x_2 = [x[b] * x[d] for b, d in _UPPER[4]]
    sums = sampling.product(jnp.stack(slopes_2), jnp.stack(x_2))
    a_c, b_d = (_place_upper(n) for n in (3, 4))
    hessian = sums[a_c[:, None, :, None], b_d[None, :, None, :]].reshape(12, 12)
    pull = inner * residual + outline_weight * outer * edge
    gradient = sampling.product(pull, x).reshape(12)
    edges = jnp.sum((border * samples.fixed_outline) ** 2)
    return NormalEquations(
        hessian,
        gradient,
        jnp.sum(beta * m * f) / (jnp.sum(f * f) + 1e-6),
        jnp.sum(edge * edge) / (edges + 1e-6),
        jnp.sum(both) / (jnp.sum(samples.counted) + 1e-6),
    )


def _place_upper(n: int) -> np.ndarray:
    """[n, n], where in the upper triangle the entries of a symmetric matrix are."""
    place = np.zeros((n, n), int)
    for index, (row, column) in enumerate(_UPPER[n]):
        place[row, column] = place[column, row] = index
    return place


def symmetric_equations(
    forward: Samples,
    backward: Samples,
    matrix: Float[Array, "3 4"],
    outline_weight: Float[Array, ""] | float,
) -> NormalEquations:
    """The systems of both directions, summed, in the entries of the one matrix.

    For B = A⁻¹, dB = -B dA B, by which the system of moving → fixed becomes one in A.
    The sum is the same whichever image is called the fixed one, so that the answers
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
        there.hessian + multiply(multiply(slopes.T, back.hessian), slopes),
        there.gradient + multiply(slopes.T, back.gradient),
        (there.correlation + back.correlation) / 2,
        (there.outline + back.outline) / 2,
        jnp.maximum(there.overlap, back.overlap),
    )


def invert(matrix: Float[Array, "3 4"]) -> Float[Array, "3 4"]:
    """The matrix of the way back."""
    linear = jnp.linalg.inv(matrix[:, :3])
    return jnp.concatenate([linear, multiply(-linear, matrix[:, 3:])], axis=1)
