"""Two images and a matrix → the Gauss-Newton system of their alignment.

Around every voxel the fixed image is modelled as a linear function of the moving one,
with a slope of either sign. With f and m the two images, each normalised by the mean
and the standard deviation of its neighbourhood, the residual is

    r(x) = f(x) - β(x) m(A x),    β(x) = ⟨f, m∘A⟩ / ⟨m∘A, m∘A⟩ around x.

Its sum of squares is small where the local correlation is high: the local correlation
of Cachier et al. (2003) and Avants et al. (2008), here for an affine, by second-order
steps, summed over the grids of both images. Only voxels inside both foregrounds take
part, because the edge towards an empty background keeps its sign whatever the contrast.
The outlines of the two foregrounds are a second channel, `outline`, with a weight.

Positions are in voxels from the centre of the cube, matrices are [3, 4].
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax.registration import sampling
from mdvit_jax.registration.normalisation import Features

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_SMALL = 1e-3
_WHOLLY_INSIDE = 0.999

# Rows and columns of the upper triangle of an n×n matrix.
_UPPER = {n: list(zip(*np.triu_indices(n), strict=True)) for n in (3, 4)}

# Accelerators round the factors of a plain `@` to fewer bits.
multiply = functools.partial(jnp.matmul, precision="highest")


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
        correlation, outline, overlap: see `gauss_newton.Fit`.
    """

    hessian: Float[Array, "12 12"]
    gradient: Float[Array, " 12"]
    correlation: Float[Array, ""]
    outline: Float[Array, ""]
    overlap: Float[Array, ""]


def sample_pair(fixed: Features, moving: Features, points: Int[Array, " k"]) -> Samples:
    """Read the fixed image at the points that take part, where the moving one is."""
    taken, points = points >= 0, jnp.maximum(points, 0)
    size = fixed.image.shape[0]
    x = sampling.positions(points, size)
    channels, cells = zip(*map(_channels_and_cells, (fixed, moving)), strict=True)
    if size == sampling.SPARSE:
        identity = jnp.eye(3, 4)
        (outline,), _, (counted, weight) = sampling.sample(
            channels[0][1:], cells[0], identity, x
        )
        image = sampling.sample_cubic(fixed.image, x)
    else:
        image, outline, counted, weight = (v.reshape(-1)[points] for v in fixed)
        counted *= weight
    return Samples(
        points,
        x,
        image,
        outline,
        taken * counted,
        taken * weight,
        channels[1],
        cells[1],
    )


def _channels_and_cells(features: Features):
    """The channels that are interpolated, and the lowest weights in cells of voxels."""
    channels = jnp.stack([features.image, features.outline])
    weights = jnp.stack([features.counted * features.weight, features.weight])
    return channels, sampling.lowest_corner(weights)


@jax.jit  # traced once for both directions
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
    border = samples.weight * m_weight
    edge = border * (samples.fixed_outline - values[1])
    # Derivatives of both channels with respect to A x.
    inner = beta * both * slopes[:, 0]
    outer = outline_weight * border * slopes[:, 1]
    # Σ g_a g_c x_b x_d of both channels; by symmetry 6 · 10 of them differ.
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
    """[n, n]: for each entry of a symmetric matrix its index in the upper triangle."""
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
        there.hessian + multiply(multiply(slopes.T, back.hessian), slopes),
        there.gradient + multiply(slopes.T, back.gradient),
        (there.correlation + back.correlation) / 2,
        (there.outline + back.outline) / 2,
        jnp.maximum(there.overlap, back.overlap),
    )


def invert(matrix: Float[Array, "3 4"]) -> Float[Array, "3 4"]:
    """The inverse of an affine matrix."""
    linear = jnp.linalg.inv(matrix[:, :3])
    return jnp.concatenate([linear, multiply(-linear, matrix[:, 3:])], axis=1)
