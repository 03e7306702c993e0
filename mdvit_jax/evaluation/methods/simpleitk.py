"""SimpleITK: an affine from the centres of mass, by Mattes MI of all voxels."""

import numpy as np
import SimpleITK as sitk

from mdvit_jax.evaluation.methods import itk_grid
from mdvit_jax.io.image import Image

NAME = "SimpleITK"


def describe() -> str:
    """Version and settings."""
    return f"SimpleITK {sitk.__version__}, Mattes 32, levels 4 2, conjugate, serial"


def align_images(fixed: Image, moving: Image) -> np.ndarray:
    """4×4 `fixed_to_moving`, world RAS+ mm.

    Raises:
        UserError: the axes of an image are not at right angles.
    """
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # more sum in any order
    pair = to_itk(fixed), to_itk(moving)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    # Plain gradient descent runs away on the finer level, or stops short.
    method.SetOptimizerAsConjugateGradientLineSearch(1.0, numberOfIterations=100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([4, 2])
    start = sitk.CenteredTransformInitializer(*pair, sitk.AffineTransform(3))
    method.SetInitialTransform(start)
    return itk_grid.affine_matrix(method.Execute(*pair).TransformPoint)


def to_itk(image: Image) -> sitk.Image:
    """The image as SimpleITK has it, float32; its axes are in the opposite order."""
    result = sitk.GetImageFromArray(np.asarray(image.data, np.float32).T)
    origin, spacing, direction = itk_grid.itk_geometry(image.affine)
    result.SetOrigin(origin)
    result.SetSpacing(spacing)
    result.SetDirection(direction.ravel())
    return result
