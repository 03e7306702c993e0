"""Minimise a training loss for each pair by itself, without a network.

It shows how exactly the loss defines an affine, independently of any network.
"""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from scipy import optimize

from mdvit_jax import geometry
from mdvit_jax.data import conform
from mdvit_jax.evaluation.methods import Method
from mdvit_jax.training import step

_LEVELS = 2  # half resolution, then full
_EVALUATIONS = 100  # at most, at each level


def minimise_loss(config: ml_collections.ConfigDict) -> Method:
    """A method: L-BFGS-B on `config.loss` over the 12 parameters, coarse to fine.

    It starts from the centres of mass laid on each other, as the networks do.

    Args:
        config: only `loss` is read.
    """
    objective = step.objective(config.loss)

    @jax.jit
    def value_and_gradient(parameters, start, fixed, moving):
        def value(parameters):
            matrix = _matrix(parameters, start, moving)
            warped = geometry.warp_affine(moving, matrix)
            return objective(fixed[None], warped[None])[0]

        return jax.value_and_grad(value)(parameters)

    def in_float64(parameters, *arguments):
        parameters = parameters.astype(np.float32)
        value, gradient = value_and_gradient(parameters, *arguments)
        return float(value), np.asarray(gradient, np.float64)

    def align(fixed: conform.Conformed, moving: conform.Conformed) -> np.ndarray:
        images = [jnp.asarray(scan.image, jnp.float32) for scan in (fixed, moving)]
        start = geometry.centre_shift(*images)
        pyramids = [geometry.image_pyramid(image, _LEVELS) for image in images]
        parameters = np.zeros(12)
        for level_images in zip(*pyramids, strict=True):
            parameters = optimize.minimize(
                in_float64,
                parameters,
                args=(start, *level_images),
                jac=True,
                method="L-BFGS-B",
                options={"maxfun": _EVALUATIONS},
            ).x
        best = jnp.asarray(parameters, jnp.float32)
        return np.asarray(_matrix(best, start, images[1]))

    name = config.loss.name.upper()
    identity = f"{name} minimised, {config.loss.to_json()}, {_LEVELS} levels"
    return Method(f"{name} minimised", align, identity)


def _matrix(parameters, start, moving):
    """`fixed_to_moving`; the parameters act about the moving centre of mass."""
    centre = geometry.centre_of_mass(moving)
    return geometry.compose(geometry.affine_matrix(parameters, centre=centre), start)
