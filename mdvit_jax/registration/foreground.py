"""An image → its foreground: the head or brain that is to be aligned."""

from typing import Literal, NamedTuple

import nibabel as nib
import numpy as np

from mdvit_jax import errors
from mdvit_jax.data import morphology, segmentation
from mdvit_jax.io import voxels

# Voxels along an axis, and their size in mm, of which the finest cube shows no more.
_ENOUGH, _FINE = 192, 1.0
# Voxels that are fine enough for cubes of 48³: mm, and of a small animal's head the
# share of its radius.
_COARSE, _COARSE_SHARE = 3.0, 0.04
_MARGIN = 2  # voxels of the file kept around the foreground, where there are any
_SKULL = 5.0  # mm; bone is as dark as air, and what is twice as thin is closed
# Share of a mask's voxels inside the object. Above it the mask is taken to follow the
# object, as a mask of the brain does and a mask of all but a lesion does not.
_DRAWN = 0.7
_WIDE = 0.4  # of the largest plane; of a head the outermost 10 mm are smaller
_FEWEST = 64  # voxels
_THINNEST = 4  # voxels


class Foreground(NamedTuple):
    """The head or brain in an image, cropped with a margin.

    Attributes:
        image: [x, y, z] float32; percentiles 0.5 and 99.5 of the foreground are at 0
            and 1.
        inside: [x, y, z] bool, where the foreground is.
        weight: [x, y, z] float32 in [0, 1]: 0 outside the mask, in padding, and where
            the field of view cuts the foreground off. Resampling repeats the outermost
            voxels beyond the faces.
        affine: 4×4, voxel indices → world RAS+ mm.
        centre: [3], the mean of the foreground's voxels, world RAS+ mm.
        radius: distance of the farthest foreground voxel from the centre, mm.
        clean: whether the background is free of noise, as around a stripped brain.
        name: name of the image in messages.
        estimated: whether its outline is a network's estimate, exact to some mm.
    """

    image: np.ndarray
    inside: np.ndarray
    weight: np.ndarray
    affine: np.ndarray
    centre: np.ndarray
    radius: float
    clean: bool
    name: str
    estimated: bool = False

    @property
    def volume(self) -> float:
        """Cubic millimetres of the foreground."""
        voxel = abs(np.linalg.det(self.affine[:3, :3]))
        return float(voxel * np.count_nonzero(self.inside))


def segment_foreground(
    data: np.ndarray,
    affine: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    name: str,
    thin_out: bool = False,
) -> Foreground:
    """Segment the head or brain in an image; see `segmentation.segment`.

    Args:
        data: [x, y, z], finite.
        affine: 4×4, voxel indices → world RAS+ mm.
        mask: [x, y, z] bool, where the image counts; None: everywhere. Centre, radius
            and brightness are those of the foreground within the mask.
        name: name of the image in messages.
        thin_out: whether some voxels are left out, so that the others are about 3 mm
            apart, which is far faster and exact enough where nothing is refined.

    Raises:
        UserError: the image shows no object of more than a few voxels, or one without
            contrast.
    """
    # In RAS+ order, so that the order of the axes in the file changes nothing.
    order = nib.orientations.io_orientation(affine)
    affine = affine @ nib.orientations.inv_ornt_aff(order, data.shape)
    data = nib.orientations.apply_orientation(data, order)
    if mask is not None:
        mask = nib.orientations.apply_orientation(mask, order)
    reduce = _thin_out if thin_out else _average_blocks
    data, affine, mask = reduce(data, affine, mask)
    data = np.ascontiguousarray(data)
    inside, clean, padding = _segment(data, mask)
    if not clean:
        inside = close_over_skull(inside, affine)
    weight = np.ones(data.shape, np.float32)
    counted = inside
    if mask is not None:
        if _covers(inside, mask):
            inside = inside | mask
        weight *= mask
        counted = inside & mask
    if padding is not None:
        weight *= ~padding
    _end_at_faces(weight, inside)
    if clean:
        end_at_cuts(weight, inside)
    if np.count_nonzero(counted) < _FEWEST:
        raise errors.UserError(
            f"{name} shows no object in front of its background; look at the image."
        )
    return crop(data, inside, weight, affine, clean=clean, name=name, counted=counted)


def crop(
    data: np.ndarray,
    inside: np.ndarray,
    weight: np.ndarray,
    affine: np.ndarray,
    *,
    clean: bool,
    name: str,
    counted: np.ndarray | None = None,
) -> Foreground:
    """The foreground of an image, in a box about it.

    Args:
        data: [x, y, z].
        inside, weight, affine, clean, name: as those of `Foreground`, on the whole
            image.
        counted: [x, y, z] bool, the part of the foreground of which centre, radius and
            brightness are taken; None: all of it.

    Raises:
        UserError: the foreground is a few voxels thin, or without contrast.
    """
    counted = inside if counted is None else counted
    tight = voxels.bounding_box(counted)
    sides = [part.stop - part.start for part in tight]
    if min(sides) < _THINNEST:
        raise errors.UserError(
            f"{name} shows an object of only {'×'.join(map(str, sides))} voxels, too "
            "thin to be aligned in three dimensions; take a volume with more slices."
        )
    box = tuple(slice(max(s.start - _MARGIN, 0), s.stop + _MARGIN) for s in tight)
    inside, counted, weight = inside[box], counted[box], weight[box]
    image = data[box].astype(np.float32)
    low, high = np.percentile(image[counted], (0.5, 99.5)).astype(np.float32)
    if not high > low:
        raise errors.UserError(
            f"{name} has one value throughout its object, so there is nothing to align "
            "in it; take an image rather than a mask."
        )
    image = np.clip((image - low) / (high - low), -0.05, 1.05) * inside
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    centre = affine[:3, :3] @ morphology.centroid(counted) + affine[:3, 3]
    radius = _radius(counted, affine, centre)
    return Foreground(image, inside, weight, affine, centre, radius, clean, name)


