"""The values that options may have, without the modules that compute with them.

The help of a command is printed before anything heavy is imported.
"""

from mdvit_jax.registration import CONTRASTS, DOF

FORMATS = ("itk", "fsl", "lta", "x5", "text")  # `transforms.FORMATS`
# `transforms.resampling.INTERPOLATIONS`
INTERPOLATIONS = ("linear", "nearest", "cubic", "lanczos")

__all__ = ["CONTRASTS", "DOF", "FORMATS", "INTERPOLATIONS"]
