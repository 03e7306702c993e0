"""An image → the cubes of 12³, 24³, 48³ and 96³ voxels on which it is aligned.

A cube has the axes of the world and the foreground's centre, whatever the order of the
voxels in the file; the two images of a pair get cubes of one spacing. So every pair is
aligned by the same compiled programs.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy import ndimage, sparse

from mdvit_jax import errors
from mdvit_jax.data import morphology
from mdvit_jax.io import voxels
from mdvit_jax.registration import sampling
from mdvit_jax.registration.foreground import Foreground
from mdvit_jax.registration.normalisation import Level

SIZES = (12, 24, 48, 96)
_SHARE = {12: 1.0, 24: 0.8, 48: 0.45, 96: 0.085}  # largest share of voxels taking part
_MARGIN = 3  # voxels of the finest cube left free around the foreground
_BLUR = 0.42  # voxels of the cube; standard deviation that averages over one of them
_UNLIKE = 20  # ratio of sizes that no cropped head and no mouse's head reaches
_BOX = 0.29  # standard deviation of a box of one voxel, 1 / √12


class Pair(NamedTuple):
    """Two foregrounds on cubes of one spacing.

    Attributes:
        fixed, moving: the foregrounds.
        voxel: spacing of the finest cubes in mm; a cube of half the size has twice
            that spacing.
        cubes: size → the fixed and the moving foreground.
        points: size → flat indices of the voxels of both cubes that take part, padded
            with -1.
    """

    fixed: Foreground
    moving: Foreground
    voxel: float
    cubes: dict[int, tuple[Level, Level]]
    points: dict[int, tuple[np.ndarray, np.ndarray]]

    @property
    def estimated(self) -> bool:
        """Whether an outline is a network's estimate."""
        return self.fixed.estimated or self.moving.estimated

    def swap(self) -> "Pair":
        """The same pair, fixed as moving and moving as fixed."""
        return self._replace(
            fixed=self.moving,
            moving=self.fixed,
            cubes={size: both[::-1] for size, both in self.cubes.items()},
            points={size: both[::-1] for size, both in self.points.items()},
        )

    def to_voxels(self, fixed_to_moving: np.ndarray, size: int) -> np.ndarray:
        """4×4 in world mm → [3, 4] between cubes, in voxels from their centres."""
        linear = fixed_to_moving[:3, :3]
        offset = linear @ self.fixed.centre + fixed_to_moving[:3, 3]
        step = self.voxel * SIZES[-1] / size
        offset = (offset - self.moving.centre) / step
        return np.concatenate([linear, offset[:, None]], axis=1)

    def to_world(self, matrix: np.ndarray, size: int) -> np.ndarray:
        """The inverse of `to_voxels`: [3, 4] in voxels → 4×4 in world mm."""
        step = self.voxel * SIZES[-1] / size
        result = np.eye(4)
        result[:3, :3] = matrix[:, :3]
        centre = self.moving.centre + step * matrix[:, 3]
        result[:3, 3] = centre - result[:3, :3] @ self.fixed.centre
        return result


def centres_together(fixed: Foreground, moving: Foreground) -> np.ndarray:
    """4×4 in world mm that shifts the fixed centre to the moving one."""
    shift = np.eye(4)
    shift[:3, 3] = moving.centre - fixed.centre
    return shift


def check_sizes(fixed: Foreground, moving: Foreground) -> None:
    """Refuse foregrounds that no cube shows both of.

    Raises:
        UserError: one is many times as large as the other, or thinner than a voxel of
            the finest cube, as where a header says another unit than millimetres.
    """
    small, large = sorted((fixed, moving), key=lambda image: image.radius)
    if large.radius > _UNLIKE * small.radius:
        raise errors.UserError(
            f"{large.name} shows an object {large.radius / small.radius:.0f} times as "
            f"large as that of {small.name} ({2 * large.radius:.3g} and "
            f"{2 * small.radius:.3g} mm); correct the voxel size in the header of the "
            "one that is wrong."
        )
    for foreground in (fixed, moving):
        thickness = _thickness(foreground)
        if thickness < _finest_voxel(fixed, moving):
            raise errors.UserError(
                f"{foreground.name} shows an object only {thickness:.3g} mm thick, too "
                f"thin to be aligned to one of {2 * large.radius:.3g} mm; look at the "
                "voxel size in its header, or take a volume with more slices."
            )


