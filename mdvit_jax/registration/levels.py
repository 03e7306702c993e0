"""An image → the cubes of 12³, 24³, 48³ and 96³ voxels on which it is aligned.

A cube lies along the axes of the world, around the object's centre, whatever the order
in which the file has its voxels; two images that are aligned get cubes of one spacing.
So every pair is aligned by the same compiled programs.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.registration import gauss_newton, sampling

SIZES = (12, 24, 48, 96)
_SHARE = {12: 1.0, 24: 0.8, 48: 0.45, 96: 0.32}  # of a cube's voxels that take part
_SPECK = 0.05  # of the largest part; a smaller one does not belong to the object
_MARGIN = 3  # voxels of the finest cube left free around the object
_BLUR = 0.42  # deviation, in voxels of the cube, of what averages over such a voxel
_UNLIKE = 20  # times as large as the other; a cropped head, or a mouse's, is not
_BOX = 0.29  # deviation of a voxel of the file, in its own size


class Object(NamedTuple):
    """What is to be aligned in an image, cut out of it.

    Attributes:
        image: [x, y, z] float32, 0 to 1 within the object, but for its outermost
            thousandths.
        inside: [x, y, z] bool, where the object is.
        weight: [x, y, z] float32, how much a voxel counts.
        affine: 4×4, voxel indices → world RAS+ mm.
        centre: [3], the mean of the object's voxels, world RAS+ mm.
        radius: how far the object reaches from there, in mm.
        bare: whether the background is empty (one value), as after skull-stripping.
        name: of the image, in messages.
    """

    image: np.ndarray
    inside: np.ndarray
    weight: np.ndarray
    affine: np.ndarray
    centre: np.ndarray
    radius: float
    bare: bool
    name: str


def find(
    data: np.ndarray, affine: np.ndarray, *, mask: np.ndarray | None = None, name: str
) -> Object:
    """Tell the object from the background.

    Where a quarter of the voxels or more have one and the same value, they are the
    background: an image without its skull. Otherwise the object is what is brighter
    than Otsu's threshold half-way down, its largest part, with its holes filled.

    Args:
        data: [x, y, z], finite.
        affine: 4×4, voxel indices → world RAS+ mm.
        mask: [x, y, z] bool, where the image counts; None is everywhere.
        name: of the image, in messages.

    Raises:
        UserError: there is no object of more than a few voxels, or it is flat.
    """
    # The same numbers in the same order, in whichever order a file has them.
    order = nib.orientations.io_orientation(affine)
    affine = affine @ nib.orientations.inv_ornt_aff(order, data.shape)
    data = np.ascontiguousarray(nib.orientations.apply_orientation(data, order))
    if mask is not None:
        mask = nib.orientations.apply_orientation(mask, order)
    background = _background(data)
    bare = background is not None
    inside = data != background if bare else _brighter(data)
    inside = _without_specks(inside)
    if not bare:
        inside = ndimage.binary_fill_holes(inside)
    if np.count_nonzero(inside) < 64:
        raise errors.UserError(
            f"{name} shows no object in front of its background; look at the image."
        )
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    inside, image = inside[box], data[box].astype(np.float32)
    if min(inside.shape) < 4:
        words = "×".join(map(str, inside.shape))
        raise errors.UserError(
            f"{name} shows an object of only {words} voxels, too thin to be aligned in "
            "three dimensions; take a volume with more slices."
        )
    low, high = np.percentile(image[inside], (0.5, 99.5))
    if not high > low:
        raise errors.UserError(
            f"{name} has one value throughout its object, so there is nothing to align "
            "in it; take an image rather than a mask."
        )
    image = np.clip((image - low) / (high - low), -0.05, 1.05) * inside
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    points = np.argwhere(inside)
    centre = affine[:3, :3] @ points.mean(0) + affine[:3, 3]
    radius = _radius(inside, affine, centre)
    weight = np.ones_like(image) if mask is None else mask[box].astype(np.float32)
    return Object(image, inside, weight, affine, centre, radius, bare, name)


class Pair(NamedTuple):
    """Two objects on cubes of one spacing.

    Attributes:
        fixed, moving: the objects.
        voxel: spacing of the finest cubes in mm; that of others is larger as they are
            smaller.
        cubes: size → the fixed and the moving object.
        points: size → indices of the fixed cube's voxels that take part, and -1.
    """

    fixed: Object
    moving: Object
    voxel: float
    cubes: dict[int, tuple[gauss_newton.Level, gauss_newton.Level]]
    points: dict[int, np.ndarray]

    def centres_together(self) -> np.ndarray:
        """4×4 in world mm that shifts the fixed object's centre to the moving one's."""
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


def pair(fixed: Object, moving: Object) -> Pair:
    """Bring two objects onto cubes that hold them however they are turned.

    Raises:
        UserError: they are of two orders of size, or one is thinner than a voxel of the
            finest cube, as where a header says another unit than millimetres.
    """
    small, large = sorted((fixed, moving), key=lambda thing: thing.radius)
    voxel = 2 * large.radius / (SIZES[-1] - 2 * _MARGIN)
    if large.radius > _UNLIKE * small.radius:
        raise errors.UserError(
            f"{large.name} shows an object {large.radius / small.radius:.0f} times as "
            f"large as that of {small.name} ({2 * large.radius:.3g} and "
            f"{2 * small.radius:.3g} mm); correct the voxel size in the header of the "
            "one that is wrong."
        )
    for thing in (fixed, moving):
        thickness = _thickness(thing)
        if thickness < voxel:
            raise errors.UserError(
                f"{thing.name} shows an object only {thickness:.3g} mm thick, too thin "
                f"to be aligned to one of {2 * large.radius:.3g} mm; look at the voxel "
                "size in its header, or take a volume with more slices."
            )
    with ThreadPoolExecutor() as threads:  # scipy works beside itself
        both = threads.map(lambda thing: _pyramid(thing, voxel), (fixed, moving))
        cubes = dict(zip(SIZES, zip(*both, strict=True), strict=True))
    points = {size: _points(cubes[size][0], _SHARE[size]) for size in SIZES}
    return Pair(fixed, moving, voxel, cubes, points)


def _pyramid(thing: Object, voxel: float) -> list[gauss_newton.Level]:
    """Cubes of all sizes."""
    size = SIZES[-1]
    inside, weight = thing.inside.astype(np.float32), thing.weight
    matrix = _from_cube(thing, voxel, size)
    steps = np.linalg.norm(thing.affine[:3, :3], axis=0)
    blur = np.sqrt(np.maximum(0, (_BLUR * voxel) ** 2 - (_BOX * steps) ** 2)) / steps
    volumes = [thing.image, inside]
    if (weight != 1).any():
        volumes.append(weight)
    cubes = [_resampled(volume, blur, matrix, size) for volume in volumes]
    found = []
    while True:
        image, share = cubes[:2]
        weight = cubes[2] if len(cubes) > 2 else np.ones_like(image)
        found.append(gauss_newton.Level(image / np.maximum(share, 0.5), share, weight))
        if len(image) == SIZES[0]:
            return found[::-1]
        cubes = [_halved(cube) for cube in cubes]


def _points(level: gauss_newton.Level, share: float) -> np.ndarray:
    """Of the voxels in or around the object, at most a share of the cube, -1 for none.

    Of more than these, as of a head that fills its cube, every so many are left out.
    """
    near = ndimage.maximum_filter(level.inside > 0.01, size=2 * sampling.REACH + 1)
    found = np.flatnonzero(near & (level.weight > 0)).astype(np.int32)
    count = int(share * near.size)
    if len(found) > count:
        return found[np.linspace(0, len(found) - 1, count).astype(int)]
    return np.pad(found, (0, count - len(found)), constant_values=-1)


def _from_cube(thing: Object, voxel: float, size: int) -> np.ndarray:
    """4×4: indices of the cube → indices of the object's voxels."""
    cube = np.diag([voxel, voxel, voxel, 1.0])
    cube[:3, 3] = thing.centre - voxel * (size - 1) / 2
    return np.round(np.linalg.inv(thing.affine) @ cube, 8)


