"""Coordinates, affine matrices, resampling and pyramids: pure functions on arrays.

A volume is `[*batch, x, y, z]`, a matrix is 4×4 `fixed_to_moving` in normalised
coordinates, in which a volume spans [-1, 1] from edge to edge.
"""

from mdvit_jax.geometry.affine import (
    affine_matrix,
    centre_of_mass,
    centre_shift,
    compose,
    homogeneous,
    invert,
    map_point,
    translation_matrix,
)
from mdvit_jax.geometry.coordinates import (
    in_world,
    normalised_to_world,
    voxel_centres,
    voxel_to_normalised,
)
from mdvit_jax.geometry.pyramid import halve, image_pyramid, pool
from mdvit_jax.geometry.warp import warp_affine

__all__ = [
    "affine_matrix",
    "centre_of_mass",
    "centre_shift",
    "compose",
    "halve",
    "homogeneous",
    "image_pyramid",
    "in_world",
    "invert",
    "map_point",
    "normalised_to_world",
    "pool",
    "translation_matrix",
    "voxel_centres",
    "voxel_to_normalised",
    "warp_affine",
]
