"""The affine at which a training loss is least, sought for each pair by itself.

What a loss can tell of an affine, apart from what a network learns of it.
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

_LEVELS = 2  # half the size of the images, then their own
_EVALUATIONS = 100  # at each level, the most


def minimised(config: ml_collections.ConfigDict) -> Method:
    """Quasi-Newton descent (L-BFGS-B) of `config.loss` over the 12 parameters.

    From the centres of mass laid on each other, as the networks start; coarse to fine.

    Args:
        config: of it `loss` alone.
    """
    loss_of_pairs = step.objective(config.loss)

    @jax.jit
    def value_and_slope(parameters, start, fixed, moving):
        def value(parameters):
            matrix = _matrix(parameters, start, moving)
            warped = geometry.warp_affine(moving, matrix)
            return loss_of_pairs(fixed[None], warped[None])[0]

        return jax.value_and_grad(value)(parameters)

    def in_float64(parameters, *given):
        value, slope = value_and_slope(parameters.astype(np.float32), *given)
        return float(value), np.asarray(slope, np.float64)

    def align(fixed: conform.Conformed, moving: conform.Conformed) -> np.ndarray:
        images = [jnp.asarray(scan.image, jnp.float32) for scan in (fixed, moving)]
        start = geometry.centre_shift(*images)
        pyramids = [geometry.image_pyramid(image, _LEVELS) for image in images]
        free = np.zeros(12)
        for of_fixed, of_moving in zip(*pyramids, strict=True):
            free = optimize.minimize(
                in_float64,
                free,
                args=(start, of_fixed, of_moving),
                jac=True,
                method="L-BFGS-B",
                options={"maxfun": _EVALUATIONS},
            ).x
        return np.asarray(_matrix(jnp.asarray(free, jnp.float32), start, images[1]))

    name = config.loss.name.upper()
    identity = f"{name} minimised, {config.loss.to_json()}, {_LEVELS} levels"
    return Method(f"{name} minimised", align, identity)


def _matrix(parameters, start, moving):
    """`fixed_to_moving`, the parameters acting about the moving centre of mass."""
    centre = geometry.centre_of_mass(moving)
    return geometry.compose(geometry.affine_matrix(parameters, centre=centre), start)
