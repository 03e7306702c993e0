"""Check the shapes in signatures during tests; NumPy's arrays count as JAX's."""

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
    "mdvit_jax.registration.normalisation",
)
# The hook of `install` calls it by name.
check = beartype.beartype(
    conf=beartype.BeartypeConf(
        hint_overrides=beartype.FrozenDict({jax.Array: jax.Array | np.ndarray})
    )
)


class _Kind:
    """`Float`, `Int` and so on, for arrays of NumPy and of JAX."""

    def __init__(self, kind):
        self._kind = kind

    def __getitem__(self, arguments):
        array, shape = arguments
        return self._kind[array | np.ndarray, shape]


def install() -> None:
    """Check the shapes in the signatures of `ROOMS` at each call of a test.

    The package needs neither jaxtyping nor beartype: its annotations are text. Here the
    names in that text are defined, so that beartype can evaluate it.
    """
    for name in ("Bool", "Float", "Int", "Num", "Shaped"):
        setattr(builtins, name, _Kind(getattr(jaxtyping, name)))
    jaxtyping.install_import_hook(ROOMS, "helpers.array_types.check")
