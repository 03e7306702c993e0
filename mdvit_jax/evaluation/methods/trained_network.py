"""A trained network, started from the centres of mass as in training."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from mdvit_jax import models
from mdvit_jax.data import conform
from mdvit_jax.evaluation.methods.method import Align, Method


def network(name: str, model: models.Network, params, *, about: str) -> Method:
    """A network with its parameters, as a row.

    Args:
        name: what the row is called.
        model: the network.
        params: its parameters.
        about: where it comes from, and what it is; its parameters are told besides.
    """

    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return Method(
        name, aligner(model, params), f"{about}, parameters {digest.hexdigest()[:12]}"
    )


def aligner(model: models.Network, params) -> Align:
    """What a network with its parameters makes of a pair."""

    @jax.jit
    def estimate(fixed, moving):
        return model.from_centres(params, fixed, moving).matrix

    def align(fixed: conform.Conformed, moving: conform.Conformed) -> np.ndarray:
        pair = (jnp.asarray(scan.image)[None] for scan in (fixed, moving))
        return np.asarray(estimate(*pair)[0])

    return align
