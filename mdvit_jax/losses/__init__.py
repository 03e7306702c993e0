"""How unlike two images are: pure functions (fixed, warped) → one value per pair.

from mdvit_jax import losses
value = losses.ntg(fixed, warped, stride=4)            # [*batch], in [0, 1]
gradient = jax.grad(lambda w: losses.ntg(fixed, w).sum())(warped)
"""

from mdvit_jax.losses.mapped_points import mapped_distance
from mdvit_jax.losses.ncc import ncc
from mdvit_jax.losses.ntg import ntg
from mdvit_jax.losses.objective import similarity_pyramid

__all__ = ["mapped_distance", "ncc", "ntg", "similarity_pyramid"]
