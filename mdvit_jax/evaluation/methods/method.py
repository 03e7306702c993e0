"""What a method is, and which ones need no training."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mdvit_jax import errors, geometry
from mdvit_jax.data import conform
from mdvit_jax.io import image

Align = Callable[[conform.Conformed, conform.Conformed], np.ndarray]
# (fixed, moving) → 4×4 `fixed_to_moving`, world RAS+ mm.
Find = Callable[[image.Image, image.Image], np.ndarray]

# What a study calls it → the file beside this one that makes it with `create()`, the
# module that it needs, and the package that brings that; empty where none is needed.
CLASSICAL = {
    "register": ("ours", "", ""),
    "ants": ("ants", "ants", "antspyx"),
    "elastix": ("elastix", "itk", "itk-elastix"),
    "simpleitk": ("simpleitk", "SimpleITK", "SimpleITK"),
}


class Method(NamedTuple):
    """A row of the tables.

    Attributes:
        name: what the row is called.
        align: (fixed, moving) → 4×4 `fixed_to_moving` in normalised coordinates.
        identity: version and settings, in words. What a method found is kept under it,
            so that it must change when the answers may.
    """

    name: str
    align: Align
    identity: str


def classical(name: str) -> Method:
    """One of `CLASSICAL`.

    Raises:
        UserError: there is none of this name, or the package that it needs is missing.
    """
    if name not in CLASSICAL:
        raise errors.UserError(
            f"{name!r} is no method; choose of {', '.join(CLASSICAL)}."
        )
    reason = missing(name)
    if reason:
        raise errors.UserError(reason)
    file = CLASSICAL[name][0]
    return importlib.import_module(f"mdvit_jax.evaluation.methods.{file}").create()


def missing(name: str) -> str | None:
    """A sentence on the package that one of `CLASSICAL` lacks; None if it can run."""
    _, module, package = CLASSICAL[name]
    if not module or importlib.util.find_spec(module):
        return None
    return (
        f"{name} is left out, as it needs the package {package}; "
        "pip install 'mdvit-jax[peers]' brings it."
    )


def of_world(find: Find) -> Align:
    """A method on volumes in the world, as one on conformed scans."""

    def align(fixed: conform.Conformed, moving: conform.Conformed) -> np.ndarray:
        found = find(*(image.from_array(s.image, s.to_world) for s in (fixed, moving)))
        of_fixed, of_moving = (
            geometry.normalised_to_world(s.image.shape, s.to_world)
            for s in (fixed, moving)
        )
        return np.linalg.inv(of_moving) @ found @ of_fixed

    return align
