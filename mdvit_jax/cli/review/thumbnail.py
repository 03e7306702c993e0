"""A small picture of a registration, for a page of many; quick to make."""

import numpy as np

from mdvit_jax.io import voxels
from mdvit_jax.plots import planes, strips
from mdvit_jax.registration.foreground import Foreground
from mdvit_jax.registration.registration_result import Registration

_MARGIN = 0.08  # of the longest side, around the foreground; it holds the letters
_FLATTEST = 0.6  # shortest side of the box, of its longest


def encode(result: Registration) -> bytes:
    """Three planes of the fixed and of the warped image as WebP; see `plots.strips`."""
    box = frame(result.pair.fixed)
    fixed = planes.sample_slices(result.fixed, box)
    return strips.encode(fixed, planes.sample_slices(result.moving, box, result.matrix))


def frame(foreground: Foreground) -> planes.Box:
    """The world around a foreground, with a margin."""
    affine = foreground.affine
    points = affine[:3, :3] @ voxels.ends_of_lines(foreground.inside) + affine[:3, 3:]
    low, high = points.min(1), points.max(1)
    longest = (high - low).max()
    half = np.maximum((high - low) / 2, _FLATTEST * longest / 2) + _MARGIN * longest
    middle = (low + high) / 2
    return planes.Box(middle - half, middle + half, foreground.centre)
