"""The networks: fixed and moving volume in, affine out. The only place with Flax.

network = models.create(config)
params = network.init(key, fixed, moving)
estimate = network.apply(params, fixed, moving)     # .matrix, .warped, .parameters

weights = models.pretrained()                       # .network, .params, .size
"""

from mdvit_jax.models.mdvit import AffineEstimate, StageEstimate
from mdvit_jax.models.network import Network, Params, create
from mdvit_jax.models.weights_file import Weights, pretrained

__all__ = [
    "AffineEstimate",
    "Network",
    "Params",
    "StageEstimate",
    "Weights",
    "create",
    "pretrained",
]
