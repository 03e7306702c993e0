"""ANTs (antspyx) "Affine": centres of mass, then Mattes mutual information."""

import tempfile
from importlib import metadata
from pathlib import Path

import ants
import numpy as np
from ants import config

from mdvit_jax import transforms
from mdvit_jax.evaluation.methods import itk_grid
from mdvit_jax.io.image import Image

NAME = "ANTs"
_SEED = 1  # of the voxels that ANTs samples
_KIND = "Affine"


def describe() -> str:
    """Version and settings."""
    return f"antspyx {metadata.version('antspyx')}, {_KIND}, seed {_SEED}"


def align_images(fixed: Image, moving: Image) -> np.ndarray:
    """4×4 `fixed_to_moving`, world RAS+ mm.

    Raises:
        UserError: the axes of an image are not at right angles.
    """
    # `registration` takes any keyword, but ignores random_seed.
    config.set_ants_deterministic(on=False, seed_value=_SEED)
    with tempfile.TemporaryDirectory() as folder:
        result = ants.registration(
            to_ants(fixed),
            to_ants(moving),
            type_of_transform=_KIND,
            outprefix=f"{folder}/",
        )
        (path,) = result["fwdtransforms"]
        return transforms.read(Path(path))


def to_ants(image: Image) -> ants.ANTsImage:
    """The image as ANTs has it, float32; raises as `align_images` does."""
    origin, spacing, direction = itk_grid.itk_geometry(image.affine)
    data = image.data.astype(np.float32)
    return ants.from_numpy(data, origin.tolist(), spacing.tolist(), direction)
