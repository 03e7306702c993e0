"""MDViT with the 3D Normalized Total Gradient: affine brain-MRI registration in JAX.

`register` aligns two images; its result is a `Registration`. `geometry` and `losses`
need only JAX and NumPy, and `transforms` reads and writes the files of other programs.
`models`, `data`, `training`, `evaluation` and `studies` are imported by name.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mdvit_jax.errors import UserError

if TYPE_CHECKING:
    from mdvit_jax import geometry, losses, transforms
    from mdvit_jax.registration.register import register
    from mdvit_jax.registration.registration_result import Registration

__version__ = "0.1.0"
__all__ = [
    "Registration",
    "UserError",
    "__version__",
    "geometry",
    "losses",
    "register",
    "transforms",
]


def __getattr__(name: str) -> Any:
    # On first use, so that `import mdvit_jax` takes no time, and losses and geometry
    # need neither nibabel nor scipy.
    if name in ("geometry", "losses", "transforms"):
        return importlib.import_module(f"mdvit_jax.{name}")
    if name in ("register", "Registration"):
        module = importlib.import_module("mdvit_jax.registration.register")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
