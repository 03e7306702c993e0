"""The local-correlation residual and a Gauss-Newton step of it, voxel by voxel.

Matrices are [3, 4] in voxels from the centre of the cube; images are [n, n, n] float64.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Level(NamedTuple):
    """An image, the share of each voxel that is foreground, and its weight."""

    image: np.ndarray
    inside: np.ndarray
    weight: np.ndarray


class Terms(NamedTuple):
    """Residuals of both channels, β, which voxels count, and their weight: [n³]."""

    interior: np.ndarray
    border: np.ndarray
    beta: np.ndarray
    both: np.ndarray
    correlation: float
    outline: float
    overlap: float
    trust: np.ndarray


def blurred(volume):
    """The mean around each voxel, weighted by exp(-d²/2) up to 3 voxels, 0 beyond."""
    distance = np.indices((7, 7, 7)) - 3
    kernel = np.exp(-0.5 * (distance**2).sum(0))
    return ndimage.convolve(volume, kernel / kernel.sum(), mode="constant")


def features(level: Level, coverage: float):
    """The normalised image, the normalised outline, and the voxels that count."""
    covered = coverage * blurred((level.weight > 0).astype(float))
    tissue = (level.inside > 0.5) & (blurred(level.inside) >= covered)
    inside = tissue.astype(float)
    counted = inside * (blurred(inside) >= covered)
    count = blurred(inside) + 1e-6
    mean = blurred(inside * level.image) / count
    variance = blurred(inside * level.image**2) / count - mean**2
    image = inside * (level.image - mean) / np.sqrt(np.maximum(variance, 0) + 0.01**2)
    around = blurred(level.inside)
    variance = blurred(level.inside**2) - around**2
    outline = (level.inside - around) / np.sqrt(np.maximum(variance, 0) + 0.1**2)
    return image * counted, outline, counted


def sampled(volume, matrix):
    """Trilinear interpolation at matrix · x, 0 outside the outermost centres, [n³]."""
    middle = (len(volume) - 1) / 2
    offset = matrix[:, 3] + middle - matrix[:, :3] @ np.full(3, middle)
    warped = ndimage.affine_transform(volume, matrix[:, :3], offset, order=1)
    return warped.ravel()


def lowest(volume, matrix):
    """The lowest of the eight voxels around matrix · x, 0 outside the cube, [n³]."""
    n = len(volume)
    x = np.indices(volume.shape).reshape(3, -1) - (n - 1) / 2
    result = np.zeros(x.shape[1])
    for i, at in enumerate((matrix[:, :3] @ x + matrix[:, 3:]).T + (n - 1) / 2):
        if (at >= 0).all() and (at <= n - 1).all():
            a, b, c = np.minimum(np.floor(at).astype(int), n - 2)
            result[i] = volume[a : a + 2, b : b + 2, c : c + 2].min()
    return result


def terms(fixed: Level, moving: Level, matrix, weight: float, coverage, held=None):
    """The residuals under a matrix; β and the voxels that count may be held fixed."""
    f, f_outline, f_inside = features(fixed, coverage)
    m, m_outline, m_inside = features(moving, coverage)
    shape, there = f.shape, lowest(m_inside * moving.weight, matrix)
    both = (f_inside * fixed.weight).ravel() * (there >= 0.999)
    trust = fixed.weight.ravel() * lowest(moving.weight, matrix)
    if held:
        both, trust = held.both, held.trust
    here = f.ravel() * both
    warped = sampled(m, matrix) * both
    if held:
        beta = held.beta
    else:
        product, power = ((warped * x).reshape(shape) for x in (here, warped))
        beta = (blurred(product) / (blurred(power) + 1e-3)).ravel()
    edge = weight * trust * (f_outline.ravel() - sampled(m_outline, matrix))
    return Terms(
        here - beta * warped,
        edge,
        beta,
        both,
        (beta * warped * here).sum() / (here**2).sum(),
        (edge**2).sum() / ((weight * trust * f_outline.ravel()) ** 2).sum(),
        both.sum() / (f_inside * fixed.weight).sum(),
        trust,
    )


def moved(matrix, free, generators, radius):
    """A matrix after a step, to first order; `free`: linear parts, then shifts."""
    change = np.tensordot(free[:-3], generators, 1)
    linear = (np.eye(3) + change) @ matrix[:, :3]
    return np.concatenate([linear, (matrix[:, 3] + radius * free[-3:])[:, None]], 1)


def inverted(matrix):
    linear = np.linalg.inv(matrix[:, :3])
    return np.concatenate([linear, -linear @ matrix[:, 3:]], axis=1)


def step(fixed: Level, moving: Level, matrix, weight: float, coverage, generators):
    """The free parameters of one damped step, by differences of the residuals."""
    size = len(fixed.image)
    count, radius, h = len(generators) + 3, size / 4, 1e-6
    start = terms(fixed, moving, matrix, weight, coverage)
    back = terms(moving, fixed, inverted(matrix), weight, coverage)

    def residual(free):
        to = moved(matrix, free, generators, radius)
        one = terms(fixed, moving, to, weight, coverage, start)
        other = terms(moving, fixed, inverted(to), weight, coverage, back)
        return np.concatenate([one.interior, one.border, other.interior, other.border])

    at = residual(np.zeros(count))
    slopes = np.stack(
        [(residual(h * e) - residual(-h * e)) / (2 * h) for e in np.eye(count)], axis=1
    )
    normal = slopes.T @ slopes
    damped = normal + np.diag(1e-4 * np.diag(normal) + 1e-6)
    return -np.linalg.solve(damped, slopes.T @ at)
