"""An image → its foreground: the head or brain that is to be aligned."""

from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage

from mdvit_jax import errors

_SPECK = 0.05  # of the largest component; a smaller one is not foreground


class Foreground(NamedTuple):
    """What is to be aligned in an image, cut out of it.

    Attributes:
        image: [x, y, z] float32, 0 to 1 within the foreground, but for its outermost
            thousandths.
        inside: [x, y, z] bool, where the foreground is.
        weight: [x, y, z] float32, how much a voxel counts.
        affine: 4×4, voxel indices → world RAS+ mm.
        centre: [3], the mean of the foreground's voxels, world RAS+ mm.
        radius: how far the foreground reaches from there, in mm.
        empty_background: whether the background has one value, as in a stripped brain.
        name: of the image, in messages.
    """

    image: np.ndarray
    inside: np.ndarray
    weight: np.ndarray
    affine: np.ndarray
    centre: np.ndarray
    radius: float
    empty_background: bool
    name: str


def segment_foreground(
    data: np.ndarray, affine: np.ndarray, *, mask: np.ndarray | None = None, name: str
) -> Foreground:
    """Segment what is to be aligned.

    Where a quarter of the voxels or more have one and the same value, they are the
    background: an image without its skull. Otherwise the foreground is what is brighter
    than Otsu's threshold half-way down, its largest part, with its holes filled.

    Args:
        data: [x, y, z], finite.
        affine: 4×4, voxel indices → world RAS+ mm.
        mask: [x, y, z] bool, where the image counts; None is everywhere.
        name: of the image, in messages.

    Raises:
        UserError: there is no foreground of more than a few voxels, or it is flat.
    """
    # The same numbers in the same order, in whichever order a file has them.
    order = nib.orientations.io_orientation(affine)
    affine = affine @ nib.orientations.inv_ornt_aff(order, data.shape)
    data = np.ascontiguousarray(nib.orientations.apply_orientation(data, order))
    if mask is not None:
        mask = nib.orientations.apply_orientation(mask, order)
    background = _common_value(data)
    empty_background = background is not None
    inside = data != background if empty_background else _threshold_foreground(data)
    inside = _remove_specks(inside)
    if not empty_background:
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
    return Foreground(
        image, inside, weight, affine, centre, radius, empty_background, name
    )


def _radius(inside: np.ndarray, affine: np.ndarray, centre: np.ndarray) -> float:
    # The farthest voxel is the first or the last of its line.
    first, last = inside.argmax(2), inside.shape[2] - 1 - inside[:, :, ::-1].argmax(2)
    x, y = np.nonzero(inside.any(2))
    ends = [np.stack([x, y, z[x, y]]) for z in (first, last)]
    points = affine[:3, :3] @ np.concatenate(ends, 1) + affine[:3, 3:]
    return float(np.linalg.norm(points - centre[:, None], axis=0).max())


def _common_value(data: np.ndarray):
    """The value that a quarter of all voxels share, if there is one."""
    faces = [np.take(data, (0, -1), axis).reshape(-1) for axis in range(3)]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    value = values[np.argmax(counts)]
    # A brain may fill its box so far that all of its border is another value.
    return value if np.count_nonzero(data == value) >= data.size / 4 else None


def _threshold_foreground(data: np.ndarray) -> np.ndarray:
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


def _remove_specks(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask, and those of a twentieth of its size or more."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(parts.reshape(-1))
    sizes[0] = 0
    return (sizes >= _SPECK * sizes.max())[parts]
