"""Where a trained network of this package lays one foreground on another.

It is the KeyMorph, which is the better one on people it did not learn from: mostly off
by a few millimetres, in any orientation, also of a whole head on a brain, where the
centres of the two say nothing.
"""

import functools
import zlib

import numpy as np

from mdvit_jax import errors, geometry
from mdvit_jax.io import programs
from mdvit_jax.registration import levels
from mdvit_jax.registration.foreground import Foreground, coarsen

NETWORK = "keymorph"  # of `models.pretrained`


def estimate(fixed: Foreground, moving: Foreground) -> np.ndarray:
    """Estimate the matrix fixed → moving.

    Returns:
        4×4, world RAS+ mm; its inverse if the two foregrounds are exchanged.

    Raises:
        UserError: the libraries of the network are not installed.
    """
    if moving.radius > fixed.radius:
        return np.linalg.inv(estimate(moving, fixed))
    program, weights = _network()
    size, voxel = weights.size, weights.field_of_view / weights.size
    (still, fixed_place), (moved, moving_place) = (
        _volume(coarsen(image), size, voxel) for image in (fixed, moving)
    )
    matrix = np.asarray(program(weights.params, still[None], moved[None])[0])
    return geometry.in_world(matrix, fixed=fixed_place, moving=moving_place)


@functools.cache
def _network():
    """The program (params, fixed, moving) → matrices, and the weights."""
    try:
        from mdvit_jax import models  # brings Flax, which only this needs
        from mdvit_jax.models import any_orientation
    except ImportError as error:
        raise errors.UserError(
            f"the trained network needs {error.name}; "
            "install it (pip install 'mdvit-jax[register]')."
        ) from error
    weights = models.pretrained(NETWORK)

    def align(params, fixed, moving):
        return any_orientation.estimate(weights.network, params, fixed, moving)

    made = zlib.crc32(repr(weights.network).encode())  # the settings of its layers
    return programs.Program(align, f"network-start-{made:x}", ()), weights


def _volume(
    foreground: Foreground, size: int, voxel: float
) -> tuple[np.ndarray, np.ndarray]:
    """The image on the network's grid, around the middle of its box; 4×4 to world."""
    middle = levels.box_middle(foreground)
    volume, affine = levels.network_volume(foreground, middle, voxel, size)
    return volume, geometry.normalised_to_world(volume.shape, affine)
