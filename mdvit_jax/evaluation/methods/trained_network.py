"""A trained network, started from the centres of mass as in training."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdvit_jax import models
from mdvit_jax.data import conform
from mdvit_jax.evaluation.methods.method import AlignScans, Method


def network(name: str, model: models.Network, params: Any, *, about: str) -> Method:
    """A network with its parameters, as a method.

    Args:
        name: of the row.
        model: the network.
        params: its parameters; a digest of both goes into the method's identity.
        about: where it comes from, and what it is.
    """
    digest = hashlib.sha256(repr(model).encode())  # the settings of its layers
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    identity = f"{about}, parameters {digest.hexdigest()[:12]}"
    return Method(name, aligner(model, params), identity)


def aligner(model: models.Network, params: Any) -> AlignScans:
    """A function that aligns a pair of scans by a network, compiled.

    Args:
        model: the network.
        params: its parameters, nested dict.
    """

    @jax.jit
    def estimate(fixed, moving):
        return model.from_centres(params, fixed, moving).matrix

    def align(fixed: conform.Conformed, moving: conform.Conformed) -> np.ndarray:
        images = (jnp.asarray(scan.image)[None] for scan in (fixed, moving))
        return np.asarray(estimate(*images)[0])

    return align
