"""Random flips, rotations and contrasts of a pair, on the device (paper 3.1)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from mdvit_jax import geometry


class Augmentation(NamedTuple):
    """How often and how strongly; the fields of `config.augment`.

    Attributes:
        flip: probability of a flip along one axis, drawn uniformly.
        rotate: probability of a rotation about x.
        degrees: the angle is uniform in ± this.
        gamma: the moving image is raised to exp(uniform in ± this); 0 leaves it.
    """

    flip: float
    rotate: float
    degrees: float
    gamma: float


def random_matrix(key: Array, settings: Augmentation) -> Array:
    """A random flip after a random rotation, 4×4 in normalised coordinates.

    The volume that is warped through it (`geometry.warp_affine`; labels with
    `order=0`) must have the same size along each axis, or the rotation would shear.
    """
    whether_flip, axis, whether_rotate, angle = jax.random.split(key, 4)
    flipped = jax.random.bernoulli(whether_flip, settings.flip)
    signs = 1 - 2 * jax.nn.one_hot(jax.random.randint(axis, (), 0, 3), 3)
    flip = jnp.diag(jnp.where(flipped, signs, jnp.ones(3)))
    turned = jax.random.bernoulli(whether_rotate, settings.rotate)
    limit = settings.degrees / 180
    # The fourth of the 12 parameters is the rotation about x in units of π.
    turn = turned * jax.random.uniform(angle, (), minval=-limit, maxval=limit)
    rotation = geometry.affine_matrix(jnp.zeros(12).at[3].set(turn))
    return geometry.compose(geometry.homogeneous(flip, jnp.zeros(3)), rotation)


def augment(
    keys: Array, fixed: Array, moving: Array, settings: Augmentation
) -> tuple[Array, Array]:
    """Flip and rotate both volumes of a pair alike; change the contrast of one.

    Args:
        keys: [batch, 2], of each pair for its matrix and its contrast.
        fixed, moving: [batch, n, n, n] in [0, 1].
        settings: `Augmentation`.

    Returns:
        The augmented pair, in [0, 1]. Volumes are resampled once; what is flipped but
        not rotated keeps its values.
    """
    if settings.flip or settings.rotate:
        matrices = jax.vmap(lambda k: random_matrix(k, settings))(keys[:, 0])
        fixed, moving = (geometry.warp_affine(v, matrices) for v in (fixed, moving))
    if settings.gamma:
        exponents = jax.vmap(
            lambda k: jnp.exp(settings.gamma * jax.random.uniform(k, minval=-1))
        )(keys[:, 1])
        moving = jnp.clip(moving, 0, 1) ** exponents[:, None, None, None]
    return fixed, moving
