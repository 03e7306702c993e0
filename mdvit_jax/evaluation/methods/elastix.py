"""Elastix (itk-elastix): its default parameter maps, rigid and then affine.

It starts from the centres of mass, as ANTs does: by itself it would start from the
headers, and gives up where two images are far apart in the world.
"""

from importlib import metadata
from typing import Any

import itk
import numpy as np

from mdvit_jax.evaluation.methods import itk_grid
from mdvit_jax.evaluation.methods.method import Method, of_world
from mdvit_jax.io.image import Image


def create() -> Method:
    """The row of Elastix."""
    version = metadata.version("itk-elastix")
    settings = "default rigid and affine, centres of gravity"
    return Method("Elastix", of_world(find), f"itk-elastix {version}, {settings}")


def find(fixed: Image, moving: Image) -> np.ndarray:
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
    method = itk.ElastixRegistrationMethod.New(image(fixed), image(moving))
    method.SetParameterObject(parameters)
    method.SetLogToConsole(False)
    method.Update()
    found = method.ConvertToItkTransform(method.GetCombinationTransform())
    return itk_grid.matrix_of(found.TransformPoint)


def image(volume: Image) -> Any:
    """As an `itk.Image` of float32; UserError: its axes are not at right angles."""
    origin, spacing, direction = itk_grid.geometry(volume.affine)
    # NumPy's first axis is ITK's last one.
    result = itk.image_from_array(np.ascontiguousarray(volume.data.T, np.float32))
    result.SetOrigin(origin.tolist())
    result.SetSpacing(spacing.tolist())
    result.SetDirection(itk.matrix_from_array(direction))
    return result
