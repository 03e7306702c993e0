"""A random smooth deformation that has no affine part, on the device.

White noise on nodes under a Gaussian, as in `data.synthetic_cohort`; the affine that
fits it best within a ball about the middle of the grid is taken away, so that a known
affine stays the one that a registration should find.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_LENGTH = 0.25  # the Gaussian's deviation and the nodes' distance: 32 mm of 256
_NODES = 13  # along each axis, from three lengths before the grid to three beyond
_BALL = 0.65  # radius about the middle: 83 mm of 128, as large as a brain


def draw(key: Array, shape: tuple[int, int, int], deviation: Array | float) -> Array:
    """Displacements at the voxel centres, [3, x, y, z] in normalised coordinates.

    Args:
        key: of `jax.random.key`.
        shape: of the grid.
        deviation: root mean square along each axis within the ball, in expectation,
            normalised units.
    """
    noise = jax.random.normal(key, (3, *(_NODES,) * 3))
    field = noise
    for size in shape:  # contracts the first spatial axis, appends it as the last
        weights = jnp.asarray(_weights(_centres(size)))
        field = jnp.tensordot(field, weights, ((1,), (1,)), precision="highest")
    fit, left_over = _affine_fit()
    affine = jnp.einsum("fn,cn->cf", fit, noise.reshape(3, -1), precision="highest")
    x, y, z = (jnp.asarray(_centres(size)) for size in shape)
    constant, slope_x, slope_y, slope_z = (
        affine[:, i, None, None, None] for i in range(4)
    )
    field -= constant + slope_x * x[:, None, None] + slope_y * y[:, None] + slope_z * z
    return field * (deviation / left_over)


def _centres(size: int) -> np.ndarray:
    return (2 * np.arange(size) + 1) / size - 1


def _weights(points: np.ndarray) -> np.ndarray:
    """What each node adds at points of one axis, [points, nodes]; unit variance."""
    nodes = (np.arange(_NODES) - _NODES // 2) * _LENGTH
    weights = np.exp(-0.5 * ((points[:, None] - nodes) / _LENGTH) ** 2)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return weights.astype(np.float32)


@functools.cache
def _affine_fit() -> tuple[np.ndarray, float]:
    """The least-squares affine (1, x, y, z) of a field from its noise, [4, nodes³].

    And the root mean square of what is left of the field within the ball.
    """
    centres = _centres(12)
    x, y, z = np.meshgrid(centres, centres, centres, indexing="ij")
    inside = x**2 + y**2 + z**2 <= _BALL**2
    design = np.stack([np.ones_like(x), x, y, z], axis=-1)[inside]
    weights = _weights(centres)
    field = np.einsum("xa,yb,zc->xyzabc", weights, weights, weights)
    field = field[inside].reshape(len(design), -1)  # [points, nodes³]
    fit = np.linalg.pinv(design) @ field
    left_over = np.sqrt(((field - design @ fit) ** 2).sum(1).mean())
    return fit.astype(np.float32), float(left_over)
