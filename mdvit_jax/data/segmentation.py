"""Which voxels of a scan show the head or the brain, by their statistics.

A stripped brain ends in a jump: next to the background's one value lies tissue. Where
interpolation, smoothing or noise lies next to it instead, the scan is cut at a part of
its own tissue's brightness. So nothing depends on zeros, on a type or on how much of
the volume is filled; padding, which has one value, too, ends at noise, not at tissue.
"""

from typing import NamedTuple

import numpy as np

from mdvit_jax.data import morphology
from mdvit_jax.io import voxels

_FEW = 0.01  # of the voxels; a background's one value is more frequent
# Of the border of a sharp brain: how often it is darker than what lies two voxels
# deeper (0.93 and more where it was interpolated), how many of its voxels are below a
# hundredth of the tissue's brightness, and how alike neighbours are (noise: 0).
_RAMP, _EMPTY, _RINGING, _SMOOTH = 0.93, 0.01, 0.15, 0.3
# Share of its box that no brain fills, not even a slab (π/4), and noise in a field of
# view does.
_FILLED = 0.8
_DARK = 0.05  # of the tissue's brightness; a noisy head is not cut below
_FAINT = 0.005  # of the tissue's brightness; darker noise is none
_CUT = 0.2  # of it: half of what a surface of fluid and cortex has, chosen on volumes
_NOISE = 4.6  # times the first quartile of Rician noise: a voxel in 500 is brighter
_NOISY = 0.5  # dark voxels for each bright one; within a brain they are fewer
_SPECK = 0.05  # of the largest component; a smaller one does not belong to the object
_MANY = 30_000  # values, whose ranks are those of all
_PADDING = 3  # voxels; noise has no such cube of one value


class Segmentation(NamedTuple):
    """Where the object is.

    Attributes:
        inside: [x, y, z] bool, the object.
        clean: whether its background has no noise, as that of a stripped brain.
        padding: [x, y, z] bool, where nothing was measured, around the field of view
            of a scan with noise; or None where no such voxels are known.
    """

    inside: np.ndarray
    clean: bool
    padding: np.ndarray | None


def segment(data: np.ndarray, mask: np.ndarray | None = None) -> Segmentation:
    """Segment the object of a scan.

    The object has another brightness than the background, which may be the brightest:
    it is taken to lie at the faces of the volume.

    Args:
        data: [x, y, z], finite.
        mask: [x, y, z] bool, where the values can be trusted; None is everywhere.
    """
    data = data.astype(np.float32, copy=False)
    contrast = np.abs(data - _background(data))
    step = 2 if min(data.shape) > 16 else 1  # for speed
    some = contrast[::step, ::step, ::step]
    known = np.ones(some.shape, bool) if mask is None else mask[::step, ::step, ::step]
    middle = otsu_threshold(some[known])
    bright = some[known & (some > middle)]
    tissue = float(np.median(bright)) if bright.size else 0.0
    inside = contrast > 0
    clean = sharp = _ends_in_a_jump(inside, contrast, tissue, mask)
    padding = None
    if not sharp:
        # Beside bright ones voxels may be blends: of large voxels they are many.
        beside = morphology.dilate(some > middle, (1, 1, 1))
        dark = some[known & ~beside & (some > 0)]
        # The darkest quarter, as skulls and fluid are dark, too.
        darkest = np.percentile(dark, 25) if dark.size else 0.0
        clean = dark.size < _NOISY * bright.size or darkest < _FAINT * tissue
        noise = 0.0 if clean else _NOISE * float(darkest)
        cut = max((_CUT if clean else _DARK) * tissue, noise)
        inside = contrast > max(min(cut, middle), 0)
        if not clean:
            # Noise that is brighter stands alone.
            inside = morphology.remove_thin(inside)
            padding = _padding(contrast == 0)
    inside = morphology.remove_specks(inside, _SPECK)
    if not sharp:
        inside = morphology.fill_holes(inside)
    return Segmentation(inside, clean, padding)


def otsu_threshold(values: np.ndarray) -> float:
    """The value that parts a histogram into two classes with the least variance.

    Otsu (1979), of values [n] in 256 bins between the percentiles 1 and 99.
    """
    low, high = np.percentile(values, (1, 99))
    counts, edges = np.histogram(np.clip(values, low, high), 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    mean_above = np.cumsum((counts * centres)[::-1])[::-1] / np.maximum(above, 1)
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[np.argmax(between)])


def _background(data: np.ndarray) -> float:
    """The most frequent value of the faces; the darkest one where none is frequent."""
    values, counts = np.unique(voxels.on_faces(data), return_counts=True)
    value = values[np.argmax(counts)]
    # A brain may fill its box so far that all of its border is another value.
    if np.count_nonzero(data == value) < _FEW * data.size:
        return float(data.min())
    return float(value)


def _ends_in_a_jump(
    inside: np.ndarray, contrast: np.ndarray, tissue: float, mask: np.ndarray | None
) -> bool:
    """Whether the border of an object is tissue: no ramp, no ringing and no noise.

    The ranks that this rests on are the same after any change of contrast.
    """
    if not inside.any():
        return False
    tight = voxels.bounding_box(inside)
    # With a voxel of background, where the volume does not end.
    if inside[tight].mean() > _FILLED:
        return False
    box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in tight)
    inside, contrast = inside[box], contrast[box]
    if mask is not None:
        inside = inside | ~mask[box]
    rings = [inside]
    while len(rings) < 4:
        rings.append(morphology.erode(rings[-1]))
    border, deeper = rings[0] & ~rings[1], rings[2] & ~rings[3]
    if mask is not None:
        border, deeper = border & mask[box], deeper & mask[box]
    pairs = border[:-1] & inside[1:]
    neighbours = (_some(contrast[side][pairs]) for side in (slice(-1), slice(1, None)))
    border, deeper = _some(contrast[border]), _some(contrast[deeper])
    if not border.size or not deeper.size:
        return bool(border.size)
    # How often a voxel of the border is darker than one two voxels deeper.
    darker = np.searchsorted(np.sort(border), deeper).mean() / border.size
    nearly_empty = np.mean(border < _EMPTY * tissue)
    alike = np.corrcoef([_ranks(values) for values in neighbours])[0, 1]
    return bool(darker < _RAMP and nearly_empty < _RINGING and alike > _SMOOTH)


def _some(values: np.ndarray) -> np.ndarray:
    """Some thousands of many values."""
    return values[:: max(1, values.size // _MANY)]


def _ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value; equal values share their mean rank."""
    ordered = np.sort(values)
    first = np.searchsorted(ordered, values, "left")
    return (first + np.searchsorted(ordered, values, "right")) / 2


def _padding(empty: np.ndarray) -> np.ndarray | None:
    cube = (_PADDING,) * 3
    if min(empty.shape) < _PADDING:
        return None
    cubes = ~morphology.any_in_window(~empty, cube)
    if not cubes.any():
        return None
    return morphology.any_in_window(np.pad(cubes, _PADDING - 1), cube)
