"""What is compared: functions from two images to an affine in world millimetres.

They are those of `mdvit_jax.evaluation.methods`; one that is added there is compared
here, too.
"""

import importlib
from collections.abc import Callable, Mapping

import numpy as np

from mdvit_jax.evaluation import methods
from mdvit_jax.io.image import Image

Method = Callable[[Image, Image], np.ndarray]

_NAMES = {"ours" if name == "register" else name: name for name in methods.CLASSICAL}


def _method(name: str) -> Method:
    """(fixed, moving) → 4×4 `fixed_to_moving`, world RAS+ mm."""

    def find(fixed: Image, moving: Image) -> np.ndarray:
        # Here, as it imports what it needs, which may be missing.
        file = methods.CLASSICAL[name][0]
        module = importlib.import_module(f"{methods.__name__}.{file}")
        return module.find(fixed, moving)

    return find


METHODS: Mapping[str, Method] = {ours: _method(name) for ours, name in _NAMES.items()}


def missing(name: str) -> str | None:
    """A sentence on the package that a method lacks; None where it can run."""
    return methods.missing(_NAMES[name])
