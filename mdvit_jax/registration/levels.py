"""An image → the cubes of 12³, 24³, 48³ and 96³ voxels on which it is aligned.

A cube lies along the axes of the world, around the foreground's centre, whatever the
order in which the file has its voxels; two images that are aligned get cubes of one
spacing. So every pair is aligned by the same compiled programs.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.registration import sampling
from mdvit_jax.registration.foreground import Foreground
from mdvit_jax.registration.normal_equations import Level

SIZES = (12, 24, 48, 96)
_SHARE = {12: 1.0, 24: 0.8, 48: 0.45, 96: 0.085}  # of a cube's voxels that take part
_SPARSE = 96  # of cubes of this size a quarter of the voxels says as much as all
_MARGIN = 3  # voxels of the finest cube left free around the foreground
_BLUR = 0.42  # deviation, in voxels of the cube, of what averages over such a voxel
_UNLIKE = 20  # times as large as the other; a cropped head, or a mouse's, is not
_BOX = 0.29  # deviation of a voxel of the file, in its own size


class Pair(NamedTuple):
    """Two foregrounds on cubes of one spacing.

    Attributes:
        fixed, moving: the foregrounds.
        voxel: spacing of the finest cubes in mm; that of others is larger as they are
            smaller.
        cubes: size → the fixed and the moving foreground.
        points: size → indices of the voxels of both cubes that take part, and -1.
    """

    fixed: Foreground
    moving: Foreground
    voxel: float
    cubes: dict[int, tuple[Level, Level]]
    points: dict[int, tuple[np.ndarray, np.ndarray]]

    def centres_together(self) -> np.ndarray:
        """4×4 in world mm that shifts the fixed centre to the moving one."""
        shift = np.eye(4)
        shift[:3, 3] = self.moving.centre - self.fixed.centre
        return shift

    def to_voxels(self, fixed_to_moving: np.ndarray, size: int) -> np.ndarray:
        """4×4 in world mm → [3, 4] between cubes, in voxels from their centres."""
        linear = fixed_to_moving[:3, :3]
        offset = linear @ self.fixed.centre + fixed_to_moving[:3, 3]
        step = self.voxel * SIZES[-1] / size
        offset = (offset - self.moving.centre) / step
        return np.concatenate([linear, offset[:, None]], axis=1)

    def to_world(self, matrix: np.ndarray, size: int) -> np.ndarray:
        """The inverse of `to_voxels`."""
        step = self.voxel * SIZES[-1] / size
        result = np.eye(4)
        result[:3, :3] = matrix[:, :3]
        centre = self.moving.centre + step * matrix[:, 3]
        result[:3, 3] = centre - result[:3, :3] @ self.fixed.centre
        return result


def build_pair(fixed: Foreground, moving: Foreground) -> Pair:
    """Bring two foregrounds onto cubes that hold them however they are turned.

    Raises:
        UserError: they are of two orders of size, or one is thinner than a voxel of the
            finest cube, as where a header says another unit than millimetres.
    """
    small, large = sorted((fixed, moving), key=lambda image: image.radius)
    voxel = 2 * large.radius / (SIZES[-1] - 2 * _MARGIN)
    if large.radius > _UNLIKE * small.radius:
        raise errors.UserError(
            f"{large.name} shows an object {large.radius / small.radius:.0f} times as "
            f"large as that of {small.name} ({2 * large.radius:.3g} and "
            f"{2 * small.radius:.3g} mm); correct the voxel size in the header of the "
            "one that is wrong."
        )
    for foreground in (fixed, moving):
        thickness = _thickness(foreground)
        if thickness < voxel:
            raise errors.UserError(
                f"{foreground.name} shows an object only {thickness:.3g} mm thick, too "
                f"thin to be aligned to one of {2 * large.radius:.3g} mm; look at the "
                "voxel size in its header, or take a volume with more slices."
            )
    with ThreadPoolExecutor() as threads:  # scipy works beside itself
        both = threads.map(lambda image: _pyramid(image, voxel), (fixed, moving))
        cubes = dict(zip(SIZES, zip(*both, strict=True), strict=True))
    points = {
        size: (_points(fixed_cube, _SHARE[size]), _points(moving_cube, _SHARE[size]))
        for size, (fixed_cube, moving_cube) in cubes.items()
    }
    return Pair(fixed, moving, voxel, cubes, points)


def _pyramid(foreground: Foreground, voxel: float) -> list[Level]:
    """Cubes of all sizes."""
    size = SIZES[-1]
    inside, weight = foreground.inside.astype(np.float32), foreground.weight
    matrix = _cube_to_voxels(foreground, voxel, size)
    steps = np.linalg.norm(foreground.affine[:3, :3], axis=0)
    blur = np.sqrt(np.maximum(0, (_BLUR * voxel) ** 2 - (_BOX * steps) ** 2)) / steps
    cubes = [
        _resample(volume, blur, matrix, size, mode)
        for volume, mode in (
            (foreground.image, "constant"),
            (inside, "constant"),
            (weight, "edge"),
        )
    ]
    pyramid = []
    while True:
        image, share, weight = cubes
        pyramid.append(Level(image / np.maximum(share, 0.5), share, weight))
        if len(image) == SIZES[0]:
            return pyramid[::-1]
        cubes = [_halve(cube) for cube in cubes]


def _points(level: Level, share: float) -> np.ndarray:
    """Voxels in or around the foreground, at most a share of the cube; -1 is none.

    Of a fine cube these are the voxels of a body-centred lattice: sums over the
    Gaussian surroundings of a voxel are the same with a quarter of the voxels. Of more
    than the share, as of a head that fills its cube, every so many are left out.
    """
    near = ndimage.maximum_filter(level.inside > 0.01, size=2 * sampling.REACH + 1)
    near &= level.weight > 0
    if len(near) >= _SPARSE:
        odd = [index % 2 for index in np.ogrid[tuple(map(slice, near.shape))]]
        near &= (odd[0] == odd[1]) & (odd[1] == odd[2])
    points = np.flatnonzero(near).astype(np.int32)
    count = int(share * near.size)
    if len(points) > count:
        return points[np.linspace(0, len(points) - 1, count).astype(int)]
    return np.pad(points, (0, count - len(points)), constant_values=-1)


def _cube_to_voxels(foreground: Foreground, voxel: float, size: int) -> np.ndarray:
    """4×4: indices of the cube → indices of the foreground's voxels."""
    cube = np.diag([voxel, voxel, voxel, 1.0])
    cube[:3, 3] = foreground.centre - voxel * (size - 1) / 2
    return np.round(np.linalg.inv(foreground.affine) @ cube, 8)


