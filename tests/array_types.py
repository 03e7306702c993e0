"""Shapes in signatures, for the tests: NumPy's arrays count as JAX's, as in JAX."""

import builtins

import beartype
import jax
import jaxtyping
import numpy as np

ROOMS = (
    "mdvit_jax.geometry",
    "mdvit_jax.losses",
    "mdvit_jax.models",
    "mdvit_jax.registration.gauss_newton",
    "mdvit_jax.registration.normal_equations",
)
# Called by its name by the hook of `install`.
check = beartype.beartype(
    conf=beartype.BeartypeConf(
        hint_overrides=beartype.FrozenDict({jax.Array: jax.Array | np.ndarray})
    )
)


class _Kind:
    """`Float`, `Int` and so on, of either kind of array."""

    def __init__(self, kind):
        self._kind = kind

    def __getitem__(self, arguments):
        array, shape = arguments
        return self._kind[array | np.ndarray, shape]


def install() -> None:
    """Check the shapes in the signatures of `ROOMS` wherever a test calls them.

    At run time they are text: the package itself needs neither jaxtyping nor beartype,
    so the names that the text holds are put where beartype finds them.
    """
    for name in ("Bool", "Float", "Int", "Num", "Shaped"):
        setattr(builtins, name, _Kind(getattr(jaxtyping, name)))
    jaxtyping.install_import_hook(ROOMS, "array_types.check")
