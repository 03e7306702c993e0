"""Random affines of a scan, in millimetres about a point of it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax import geometry

WHICH = ("none", "moving", "both")


class RandomAffine(NamedTuple):
    """How strong; the fields of `config.augment.affine`.

    Attributes:
        which: the scans of a pair that get one each, one of `WHICH`.
        degrees: rotation about an axis of any direction, uniform in ± one of these,
            which are equally likely; 180 is any rotation.
        scale: along each axis between 1/scale and scale, uniform in the logarithm.
        shear: of a unit upper triangular matrix, uniform in ±.
        shift: mm along each axis, uniform in ±.
    """

    which: str
    degrees: tuple[float, ...]
    scale: float
    shear: float
    shift: float


def draw(
    key: Array, settings: RandomAffine, centre: Array, field_of_view: float
) -> Array:
    """x → centre + shift + rotation · shear · scale · (x − centre), 4×4 normalised.

    Args:
        key: of `jax.random.key`.
        settings: `RandomAffine`.
        centre: [3] normalised, what stays in place but for the shift.
        field_of_view: in mm along each axis of the grid, which is a cube.
    """
    direction, limit, angle, scale, shear, shift = jax.random.split(key, 6)
    axis = jax.random.normal(direction, (3,))
    axis /= jnp.linalg.norm(axis)
    degrees = jax.random.choice(limit, jnp.asarray(settings.degrees))
    turn = jnp.deg2rad(degrees * jax.random.uniform(angle, (), minval=-1))
    logs = jnp.log(settings.scale) * jax.random.uniform(scale, (3,), minval=-1)
    upper = jnp.triu(jax.random.uniform(shear, (3, 3), minval=-1), 1)
    linear = geometry.compose(
        rotation(axis, turn),
        jnp.eye(3) + settings.shear * upper,
        jnp.diag(jnp.exp(logs)),
    )
    offset = settings.shift * jax.random.uniform(shift, (3,), minval=-1)
    offset = offset / (field_of_view / 2) + centre
    offset -= (linear * centre).sum(-1)
    return geometry.homogeneous(linear, offset)


def rotation(axis: Array, angle: Array) -> Array:
    """3×3 rotation about a unit vector [3] by an angle in radians (Rodrigues)."""
    cross = jnp.matmul(jnp.asarray(_CROSS), axis, precision="highest")
    square = geometry.compose(cross, cross)
    return jnp.eye(3) + jnp.sin(angle) * cross + (1 - jnp.cos(angle)) * square


# [i, j, k] · axis[k] is the matrix of the cross product with the axis.
_CROSS = np.zeros((3, 3, 3), np.float32)
for _i, _j, _k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
    _CROSS[_i, _j, _k], _CROSS[_j, _i, _k] = -1, 1
