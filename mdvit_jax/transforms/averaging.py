"""Parts of the way along a transform, and the mean of several."""

from collections.abc import Sequence

import numpy as np

from mdvit_jax import errors

_CLOSE = 1e-10  # of the mean's remaining step, in its largest entry
_STEPS = 100


def power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A part of the way along a transform: `expm(exponent · logm(matrix))`.

    `power(m, 0.5)` made twice is m, and `power(m, -1)` its inverse. A rigid transform
    stays rigid on the way, and one with a single scale keeps to one.

    Args:
        matrix: 4×4.
        exponent: 0 is the identity, 1 the transform.

    Raises:
        UserError: it turns by half a turn, or mirrors, so that there is no one way.
    """
    from scipy.linalg import expm

    return expm(exponent * logarithm(matrix))


def logarithm(matrix: np.ndarray) -> np.ndarray:
    """The principal logarithm of a 4×4 affine, real.

    Raises:
        UserError: as in `power`.
    """
    from scipy.linalg import logm

    eigenvalues = np.linalg.eigvals(matrix[:3, :3])
    on_negative_axis = (eigenvalues.real < 0) & (
        np.abs(eigenvalues.imag) < 1e-6 * np.abs(eigenvalues.real)
    )
    if on_negative_axis.any() or not np.linalg.det(matrix[:3, :3]) > 0:
        raise errors.UserError(
            "a transform turns by half a turn, or mirrors, so that there is no way in "
            "between; correct the orientation in the header of the scan that is turned."
        )
    return logm(matrix).real


def average(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """The mean m of affine transforms, for which the logs of m⁻¹ · matrix add up to 0.

    It favours none, does not depend on their order, and follows a change of the world
    on either side: the mean of a · matrix · b is a · mean · b, and the mean of the
    inverses is the inverse of the mean. Of two it is the half-way transform, and its
    determinant is the geometric mean of theirs. (The exponential barycentre of Pennec
    and Arsigny, 2013, which the log-Euclidean mean approximates.)

    Args:
        matrices: 4×4 each, of one or more.

    Returns:
        4×4 float64.

    Raises:
        UserError: two of them are half a turn apart.
    """
    from scipy.linalg import expm

    result = expm(np.mean([logarithm(matrix) for matrix in matrices], axis=0))
    for _ in range(_STEPS):
        back = np.linalg.inv(result)
        step = np.mean([logarithm(back @ matrix) for matrix in matrices], axis=0)
        result = result @ expm(step)
        if np.abs(step).max() < _CLOSE:
            return result
    raise errors.UserError(
        "the transforms turn too far from each other to have a mean; correct the "
        "orientations in the headers of those that are turned."
    )
