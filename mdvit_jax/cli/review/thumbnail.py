"""A small picture of a registration, for a page of many; quick to make."""

import numpy as np

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
    # The farthest voxel along any direction is the first or the last of its line.
    inside = foreground.inside
    first, last = inside.argmax(2), inside.shape[2] - 1 - inside[:, :, ::-1].argmax(2)
    x, y = np.nonzero(inside.any(2))
    ends = np.concatenate([np.stack([x, y, z[x, y]], 1) for z in (first, last)])
    points = ends @ foreground.affine[:3, :3].T + foreground.affine[:3, 3]
    low, high = points.min(0), points.max(0)
    longest = (high - low).max()
    half = np.maximum((high - low) / 2, _FLATTEST * longest / 2) + _MARGIN * longest
    middle = (low + high) / 2
    return planes.Box(middle - half, middle + half, foreground.centre)
