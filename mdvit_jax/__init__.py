"""MDViT with the 3D Normalized Total Gradient: affine brain-MRI registration in JAX.

`register` aligns two images. `geometry` and `losses` need only JAX and NumPy; `models`,
`data`, `training`, `evaluation` and `registration` are imported where they are used.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "register"]


def __getattr__(name: str) -> Any:
    # Here, so that importing losses or geometry does not import nibabel and scipy.
    if name == "register":
        from mdvit_jax.registration.register import register

        return register
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "geometry", "losses"]
