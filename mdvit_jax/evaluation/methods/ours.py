"""`mdvit_jax.register` of the two images, with its defaults."""

import numpy as np

import mdvit_jax
from mdvit_jax.evaluation.methods.method import Method, of_world
from mdvit_jax.io.image import Image
from mdvit_jax.registration import register


def create() -> Method:
    """The row of this package's classical registration."""
    identity = f"mdvit_jax.register {mdvit_jax.__version__}, defaults"
    return Method("register (ours)", of_world(find), identity)


def find(fixed: Image, moving: Image) -> np.ndarray:
    """4×4 `fixed_to_moving`, world RAS+ mm."""
    return register.register(fixed, moving).matrix
