"""What can align a pair: functions from two conformed scans to an affine matrix.

A method takes (fixed, moving) and returns the 4×4 `fixed_to_moving` in normalised
coordinates. To add one, write such a function and name it in a table of methods.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mdvit_jax import geometry, models
from mdvit_jax.data import conform

Method = Callable[[conform.Conformed, conform.Conformed], np.ndarray]


def initial(fixed: conform.Conformed, moving: conform.Conformed) -> np.ndarray:
    """No alignment: the centres of the two fields of view lie on each other."""
    del fixed, moving
    return np.eye(4, dtype=np.float32)


def centres_of_mass(fixed: conform.Conformed, moving: conform.Conformed) -> np.ndarray:
    """The centres of mass laid on each other: the start of learnt registration."""
    shift = _centre_shift(jnp.asarray(fixed.image), jnp.asarray(moving.image))
    return np.asarray(shift)


def trained(network: models.Network, params) -> Method:
    """A network with its parameters, started from the centres of mass."""

    @jax.jit
    def estimate(fixed, moving):
        start = geometry.centre_shift(fixed, moving)
        return network.apply(params, fixed, moving, initial=start).matrix

    def method(fixed: conform.Conformed, moving: conform.Conformed) -> np.ndarray:
        pair = (jnp.asarray(scan.image)[None] for scan in (fixed, moving))
        return np.asarray(estimate(*pair)[0])

    return method


_centre_shift = jax.jit(geometry.centre_shift)
