"""The rotations that keep the axes of a grid."""

import numpy as np


def _turns() -> np.ndarray:
    signs = np.array([*np.ndindex(2, 2, 2)]) * -2 + 1
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    matrices = [np.eye(3)[list(order)] * sign for order in orders for sign in signs]
    return np.array([m for m in matrices if np.linalg.det(m) > 0], np.float32)


# [24, 3, 3], the identity first.
TURNS = _turns()
