"""A head defined by formulas, which gives exact images in any pose on any grid.

It is an egg with a lopsided bump, filled with smooth structure, without any symmetry.
"""

import numpy as np

_AXES = np.array([62.0, 80.0, 55.0])  # mm


def head(shape, affine, pose=None, *, seed: int = 0, contrast=None) -> np.ndarray:
    """An image of the head, [x, y, z] float32, 0 outside the head and 0.1 to 1 inside.

    Args:
        affine: 4×4, voxel indices → world RAS+ mm.
        pose: 4×4, world mm, moves the head from its rest about the origin. With the
            head at rest as fixed image it is the true `fixed_to_moving`.
        contrast: values inside → values.
    """
    index = np.indices(shape).reshape(3, -1)
    to_head = np.linalg.inv(np.eye(4) if pose is None else pose) @ affine
    at = (to_head[:3, :3] @ index + to_head[:3, 3:]).T
    share = np.clip((1 - _reach(at)) * 15 + 0.5, 0, 1)  # of a voxel, about
    values = np.zeros(len(at))
    within = share > 0
    values[within] = _texture(at[within], seed)
    if contrast is not None:
        values[within] = contrast(values[within])
    return (values * share).reshape(shape).astype(np.float32)


def points() -> np.ndarray:
    """Points [n, 3] on the surface of the ellipsoid at rest, mm."""
    signs = np.array([*np.ndindex(3, 3, 3)]) - 1.0
    signs = signs[np.any(signs != 0, axis=1)]
    return signs / np.linalg.norm(signs, axis=1, keepdims=True) * _AXES


def grid(size: int = 48, voxel: float = 4.0):
    """A cubic shape and its 4×4 affine, with the origin in the middle."""
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = -voxel * (size - 1) / 2
    return (size,) * 3, affine


def _reach(at):
    """Relative distance from the centre: 0 in the middle, 1 on the surface."""
    x, y, z = (at / _AXES).T
    egg = np.sqrt(x**2 * (1 + 0.25 * y) + y**2 + z**2 * (1 - 0.2 * y))
    bump = np.exp(-((x - 0.7) ** 2 + (y - 0.5) ** 2 + (z - 0.4) ** 2) / 0.1)
    return egg - 0.15 * bump


def _texture(at, seed):
    random = np.random.default_rng(seed)
    total = np.zeros(len(at))
    for _ in range(250):
        centre = random.uniform(-1, 1, 3) * _AXES
        width = random.uniform(5, 9)
        height = random.choice([-1, 1])
        total += height * np.exp(-((at - centre) ** 2).sum(1) / (2 * width**2))
    return 0.1 + 0.9 / (1 + np.exp(-2.5 * total))


def coarse_head():
    """An image of the head [x, y, z], the mask of its voxels, and its affine."""
    shape, matrix = grid(46, 4.0)
    data = head(shape, matrix)
    return data, data > 0, matrix
