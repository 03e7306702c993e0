"""The starts of registration as methods: no alignment, and the centres of mass."""

import jax
import jax.numpy as jnp
import numpy as np

from mdvit_jax import geometry
from mdvit_jax.data import conform
from mdvit_jax.evaluation.methods.method import Method


def initial() -> Method:
    """No alignment: the centres of the two fields of view coincide."""

    def align(fixed: conform.Conformed, moving: conform.Conformed) -> np.ndarray:
        del fixed, moving
        return np.eye(4, dtype=np.float32)

    return Method("Initial", align, "fields of view centre on centre")


def centres_of_mass() -> Method:
    """The centres of mass laid on each other: where the networks start."""
    shift = jax.jit(geometry.centre_shift)

    def align(fixed: conform.Conformed, moving: conform.Conformed) -> np.ndarray:
        return np.asarray(shift(jnp.asarray(fixed.image), jnp.asarray(moving.image)))

    return Method("Initial (CoM)", align, "centre of mass on centre of mass")