def coarsen(foreground: Foreground) -> Foreground:
    """The foreground in larger voxels, means of whole cubes of its own.

    They have at most 3 mm, and at most a 25th of the foreground's radius.
    """
    factor = _voxels_in_one(foreground.affine, foreground.radius)
    padding = [(0, -n % f) for n, f in zip(foreground.image.shape, factor, strict=True)]

    def mean(volume: np.ndarray, mode: Literal["constant", "edge"]) -> np.ndarray:
        padded = np.pad(volume.astype(np.float32), padding, mode=mode)
        for axis, f in enumerate(factor):
            shape = padded.shape
            split = (*shape[:axis], shape[axis] // f, f, *shape[axis + 1 :])
            padded = padded.reshape(split).mean(axis + 1)
        return padded

    affine = foreground.affine @ np.diag([*factor, 1.0])
    affine[:3, 3] += foreground.affine[:3, :3] @ ((factor - 1) / 2)
    return foreground._replace(
        image=mean(foreground.image, "constant"),
        inside=mean(foreground.inside, "constant") >= 0.5,
        weight=mean(foreground.weight, "edge"),
        affine=affine,
    )


def _segment(data: np.ndarray, mask: np.ndarray | None) -> segmentation.Segmentation:
    result = segmentation.segment(data, mask)
    if mask is None or _covers(result.inside, mask):
        return result
    # Within a mask of the brain there is no background: dark tissue is no noise.
    whole = segmentation.segment(data)
    return whole if _covers(whole.inside, mask) else result


def _covers(inside: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a mask was drawn along the object, as a mask of the brain is."""
    covered, whole = np.count_nonzero(inside & mask), np.count_nonzero(mask)
    return bool(covered > _DRAWN * whole)


def _average_blocks(
    data: np.ndarray, affine: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Make one voxel of several where they are far finer than what is aligned.

    So an image of 482 million voxels takes no more memory than its file.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    reduction = np.minimum(np.array(data.shape) // _ENOUGH, np.rint(_FINE / sizes))
    reduction = np.maximum(reduction, 1).astype(int)
    if (reduction == 1).all():
        return data, affine, mask

    def average(volume: np.ndarray) -> np.ndarray:
        # Axis by axis and in place, which is fast and takes little memory.
        for axis in np.flatnonzero(reduction > 1)[::-1]:
            lines, count = np.moveaxis(volume, axis, 0), reduction[axis]
            end = len(lines) // count * count
            total = lines[:end:count].astype(np.float32)
            for first in range(1, count):
                total += lines[first:end:count]
            total /= count
            volume = np.moveaxis(total, 0, axis)
        return volume

    to_voxels = np.diag([*reduction, 1.0])
    to_voxels[:3, 3] = (reduction - 1) / 2
    if mask is not None:
        mask = average(mask) >= 0.5
    return average(data), affine @ to_voxels, mask


def _thin_out(
    data: np.ndarray, affine: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Keep every n-th voxel along each axis: means would change how noise looks."""
    sides = np.linalg.norm(affine[:3, :3], axis=0) * data.shape
    # The object is not segmented yet; half of the shortest side stands for its radius.
    step = _voxels_in_one(affine, sides.min() / 2)
    first = step // 2
    some = tuple(map(slice, first, data.shape, step))
    thinned = affine @ np.diag([*step, 1.0])
    thinned[:3, 3] += affine[:3, :3] @ first
    return data[some], thinned, None if mask is None else mask[some]


def _voxels_in_one(affine: np.ndarray, radius: float) -> np.ndarray:
    """How many voxels along each axis fit into one that is fine enough for 48³.

    Args:
        affine: 4×4, voxel indices → world RAS+ mm.
        radius: of the object, mm.
    """
    largest = min(_COARSE, _COARSE_SHARE * radius)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return np.maximum(np.floor(largest / sizes), 1).astype(int)


def close_over_skull(inside: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """A head [x, y, z] closed over its skull, with all that is then enclosed."""
    voxel_sizes = np.linalg.norm(affine[:3, :3], axis=0)
    reach = np.maximum(np.rint(_SKULL / voxel_sizes), 1).astype(int)
    return morphology.fill_holes(morphology.close(inside, reach))


def _end_at_faces(weight: np.ndarray, inside: np.ndarray) -> None:
    """Set the weight to 0, in place, where a face of the volume cuts the foreground."""
    for axis in range(3):
        for end in (0, -1):
            face = (slice(None),) * axis + (end,)
            weight[face] *= ~inside[face]


def end_at_cuts(weight: np.ndarray, inside: np.ndarray) -> None:
    """Set the weight to 0, in place, from where the foreground ends in a wide plane.

    So ends a slab, or a field of view within a volume filled up with background.
    """
    for axis, side in enumerate(voxels.bounding_box(inside)):
        areas = np.count_nonzero(inside, tuple({0, 1, 2} - {axis}))
        slices = np.moveaxis(weight, axis, 0)
        wide = areas > _WIDE * areas.max(initial=0)
        if wide[side][:1].any():
            slices[: side.start + 1] = 0
        if wide[side][-1:].any():
            slices[side.stop - 1 :] = 0


def _radius(inside: np.ndarray, affine: np.ndarray, centre: np.ndarray) -> float:
    points = affine[:3, :3] @ voxels.ends_of_lines(inside) + affine[:3, 3:]
    return float(np.linalg.norm(points - centre[:, None], axis=0).max())
