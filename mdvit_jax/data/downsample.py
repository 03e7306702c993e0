"""Resampling onto an isotropic grid along the axes of the world, with averaging.

The grid has size³ voxels, each of which is a cube of k³ fine voxels. Volumes are
interpolated linearly at the fine voxels (zeros around them) and averaged over the
cubes; labels are looked up at the nearest voxel, and the most frequent one wins.

What comes out depends on where the voxels lie in the world, not on the order in which
a file has them.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage, sparse

from mdvit_jax.io import voxels
from mdvit_jax.io.image import Image, from_array

# A rotation that moves no voxel further than this (in source voxels) is ignored.
_ALIGNED = 0.01


def grid(
    shape: tuple[int, ...], affine: np.ndarray, *, size: int, field_of_view: float
) -> tuple[np.ndarray, int]:
    """The grid for a scan: `to_world` (4×4, mm), and k, the least for fine ones ≤ 1 mm.

    It is centred on the scan's field of view, or half a fine voxel off where that makes
    the fine voxels coincide with those of the scan.

    Args:
        shape: [x, y, z] of the scan; affine: its voxel indices → world RAS+ mm.
        size: voxels along each axis of the grid.
        field_of_view: in mm, along each axis of the grid.
    """
    voxel = field_of_view / size
    fine = int(np.ceil(voxel - 1e-6))
    centre = affine[:3, :3] @ (np.array(shape) - 1) / 2 + affine[:3, 3]
    # World axes along which the scan has voxels of the fine size, but an odd number of
    # them against an even number of fine ones (or the reverse).
    same = np.isclose(np.abs(affine[:3, :3]), voxel / fine)
    odd = (same @ np.array(shape) + same.any(axis=1) * size * fine) % 2
    to_world = np.diag([voxel, voxel, voxel, 1.0])
    to_world[:3, 3] = centre + odd * voxel / fine / 2 - (size - 1) / 2 * voxel
    return to_world, fine


def average(volume: Image, to_world: np.ndarray, size: int, fine: int) -> np.ndarray:
    """Linear interpolation on the fine grid, averaged to the conformed one.

    Args:
        volume: with zeros around it.
        to_world: 4×4, voxel indices of the conformed grid → world RAS+ mm.
        size: n, voxels along each axis of that grid.
        fine: k, fine voxels along each axis of one of them.

    Returns:
        [n, n, n] float32.
    """
    volume = crop_to_content(volume)
    from_fine = np.linalg.inv(volume.affine) @ _fine_to_world(to_world, fine)
    aligned = _without_rotation(from_fine, size * fine)
    if aligned is not None:
        axes, steps, starts = aligned
        result = np.transpose(volume.data, axes)
        for step, start in zip(steps, starts, strict=True):
            weights = _weights(step, start, len(result), size, fine)
            lines = weights @ result.reshape(len(result), -1)
            # The contracted axis becomes the last, so that the next one is the first.
            result = np.moveaxis(lines.reshape(size, *result.shape[1:]), 0, -1)
        return np.ascontiguousarray(result)
    result = np.zeros((size, size, size), np.float32)
    for slab, values in _slabs(volume, from_fine, size, fine, order=1):
        shape = [n for length in values.shape for n in (length // fine, fine)]
        result[slab] = values.reshape(shape).mean(axis=(1, 3, 5))
    return result


def vote(labels: Image, to_world: np.ndarray, size: int, fine: int) -> np.ndarray:
    """The most frequent of the nearest labels at the fine voxels, [n, n, n] int32.

    Args:
        labels: whole numbers; 0 around them.
        to_world, size, fine: as in `average`.
    """
    result = np.zeros((size, size, size), np.int32)
    if not labels.data.any():
        return result
    labels = crop_to_content(labels)
    from_world = np.linalg.inv(labels.affine)
    # Half-way between two voxels the nearest is the one further right, front and up,
    # in whichever order the file has them.
    nudge = np.eye(4)
    nudge[:3, 3] = 1e-4
    from_fine = from_world @ nudge @ _fine_to_world(to_world, fine)
    for slab, values in _slabs(labels, from_fine, size, fine, order=0):
        shape = [n for length in values.shape for n in (length // fine, fine)]
        cubes = values.reshape(shape).transpose(0, 2, 4, 1, 3, 5)
        result[slab] = most_frequent(cubes.reshape(*cubes.shape[:3], fine**3))
    return result


def most_frequent(values: np.ndarray) -> np.ndarray:
    """The most frequent value along the last axis, [*any, n] → [*any].

    Of several it is the lowest.
    """
    result = values[..., 0].copy()
    mixed = (values != values[..., :1]).any(axis=-1)
    rows = np.sort(values[mixed], axis=-1)
    # counts[i]: how far the run of equal values goes that ends at i.
    count = np.ones(rows.shape, np.int32)
    for i in range(1, rows.shape[-1]):
        count[:, i] += np.where(rows[:, i] == rows[:, i - 1], count[:, i - 1], 0)
    winner = count.argmax(axis=-1)  # the first of the longest runs: the lowest value
    result[mixed] = np.take_along_axis(rows, winner[:, None], axis=-1)[:, 0]
    return result


def _fine_to_world(to_world: np.ndarray, fine: int) -> np.ndarray:
    split = np.diag([1 / fine, 1 / fine, 1 / fine, 1.0])
    split[:3, 3] = (1 - fine) / 2 / fine
    return to_world @ split


def crop_to_content(volume: Image) -> Image:
    """The smallest box that holds every voxel that is not 0; there are such voxels."""
    box = voxels.bounding_box(volume.data != 0)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return from_array(volume.data[box], affine)


def _without_rotation(matrix: np.ndarray, length: int):
    """The axes, steps and starts of a matrix that only permutes and scales; or None.

    Axis `axes[i]` of the source runs along axis i of the grid; its voxel there is
    steps[i] · index + starts[i], to within `_ALIGNED` over `length`.
    """
    linear = matrix[:3, :3]
    axes = np.abs(linear).argmax(axis=0)
    steps = linear[axes, range(3)]
    rest = linear.copy()
    rest[axes, range(3)] = 0
    if sorted(axes) != [0, 1, 2] or np.abs(rest).sum(axis=1).max() * length > _ALIGNED:
        return None
    # What is left of the rotation is taken at the middle of the grid.
    starts = (matrix[:3, 3] + rest @ np.full(3, (length - 1) / 2))[axes]
    return axes, steps, starts


def _weights(step: float, start: float, length: int, size: int, fine: int):
    """Interpolation at the fine voxels of one axis and their mean: [size, length]."""
    at = np.round(step * np.arange(size * fine) + start, 4)  # headers are float32
    low = np.floor(at).astype(int)
    rows = np.tile(np.arange(size * fine) // fine, 2)
    columns = np.concatenate([low, low + 1])
    values = np.concatenate([1 - (at - low), at - low]) / fine
    kept = (columns >= 0) & (columns < length) & (values > 0)
    entries = (values[kept].astype(np.float32), (rows[kept], columns[kept]))
    return sparse.csr_array(entries, shape=(size, length))


def _slabs(
    volume: Image, from_fine, size: int, fine: int, *, order: int
) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Yield (part of the conformed grid, the volume at its fine voxels).

    Parts that cannot meet the volume are left out; slab by slab it takes little memory.
    """
    # From voxel -1 to voxel n: linear interpolation fades out over one voxel.
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(volume.data.shape) + 1) - 1
    to_fine = np.linalg.inv(from_fine)
    reach = corners @ to_fine[:3, :3].T + to_fine[:3, 3]
    first = np.clip(np.floor(reach.min(axis=0) / fine).astype(int), 0, size)
    last = np.clip(np.floor(reach.max(axis=0) / fine).astype(int) + 1, 0, size)
    if (last <= first).any():
        return
    shape = (fine, *((last - first)[1:] * fine))
    for x in range(first[0], last[0]):
        origin = fine * np.array([x, first[1], first[2]])
        values = ndimage.affine_transform(
            volume.data,
            from_fine[:3, :3],
            from_fine[:3, :3] @ origin + from_fine[:3, 3],
            output_shape=shape,
            order=order,
            mode="grid-constant",
        )
        yield (slice(x, x + 1), *map(slice, first[1:], last[1:])), values


def nearest(source: Image, target: Image) -> np.ndarray:
    """The source's values at the target's voxels [x, y, z], 0 outside of it."""
    if source.data.shape == target.data.shape and np.allclose(
        source.affine, target.affine, atol=1e-3
    ):
        return source.data
    matrix = np.linalg.inv(source.affine) @ target.affine
    return ndimage.affine_transform(
        source.data,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=target.data.shape,
        order=0,
        mode="grid-constant",
    )
