"""The paper's random flips and rotations of a pair, on the device (3.1), and gammas.

Both scans are moved alike, so that the affine between them stays the same; `examples`
holds what changes it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
from jax import Array

from mdvit_jax import errors, geometry
from mdvit_jax.training import random_affine


class Augmentation(NamedTuple):
    """How often and how strongly; the fields of `config.augment`.

    Attributes:
        flip: probability of a flip along one axis, drawn uniformly.
        rotate: probability of a rotation about x.
        degrees: the angle is uniform in ± this.
        gamma: the moving image is raised to exp(uniform in ± this); 0 leaves it.
        same: probability that the moving scan is the fixed one.
        mirror: probability that a scan is mirrored, left for right.
        deform: standard deviation of a deformation of the moving scan, in mm.
        contrast: probability that the network sees a scan in other intensities.
        affine: the random affine of each scan.
    """

    flip: float
    rotate: float
    degrees: float
    gamma: float
    same: float
    mirror: float
    deform: float
    contrast: float
    affine: random_affine.RandomAffine


def settings(config: ml_collections.ConfigDict) -> Augmentation:
    """The settings in `config.augment`.

    Raises:
        UserError: `augment.affine.which` names no scans.
    """
    values = config.to_dict()
    affine = random_affine.RandomAffine(**values.pop("affine"))
    if affine.which not in random_affine.WHICH:
        raise errors.UserError(
            f'augment.affine.which is "{affine.which}"; choose "none", "moving" or '
            '"both".'
        )
    return Augmentation(**values, affine=affine)


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
    change = jax.vmap(lambda k, v: change_gamma(k, v, settings))
    return fixed, change(keys[:, 1], moving)


def change_gamma(key: Array, moving: Array, settings: Augmentation) -> Array:
    """The moving image [n, n, n] to the power of a random gamma."""
    if not settings.gamma:
        return moving
    exponent = jnp.exp(settings.gamma * jax.random.uniform(key, minval=-1))
    return jnp.clip(moving, 0, 1) ** exponent
