"""MDViT with the 3D Normalized Total Gradient: affine brain-MRI registration in JAX.

`geometry` and `losses` need only JAX and NumPy; `models`, `data`, `training` and
`evaluation` are imported where they are used.
"""

__version__ = "0.1.0"
