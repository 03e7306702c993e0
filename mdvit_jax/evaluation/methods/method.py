"""The interface of a method, and the classical methods by name."""

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np

from mdvit_jax import errors, geometry
from mdvit_jax.data import conform
from mdvit_jax.io import image

# (fixed, moving) → 4×4 `fixed_to_moving`, in normalised coordinates.
AlignScans = Callable[[conform.Conformed, conform.Conformed], np.ndarray]
# (fixed, moving) → 4×4 `fixed_to_moving`, world RAS+ mm.
AlignImages = Callable[[image.Image, image.Image], np.ndarray]

# Name in commands → the file beside this one, the module that it imports, and the
# package that brings that module; both empty where none is needed.
CLASSICAL = {
    "register": ("ours", "", ""),
    "ants": ("ants", "ants", "antspyx"),
    "elastix": ("elastix", "itk", "itk-elastix"),
    "simpleitk": ("simpleitk", "SimpleITK", "SimpleITK"),
}


class Method(NamedTuple):
    """A row of the tables.

    Attributes:
        name: of the row.
        align: (fixed, moving) → 4×4 `fixed_to_moving` in normalised coordinates.
        identity: version and settings, in words. Results are kept under it, so it must
            change whenever the answers may.
        family: what runs that differ by their seed alone have in common; by default the
            method is alone.
    """

    name: str
    align: AlignScans
    identity: str
    family: str = ""


def classical(name: str) -> Method:
    """The method of this name in `CLASSICAL`; raises as `import_classical` does."""
    module = import_classical(name)
    align = align_conformed(module.align_images)
    return Method(module.NAME, align, module.describe())


def import_classical(name: str) -> ModuleType:
    """The file of a method: `NAME`, `describe()` and `align_images` (`AlignImages`).

    Raises:
        UserError: the name is unknown, or the package that it needs is missing.
    """
    if name not in CLASSICAL:
        raise errors.UserError(
            f"there is no method {name!r}; choose from {', '.join(CLASSICAL)}."
        )
    reason = missing_package(name)
    if reason:
        raise errors.UserError(reason)
    return importlib.import_module(f"{__package__}.{CLASSICAL[name][0]}")


def missing_package(name: str) -> str | None:
    """A sentence on the missing package of a method; None if the method can run."""
    _, module, package = CLASSICAL[name]
    if not module or importlib.util.find_spec(module):
        return None
    return (
        f"{name} is left out: it needs the package {package}, which "
        "pip install 'mdvit-jax[peers]' installs."
    )


def align_conformed(align_images: AlignImages) -> AlignScans:
    """Turn a method on images in the world into one on conformed scans."""

    def align(fixed: conform.Conformed, moving: conform.Conformed) -> np.ndarray:
        scans = fixed, moving
        matrix = align_images(*(image.from_array(s.image, s.to_world) for s in scans))
        fixed_to_world, moving_to_world = (
            geometry.normalised_to_world(s.image.shape, s.to_world) for s in scans
        )
        return np.linalg.inv(moving_to_world) @ matrix @ fixed_to_world

    return align
