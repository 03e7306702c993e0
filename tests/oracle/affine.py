"""The matrix of the 12 parameters, by products of 4×4 matrices."""

import numpy as np
from scipy.spatial import transform


def matrix(parameters, centre=(0, 0, 0)) -> np.ndarray:
    """C · H · S · R · C⁻¹ · T of one set of parameters, [4, 4]."""
    translation, rotation, shear, scale = np.split(np.asarray(parameters, float), 4)
    shift, back, forth = np.eye(4), np.eye(4), np.eye(4)
    shift[:3, 3] = translation
    forth[:3, 3] = centre
    back[:3, 3] = -np.asarray(centre, float)
    turn = np.eye(4)  # about the fixed axes x, then y, then z
    turn[:3, :3] = transform.Rotation.from_euler("xyz", np.pi * rotation).as_matrix()
    stretch = np.diag([*(1 + scale / 2), 1])
    slant = np.eye(4)
    slant[0, 1], slant[0, 2], slant[1, 2] = np.pi * shear
    return forth @ slant @ stretch @ turn @ back @ shift


def apply(matrix, points) -> np.ndarray:
    """Points [..., 3] through a 4×4 matrix."""
    return points @ np.asarray(matrix)[:3, :3].T + np.asarray(matrix)[:3, 3]
