"""The error in millimetres of affines that are known, while a network is trained.

A DSC of brain masks is high as soon as the outlines agree. Here a scan is registered to
itself as a known affine has moved it, and the error is the mean distance, over the
brain, from where a point belongs: of the last stage, and of those before it, which may
be idle. The share of silent units of the heads shows when a network stops learning.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mdvit_jax import geometry, models

# A head that lies askew in another scanner; each number is drawn uniform in ± this.
DEGREES = 20.0  # about each of x, y and z
SCALE = 0.15  # 1 ± along each axis
SHEAR = 0.1
SHIFT = 15.0  # mm along each axis


def create(
    network: models.Network, count: int, field_of_view: float
) -> Callable[[Any, Array, Array, int], tuple[Array, Array]]:
    """(params, image, mask, number) → errors in mm and which units were active.

    The image and mask [n, n, n] are of a scan, the number identifies the scan: its
    affines are the same at each call. Errors are [count, passes, stages],
    active units bool [units], those of all stages' heads in a row; the passes share
    their heads, and a unit that was active in one of them counts.
    """

    @jax.jit
    def measure(params, image: Array, mask: Array, number: Array):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), number), count)
        centre = geometry.centre_of_mass(image)
        moves = jax.vmap(lambda key: draw(key, centre, field_of_view))(keys)
        fixed = jnp.broadcast_to(image, (count, *image.shape))
        estimate = network.from_centres(
            params, fixed, geometry.warp_affine(fixed, moves)
        )
        truth = geometry.invert(moves)
        passes = [one.stages for one in estimate.passes]
        matrices = jnp.array([[stage.matrix for stage in stages] for stages in passes])
        apart = distance_over(mask, matrices, truth) * (field_of_view / 2)
        active = [
            jnp.concatenate([stage.active.any(0) for stage in stages])
            for stages in passes
        ]
        return jnp.moveaxis(apart, -1, 0), jnp.any(jnp.array(active), axis=0)

    return measure


def draw(
    key: Array, centre: Array, field_of_view: float, *, degrees: float = DEGREES
) -> Array:
    """A known affine about a point [3], 4×4 normalised."""
    uniform = jax.random.uniform(key, (4, 3), minval=-1)
    # In the units of the 12 parameters (`geometry.affine_matrix`).
    strengths = jnp.array(
        [SHIFT / (field_of_view / 2), degrees / 180, SHEAR / jnp.pi, 2 * SCALE]
    )
    parameters = (uniform * strengths[:, None]).reshape(12)
    return geometry.affine_matrix(parameters, centre=centre)


def distance_over(mask: Array, estimate: Array, truth: Array) -> Array:
    """Mean distance over a mask [x, y, z] under affines [*batch, 4, 4], normalised."""
    axes = jnp.meshgrid(*map(geometry.voxel_centres, mask.shape), indexing="ij")
    points = jnp.stack([*axes, jnp.ones(mask.shape)])
    apart = jnp.einsum(
        "...ab,bxyz->...axyz",
        (estimate - truth)[..., :3, :],
        points,
        precision="highest",
    )
    distance = jnp.sqrt((apart**2).sum(-4))
    weights = mask.astype(jnp.float32)
    return (distance * weights).sum((-3, -2, -1)) / weights.sum()


def summary(errors: list[np.ndarray], active: list[np.ndarray]) -> dict[str, float]:
    """Values for the log: `known_mm` of the last stage, of all stages, silent units.

    Args:
        errors: [count, passes, stages] of each scan.
        active: bool [units] of each scan.
    """
    distances = np.concatenate(errors).mean(axis=0)  # [passes, stages]
    rows = {
        f"known_mm_pass_{i}_stage_{j}" if len(distances) > 1 else f"known_mm_stage_{j}":
            float(value)
        for i, stages in enumerate(distances, 1)
        for j, value in enumerate(stages, 1)
    }  # fmt: skip
    silent = float(1 - np.any(active, axis=0).mean())
    return {"known_mm": float(distances[-1, -1]), **rows, "silent_units": silent}