def _resampled(volume, blur, matrix, size) -> np.ndarray:
    # The border of the box must not be taken for the object's own continuation.
    reach = np.ceil(4 * blur).astype(int) + 1
    volume = np.pad(volume, [(r, r) for r in reach])
    smooth = ndimage.gaussian_filter(volume, blur, mode="constant")
    return ndimage.affine_transform(
        smooth,
        matrix[:3, :3],
        matrix[:3, 3] + reach,
        output_shape=(size,) * 3,
        order=1,
        mode="grid-constant",
    )


def _halved(volume: np.ndarray) -> np.ndarray:
    n = len(volume) // 2
    return volume.reshape(n, 2, n, 2, n, 2).mean(axis=(1, 3, 5))


def _thickness(thing: Object) -> float:
    """Of the object's box, along the axis of the file where it is thinnest, in mm."""
    steps = np.linalg.norm(thing.affine[:3, :3], axis=0)
    return float((steps * thing.inside.shape).min())


def _radius(inside: np.ndarray, affine: np.ndarray, centre: np.ndarray) -> float:
    # The farthest voxel is the first or the last of its line.
    first, last = inside.argmax(2), inside.shape[2] - 1 - inside[:, :, ::-1].argmax(2)
    x, y = np.nonzero(inside.any(2))
    ends = [np.stack([x, y, z[x, y]]) for z in (first, last)]
    points = affine[:3, :3] @ np.concatenate(ends, 1) + affine[:3, 3:]
    return float(np.linalg.norm(points - centre[:, None], axis=0).max())


def _background(data: np.ndarray):
    """The value that a quarter of all voxels share, if there is one."""
    faces = [np.take(data, (0, -1), axis).reshape(-1) for axis in range(3)]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    value = values[np.argmax(counts)]
    # A brain may fill its box so far that all of its border is another value.
    return value if np.count_nonzero(data == value) >= data.size / 4 else None


def _brighter(data: np.ndarray) -> np.ndarray:
    smooth = ndimage.gaussian_filter(data.astype(np.float32), 1)
    low, high = np.percentile(smooth, (1, 99))
    counts, edges = np.histogram(np.clip(smooth, low, high), 256)
    middle = (edges[1:] + edges[:-1]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * middle) / np.maximum(below, 1)
    mean_above = np.cumsum((counts * middle)[::-1])[::-1] / np.maximum(above, 1)
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    threshold = middle[np.argmax(between)]
    dark = smooth[smooth <= threshold]
    return smooth > (np.median(dark) + threshold) / 2


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask, and those of a twentieth of its size or more."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(parts.reshape(-1))
    sizes[0] = 0
    return (sizes >= _SPECK * sizes.max())[parts]
