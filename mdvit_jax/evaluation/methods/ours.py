"""`mdvit_jax.register` of the two images, with its defaults."""

import numpy as np

import mdvit_jax
from mdvit_jax.io.image import Image
from mdvit_jax.registration import register

NAME = "register (ours)"


def describe() -> str:
    """Version and settings."""
    return f"mdvit_jax.register {mdvit_jax.__version__}, defaults"


def align_images(fixed: Image, moving: Image) -> np.ndarray:
    """4×4 `fixed_to_moving`, world RAS+ mm."""
    return register.register(fixed, moving).matrix
