"""What is compared: functions from two images to an affine in world millimetres.

A method takes (fixed, moving) and returns the 4×4 `fixed_to_moving`, world RAS+ mm. To
add one, write such a function and name it in `METHODS`. Where it needs a package of
the extra `peers`, it imports it inside and is named in `PACKAGES`.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.registration import itk_grid
from mdvit_jax.registration import transforms
from mdvit_jax.registration.images import Image

Method = Callable[[Image, Image], np.ndarray]

_SEED = 1  # of the voxels that ANTs samples


def ours(fixed: Image, moving: Image) -> np.ndarray:
    """This package's `register` with its defaults."""
    from mdvit_jax import register

    pair = ((image.data, image.affine) for image in (fixed, moving))
    return np.asarray(register(*pair).matrix, np.float64)


def ants(fixed: Image, moving: Image) -> np.ndarray:
    """ANTs (antspyx) "Affine": centres of mass, then Mattes mutual information."""
    import ants
    from ants import config

    # `registration` takes any keyword, and does not heed a random_seed among them.
    config.set_ants_deterministic(on=False, seed_value=_SEED)
    with tempfile.TemporaryDirectory() as folder:
        found = ants.registration(
            itk_grid.ants_image(fixed),
            itk_grid.ants_image(moving),
            type_of_transform="Affine",
            outprefix=f"{folder}/",
        )
        (path,) = found["fwdtransforms"]
        return transforms.read(Path(path))


def elastix(fixed: Image, moving: Image) -> np.ndarray:
    """Elastix (itk-elastix): its default parameter maps, rigid and then affine.

    It starts from the centres of mass, as ANTs does: by itself it would start from the
    headers, and gives up where two images are far apart in the world.
    """
    import itk

    parameters = itk.ParameterObject.New()
    rigid = parameters.GetDefaultParameterMap("rigid")
    rigid["AutomaticTransformInitialization"] = ["true"]
    rigid["AutomaticTransformInitializationMethod"] = ["CenterOfGravity"]
    parameters.AddParameterMap(rigid)
    parameters.AddParameterMap(parameters.GetDefaultParameterMap("affine"))
    method = itk.ElastixRegistrationMethod.New(
        itk_grid.itk_image(fixed), itk_grid.itk_image(moving)
    )
    method.SetParameterObject(parameters)
    method.SetLogToConsole(False)
    method.Update()
    found = method.ConvertToItkTransform(method.GetCombinationTransform())
    return itk_grid.matrix_of(found.TransformPoint)


METHODS: Mapping[str, Method] = {"ours": ours, "ants": ants, "elastix": elastix}
# The module that a method imports, and the package that brings it.
PACKAGES = {"ants": ("ants", "antspyx"), "elastix": ("itk", "itk-elastix")}


def missing(name: str) -> str | None:
    """A sentence on the package that a method lacks; None where it can run."""
    if name not in PACKAGES or importlib.util.find_spec(PACKAGES[name][0]):
        return None
    package = PACKAGES[name][1]
    return (
        f"{name} is left out, as it needs the package {package}; "
        "pip install 'mdvit-jax[peers]' brings it."
    )