def _finest_voxel(fixed: Foreground, moving: Foreground) -> float:
    """Spacing in mm of the finest cubes, which hold the larger foreground."""
    return 2 * max(fixed.radius, moving.radius) / (SIZES[-1] - 2 * _MARGIN)


def build_pair(fixed: Foreground, moving: Foreground) -> Pair:
    """Resample two foregrounds to cubes that hold them in any orientation.

    Args:
        fixed, moving: the foregrounds; a cube reaches as far as the larger radius.

    Raises:
        UserError: as `check_sizes`.
    """
    check_sizes(fixed, moving)
    voxel = _finest_voxel(fixed, moving)
    with ThreadPoolExecutor() as threads:  # scipy releases the interpreter's lock
        both = threads.map(lambda image: _pyramid(image, voxel), (fixed, moving))
        cubes = dict(zip(SIZES, zip(*both, strict=True), strict=True))
    points = {
        size: (choose_points(fixed_cube), choose_points(moving_cube))
        for size, (fixed_cube, moving_cube) in cubes.items()
    }
    return Pair(fixed, moving, voxel, cubes, points)


def resample_volume(
    volume: np.ndarray, foreground: Foreground, voxel: float, size: int, mode: str
) -> np.ndarray:
    """A volume of a foreground on a cube around the foreground's centre.

    Args:
        volume: [x, y, z], such as `foreground.image`.
        foreground: says where the volume's voxels lie.
        voxel: spacing of the cube in mm.
        size: voxels along each axis of the cube.
        mode: outside of the volume there is 0 ("constant") or its border ("edge").
    """
    matrix = _cube_to_voxels(foreground, voxel, size)
    steps = np.linalg.norm(foreground.affine[:3, :3], axis=0)
    blur = np.sqrt(np.maximum(0, (_BLUR * voxel) ** 2 - (_BOX * steps) ** 2)) / steps
    return _resample(volume, blur, matrix, size, mode)


def box_middle(foreground: Foreground) -> np.ndarray:
    """The middle of a foreground's box, [3] in world mm."""
    middle = (np.array(foreground.image.shape) - 1) / 2
    return foreground.affine[:3, :3] @ middle + foreground.affine[:3, 3]


