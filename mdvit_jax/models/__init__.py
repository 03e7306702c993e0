"""The networks: fixed and moving volume in, affine matrix out. The only place with Flax.

network = models.create(config)
params = network.init(key, fixed, moving)
estimate = network.apply(params, fixed, moving)     # .matrix, .warped, .parameters
"""

from mdvit_jax.models.mdvit import AffineEstimate, Network, StageEstimate, create

__all__ = ["AffineEstimate", "Network", "StageEstimate", "create"]
