"""An affine matrix as translation, rotation, scale and shear."""

from typing import NamedTuple

import numpy as np


class Components(NamedTuple):
    """L = R · S · H of the linear part of a matrix.

    Attributes:
        translation: [3] mm, of the fixed object's centre, along the world's x, y, z.
        rotation: [3] degrees about x, y and z, in this order (R = Rz · Ry · Rx).
        angle: degrees of R as one turn, 0 to 180.
        scale: [3] along x, y, z; above 1 where the moving object is larger.
        shear: [3] xy, xz, yz; the entries of the unit upper triangular H.
    """

    translation: np.ndarray
    rotation: np.ndarray
    angle: float
    scale: np.ndarray
    shear: np.ndarray

    def matrix(self, centre: np.ndarray) -> np.ndarray:
        """The 4×4 matrix with these components, world RAS+ mm.

        Args:
            centre: [3] mm, as in `decompose`.
        """
        from scipy.spatial.transform import Rotation

        shear = np.eye(3)
        shear[np.triu_indices(3, 1)] = self.shear
        turn = Rotation.from_euler("xyz", self.rotation, degrees=True).as_matrix()
        result = np.eye(4)
        result[:3, :3] = turn @ np.diag(self.scale) @ shear
        result[:3, 3] = centre + self.translation - result[:3, :3] @ centre
        return result


def decompose(fixed_to_moving: np.ndarray, centre: np.ndarray) -> Components:
    """The parts of an affine transform without a mirror.

    Args:
        fixed_to_moving: 4×4, world RAS+ mm.
        centre: [3] world RAS+ mm, the point that rotation, scale and shear leave in
            place (the centre of the fixed object).

    Returns:
        Translation in mm, rotation in degrees, scale and shear.

    Raises:
        ValueError: the matrix mirrors, or maps space to a plane.
    """
    # Imported here, as it takes longer than all else that this package imports.
    from scipy.spatial.transform import Rotation

    linear = fixed_to_moving[:3, :3]
    if not np.linalg.det(linear) > 0:
        raise ValueError("the matrix mirrors, or maps space to a plane")
    turn, upper = np.linalg.qr(linear)
    signs = np.sign(np.diag(upper))
    turn, upper = turn * signs, upper * signs[:, None]
    scale = np.diag(upper).copy()
    shear = (upper / scale[:, None])[np.triu_indices(3, 1)]
    rotation = Rotation.from_matrix(turn)
    offset = linear @ centre + fixed_to_moving[:3, 3] - centre
    return Components(
        offset,
        rotation.as_euler("xyz", degrees=True),
        float(np.degrees(rotation.magnitude())),
        scale,
        shear,
    )
