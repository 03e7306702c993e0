"""ANTs (antspyx) "Affine": centres of mass, then Mattes mutual information."""

import tempfile
from importlib import metadata
from pathlib import Path

import ants
import numpy as np
from ants import config

from mdvit_jax import transforms
from mdvit_jax.evaluation.methods import itk_grid
from mdvit_jax.evaluation.methods.method import Method, of_world
from mdvit_jax.io.image import Image

_SEED = 1  # of the voxels that ANTs samples
_KIND = "Affine"


def create() -> Method:
    """The row of ANTs, its affine registration with the defaults."""
    identity = f"antspyx {metadata.version('antspyx')}, {_KIND}, seed {_SEED}"
    return Method("ANTs", of_world(find), identity)


def find(fixed: Image, moving: Image) -> np.ndarray:
    """4×4 `fixed_to_moving`, world RAS+ mm.

    Raises:
        UserError: the axes of an image are not at right angles.
    """
    # `registration` takes any keyword, and does not heed a random_seed among them.
    config.set_ants_deterministic(on=False, seed_value=_SEED)
    with tempfile.TemporaryDirectory() as folder:
        found = ants.registration(
            image(fixed),
            image(moving),
            type_of_transform=_KIND,
            outprefix=f"{folder}/",
        )
        (path,) = found["fwdtransforms"]
        return transforms.read(Path(path))


def image(volume: Image) -> ants.ANTsImage:
    """As ANTs has it, float32; UserError: its axes are not at right angles."""
    origin, spacing, direction = itk_grid.geometry(volume.affine)
    data = volume.data.astype(np.float32)
    return ants.from_numpy(data, origin.tolist(), spacing.tolist(), direction)