def _resample(volume, blur, matrix, size, mode) -> np.ndarray:
    """A volume on a cube, smoothed; beyond its faces 0 ("constant") or as at them."""
    if mode == "edge" and (volume == 1).all():
        return np.ones((size,) * 3, np.float32)
    # The border of the box must not be taken for the foreground's own continuation.
    reach = np.ceil(4 * blur).astype(int) + 1
    volume = np.pad(volume, [(r, r) for r in reach], mode=mode)
    smooth = ndimage.gaussian_filter(volume, blur, mode="nearest")
    linear, offset = matrix[:3, :3], matrix[:3, 3] + reach
    # The outermost voxels are 0, or what goes on beyond them.
    if np.array_equal(linear, np.diag(np.diag(linear))):
        return _interpolate_axes(smooth, np.diag(linear), offset, size)
    return ndimage.affine_transform(
        smooth, linear, offset, output_shape=(size,) * 3, order=1, mode="nearest"
    )


def _interpolate_axes(volume, scale, offset, size) -> np.ndarray:
    """Linear interpolation at scale · index + offset, an axis after the other.

    Of axes that are not turned this is the same as in three dimensions at once, and
    five times as fast.
    """
    for axis, length in enumerate(volume.shape):
        at = np.clip(scale[axis] * np.arange(size) + offset[axis], 0, length - 1)
        shares = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(length)))
        volume = np.moveaxis(
            np.tensordot(shares.astype(np.float32), volume, (1, axis)), 0, axis
        )
    return np.ascontiguousarray(volume)


def _halve(volume: np.ndarray) -> np.ndarray:
    for axis in range(3):
        even, odd = (
            volume[(slice(None),) * axis + (slice(first, None, 2),)] for first in (0, 1)
        )
        volume = (even + odd) / 2
    return volume


def _thickness(foreground: Foreground) -> float:
    """How far the foreground goes along the file's axis where it is thinnest, in mm."""
    steps = np.linalg.norm(foreground.affine[:3, :3], axis=0)
    (box,) = ndimage.find_objects(foreground.inside.astype(np.uint8))
    return float(min(s * (b.stop - b.start) for s, b in zip(steps, box, strict=True)))