def network_volume(
    foreground: Foreground, centre: np.ndarray, voxel: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """A foreground as networks see it.

    Args:
        foreground: the head or brain.
        centre: [3], middle of the volume, world mm.
        voxel: of the volume, mm along each axis.
        size: voxels along each axis.

    Returns:
        The volume [x, y, z] in [0, 1], and its 4×4 from voxel indices to world RAS+ mm.
    """
    volume = resample_volume(
        foreground.image, foreground._replace(centre=centre), voxel, size, "constant"
    )
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = centre - voxel * (size - 1) / 2
    return np.clip(volume, 0, 1).astype(np.float32), affine


def _pyramid(foreground: Foreground, voxel: float) -> list[Level]:
    """Cubes of all sizes, coarse first."""
    cubes = [
        resample_volume(volume, foreground, voxel, SIZES[-1], mode)
        for volume, mode in (
            (foreground.image, "constant"),
            (foreground.inside.astype(np.float32), "constant"),
            (foreground.weight, "edge"),
        )
    ]
    pyramid = []
    while True:
        image, share, weight = cubes
        pyramid.append(Level(image / np.maximum(share, 0.5), share, weight))
        if len(image) == SIZES[0]:
            return pyramid[::-1]
        cubes = [_halve(cube) for cube in cubes]


def choose_points(level: Level) -> np.ndarray:
    """Flat indices [k] of the voxels in and around the foreground.

    They are padded with -1 to a share of the cube.

    Of the finest cube these are the voxels of a body-centred lattice, dense enough for
    sums over a Gaussian neighbourhood. A foreground of more voxels, such as a head that
    fills its cube, is thinned evenly.
    """
    near = morphology.dilate(level.inside > 0.01, (sampling.REACH,) * 3)
    near &= level.weight > 0
    if len(near) == sampling.SPARSE:
        odd = [index % 2 for index in np.ogrid[tuple(map(slice, near.shape))]]
        near &= (odd[0] == odd[1]) & (odd[1] == odd[2])
    points = np.flatnonzero(near).astype(np.int32)
    count = _count_points(len(near))
    if len(points) > count:
        return points[np.linspace(0, len(points) - 1, count).astype(int)]
    return np.pad(points, (0, count - len(points)), constant_values=-1)


def _count_points(size: int) -> int:
    return int(_SHARE[size] * size**3)


def empty_cube(size: int) -> tuple[Level, np.ndarray]:
    """A cube without an image and its points, of the shapes and types that pairs have.

    For programs that are compiled before there is a pair.
    """
    cube = np.zeros((size,) * 3, np.float32)
    return Level(cube, cube, cube), np.zeros(_count_points(size), np.int32)


def _cube_to_voxels(foreground: Foreground, voxel: float, size: int) -> np.ndarray:
    """4×4, voxel indices of the cube → voxel indices of the foreground's image."""
    cube = np.diag([voxel, voxel, voxel, 1.0])
    cube[:3, 3] = foreground.centre - voxel * (size - 1) / 2
    return np.round(np.linalg.inv(foreground.affine) @ cube, 8)


def _resample(volume, blur, matrix, size, mode) -> np.ndarray:
    """A smoothed volume on a cube; beyond its faces 0 ("constant") or repeated."""
    if mode == "edge" and (volume == 1).all():
        return np.ones((size,) * 3, np.float32)
    # Smoothing must not repeat the foreground beyond the border of its box.
    reach = np.ceil(4 * blur).astype(int)
    volume = np.pad(volume, [(2 * r + 1,) * 2 for r in reach], mode=mode)
    linear, offset = matrix[:3, :3], matrix[:3, 3] + 2 * reach + 1
    if np.array_equal(linear, np.diag(np.diag(linear))):
        return _resample_axes(volume, blur, np.diag(linear), offset, size)
    volume = ndimage.gaussian_filter(volume, blur, mode="nearest")
    return ndimage.affine_transform(
        volume,
        linear,
        offset,
        output_shape=(size,) * 3,
        order=1,
        mode="constant" if mode == "constant" else "nearest",
    )


def _resample_axes(volume, blur, scale, offset, size) -> np.ndarray:
    """A smoothed volume at scale · index + offset, one axis after the other.

    Without rotation a smoothing and a trilinear interpolation are one product with a
    sparse matrix along each axis, which is several times as fast.
    """
    for axis, length in enumerate(volume.shape):
        reach = np.ceil(4 * blur[axis])
        at = scale[axis] * np.arange(size) + offset[axis]
        at = np.clip(at, reach, length - 1 - reach)
        shares = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(length)))
        shares = ndimage.gaussian_filter(shares, (0, blur[axis]), mode="constant")
        lines = np.moveaxis(volume, axis, 0)
        shares = sparse.csr_array(shares.astype(np.float32))
        lines = (shares @ lines.reshape(length, -1)).reshape(size, *lines.shape[1:])
        volume = np.moveaxis(lines, 0, axis)
    return np.ascontiguousarray(volume)


def _halve(volume: np.ndarray) -> np.ndarray:
    for axis in range(3):
        even, odd = (
            volume[(slice(None),) * axis + (slice(first, None, 2),)] for first in (0, 1)
        )
        volume = (even + odd) / 2
    return volume


def _thickness(foreground: Foreground) -> float:
    """Extent of the foreground along the file's axis where it is thinnest, in mm."""
    steps = np.linalg.norm(foreground.affine[:3, :3], axis=0)
    box = voxels.bounding_box(foreground.inside)
    return float(min(s * (b.stop - b.start) for s, b in zip(steps, box, strict=True)))
