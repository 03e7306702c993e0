"""The 12 affine parameters, their matrix, and the centre of mass they act about.

A matrix is 4×4 and called `fixed_to_moving`: it takes a homogeneous point of the
fixed space to the corresponding point of the moving space. Coordinates are
normalised (`geometry.coordinates`), in the order of the array's axes x, y, z.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax.geometry import coordinates

if TYPE_CHECKING:
    from jaxtyping import Float, Num


def affine_matrix(
    parameters: Float[Array | np.ndarray, "*batch parameters"],
    *,
    centre: Float[Array | np.ndarray, "*batch 3"] | None = None,
) -> Float[Array, "*batch 4 4"]:
    """Matrix of the 12 parameters: C · H · S · R · C⁻¹ · T (C2FViT, Mok & Chung 2022).

    Args:
        parameters: [*batch, 12], each in [-1, 1]: translation along x, y, z in
            normalised units; rotation about x, y, z in units of π radians; shear xy,
            xz, yz in units of π; scale along x, y, z as `1 + p/2`. Zero is the
            identity.
        centre: [*batch, 3], normalised; what rotation, scale and shear leave in
            place (the moving image's centre of mass). None is the volume's centre.

    Returns:
        [*batch, 4, 4] float32 `fixed_to_moving`: T shifts by the translation, C⁻¹
        brings the centre to the origin, R = Rz·Ry·Rx rotates, S scales, H shears
        (upper triangular), C shifts back.

    Raises:
        ValueError: not 12 parameters.
    """
    if parameters.shape[-1] != 12:
        raise ValueError(f"12 parameters are expected, not {parameters.shape[-1]}")
    dtype = jnp.promote_types(parameters.dtype, jnp.float32)
    translation, rotation, shear, scale = jnp.split(
        jnp.asarray(parameters, dtype), 4, axis=-1
    )
    scaled = (1 + 0.5 * scale)[..., :, None] * _rotation(jnp.pi * rotation)
    linear = compose(_shear(jnp.pi * shear), scaled)
    if centre is None:
        offset = _apply(linear, translation)
    else:
        centre = jnp.asarray(centre)
        offset = centre + _apply(linear, translation - centre)
    return homogeneous(linear, offset)


def homogeneous(
    linear: Float[Array, "*batch 3 3"], offset: Float[Array, "*batch 3"]
) -> Float[Array, "*batch 4 4"]:
    """The 4×4 matrices of linear maps with offsets, [*batch, 4, 4].

    Args:
        linear: [*batch, 3, 3].
        offset: [*batch, 3], in the units of the coordinates.
    """
    top = jnp.concatenate([linear, offset[..., None]], axis=-1)
    bottom = jnp.broadcast_to(
        jnp.array([0, 0, 0, 1], top.dtype), (*top.shape[:-2], 1, 4)
    )
    return jnp.concatenate([top, bottom], axis=-2)


def compose(
    *matrices: Float[Array | np.ndarray, "... n n"],
) -> Float[Array, "... n n"]:
    """Product of matrices [*batch, n, n], the last one acting first.

    In full float32: accelerators round the factors of a plain `@` to fewer bits.
    """
    product = jnp.asarray(matrices[0])
    for matrix in matrices[1:]:
        product = jnp.matmul(product, matrix, precision="highest")
    return product


def invert(matrix: Float[Array, "*batch 4 4"]) -> Float[Array, "*batch 4 4"]:
    """Inverse of affine matrices [*batch, 4, 4] whose last row is 0 0 0 1.

    By cofactors: a few products, where a general solver calls a library for each pair.
    The 3×3 part must have a determinant; singular matrices give infinities.
    """
    linear, offset = matrix[..., :3, :3], matrix[..., :3, 3]
    a, b, c = (linear[..., i, :] for i in range(3))
    adjugate = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)], axis=-1)
    determinant = (a * adjugate[..., 0]).sum(-1)
    inverse = adjugate / determinant[..., None, None]
    return homogeneous(inverse, -_apply(inverse, offset))


def map_point(
    matrix: Float[Array, "*batch 4 4"], point: Float[Array, "*batch 3"]
) -> Float[Array, "*batch 3"]:
    """A point [*batch, 3] through an affine matrix [*batch, 4, 4]: [*batch, 3].

    In full float32, as `compose`.
    """
    return _apply(matrix[..., :3, :3], point) + matrix[..., :3, 3]


def translation_matrix(offset: Float[Array, "*batch 3"]) -> Float[Array, "*batch 4 4"]:
    """[*batch, 3] → the [*batch, 4, 4] matrix that adds `offset` to a point."""
    linear = jnp.broadcast_to(jnp.eye(3, dtype=offset.dtype), (*offset.shape, 3))
    return homogeneous(linear, offset)


def centre_of_mass(
    volume: Num[Array | np.ndarray, "*batch x y z"],
) -> Float[Array, "*batch 3"]:
    """Intensity-weighted mean position, [*batch, x, y, z] → [*batch, 3] normalised.

    The sums run over one axis at a time, in float32. An empty volume has its centre
    of mass at the origin.
    """
    volume = jnp.asarray(volume, jnp.promote_types(volume.dtype, jnp.float32))
    profiles = [
        volume.sum(axis=tuple(a for a in (-3, -2, -1) if a != axis))
        for axis in (-3, -2, -1)
    ]
    mass = profiles[0].sum(-1)
    moments = [
        (profile * coordinates.voxel_centres(profile.shape[-1])).sum(-1)
        for profile in profiles
    ]
    empty = mass == 0
    return jnp.where(
        empty[..., None],
        0,
        jnp.stack(moments, axis=-1) / jnp.where(empty, 1, mass)[..., None],
    )


def centre_shift(
    fixed: Num[Array | np.ndarray, "*batch x y z"],
    moving: Num[Array | np.ndarray, "*batch x y z"],
) -> Float[Array, "*batch 4 4"]:
    """`fixed_to_moving` that lays the centres of mass on each other, [*batch, 4, 4]."""
    return translation_matrix(centre_of_mass(moving) - centre_of_mass(fixed))


def _rotation(angles: Array) -> Array:
    """Rz · Ry · Rx of angles about x, y, z in radians, [*batch, 3] → [*batch, 3, 3]."""
    (cx, cy, cz), (sx, sy, sz) = (
        jnp.moveaxis(trig(angles), -1, 0) for trig in (jnp.cos, jnp.sin)
    )
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def _shear(shears: Array) -> Array:
    """Unit upper triangular matrix, [*batch, 3] (xy, xz, yz) → [*batch, 3, 3]."""
    xy, xz, yz = jnp.moveaxis(shears, -1, 0)
    one, zero = jnp.ones_like(xy), jnp.zeros_like(xy)
    rows = [[one, xy, xz], [zero, one, yz], [zero, zero, one]]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def _apply(linear: Array, vector: Array) -> Array:
    return (linear * vector[..., None, :]).sum(-1)
