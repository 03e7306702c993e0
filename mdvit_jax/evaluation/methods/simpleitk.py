"""SimpleITK: an affine from the centres of mass, by Mattes MI of all voxels."""

import numpy as np
import SimpleITK as sitk

from mdvit_jax.evaluation.methods import itk_grid
from mdvit_jax.evaluation.methods.method import Method, of_world
from mdvit_jax.io.image import Image


def create() -> Method:
    """The row of SimpleITK."""
    identity = f"SimpleITK {sitk.__version__}, Mattes 32, levels 4 2, conjugate, serial"
    return Method("SimpleITK", of_world(find), identity)


def find(fixed: Image, moving: Image) -> np.ndarray:
    """4×4 `fixed_to_moving`, world RAS+ mm; UserError: axes not at right angles."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # more sum in any order
    pair = image(fixed), image(moving)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    # Plain gradient descent runs away on the finer level, or stops short.
    method.SetOptimizerAsConjugateGradientLineSearch(1.0, numberOfIterations=100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([4, 2])
    start = sitk.CenteredTransformInitializer(*pair, sitk.AffineTransform(3))
    method.SetInitialTransform(start)
    return itk_grid.matrix_of(method.Execute(*pair).TransformPoint)


def image(volume: Image) -> sitk.Image:
    """As SimpleITK has it, float32, whose axes are in the opposite order of NumPy's."""
    result = sitk.GetImageFromArray(np.asarray(volume.data, np.float32).T)
    origin, spacing, direction = (n.ravel() for n in itk_grid.geometry(volume.affine))
    result.SetOrigin(origin)
    result.SetSpacing(spacing)
    result.SetDirection(direction)
    return result
