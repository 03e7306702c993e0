"""Elastix (itk-elastix): its default parameter maps, rigid and then affine.

It starts from the centres of mass, as ANTs does: its default is to start from the
headers, with which it gives up where two images are far apart in the world.
"""

from importlib import metadata
from typing import Any

import itk
import numpy as np

from mdvit_jax.evaluation.methods import itk_grid
from mdvit_jax.io.image import Image

NAME = "Elastix"


def describe() -> str:
    """Version and settings."""
    version = metadata.version("itk-elastix")
    return f"itk-elastix {version}, default rigid and affine, centres of gravity"


def align_images(fixed: Image, moving: Image) -> np.ndarray:
    """4×4 `fixed_to_moving`, world RAS+ mm.

    Raises:
        UserError: the axes of an image are not at right angles.
    """
    parameters = itk.ParameterObject.New()
    rigid = parameters.GetDefaultParameterMap("rigid")
    rigid["AutomaticTransformInitialization"] = ["true"]
    rigid["AutomaticTransformInitializationMethod"] = ["CenterOfGravity"]
    parameters.AddParameterMap(rigid)
    parameters.AddParameterMap(parameters.GetDefaultParameterMap("affine"))
    method = itk.ElastixRegistrationMethod.New(to_itk(fixed), to_itk(moving))
    method.SetParameterObject(parameters)
    method.SetLogToConsole(False)
    method.Update()
    transform = method.ConvertToItkTransform(method.GetCombinationTransform())
    return itk_grid.affine_matrix(transform.TransformPoint)


def to_itk(image: Image) -> Any:
    """The image as an `itk.Image`, float32; raises as `align_images` does."""
    origin, spacing, direction = itk_grid.itk_geometry(image.affine)
    # NumPy's first axis is ITK's last one.
    result = itk.image_from_array(np.ascontiguousarray(image.data.T, np.float32))
    result.SetOrigin(origin.tolist())
    result.SetSpacing(spacing.tolist())
    result.SetDirection(itk.matrix_from_array(direction))
    return result
