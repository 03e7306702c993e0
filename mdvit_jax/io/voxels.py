"""Decoded voxels → finite numbers: stored integers, floats, labels.

Values have any shape, which the results keep.
"""

import logging
from pathlib import Path

import numpy as np

from mdvit_jax import errors

_log = logging.getLogger(__name__)


def replace_non_finite(values: np.ndarray) -> tuple[np.ndarray, int]:
    """The values with 0 for NaN and infinity, and how many of these there were."""
    with np.errstate(all="ignore"):
        if values.dtype.kind != "f" or np.isfinite(values.sum(dtype=np.float64)):
            return values, 0  # without an array of as many flags
    bad = ~np.isfinite(values)
    count = int(np.count_nonzero(bad))
    return np.where(bad, values.dtype.type(0), values) if count else values, count


def on_faces(values: np.ndarray) -> np.ndarray:
    """The values [n] on the six faces of a volume [x, y, z]; edges come several times.

    `np.take` would copy the volume, where its first axis is contiguous as in files.
    """
    sides = [np.moveaxis(values, axis, 0)[[0, -1]] for axis in range(values.ndim)]
    return np.concatenate([side.reshape(-1) for side in sides])


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The box that holds a mask [x, y, z]; empty if the mask is."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(set(range(mask.ndim)) - {axis})
        (places,) = np.nonzero(mask.any(others))
        box.append(slice(places[0], places[-1] + 1) if places.size else slice(0, 0))
    return tuple(box)


def ends_of_lines(mask: np.ndarray) -> np.ndarray:
    """The first and the last voxel of a mask [x, y, z] on each line along z, [3, n].

    Among them is the farthest voxel from any point, and in any direction.
    """
    first, last = mask.argmax(2), mask.shape[2] - 1 - mask[:, :, ::-1].argmax(2)
    x, y = np.nonzero(mask.any(2))
    return np.concatenate([np.stack([x, y, z[x, y]]) for z in (first, last)], 1)


def as_scan(values: np.ndarray, path: str | Path) -> np.ndarray:
    """Integers unchanged, others as finite float32; a warning counts the bad ones.

    Raises:
        UserError: all of them are equal.
    """
    with np.errstate(over="ignore"):
        if values.dtype.kind not in "iu":
            values = values.astype(np.float32, copy=False)
    values, count = replace_non_finite(values)
    warn_of_non_finite(count, path)
    if values.min() == values.max():
        raise errors.UserError(
            f"{path} holds the value {values.flat[0]:g} everywhere, so there is "
            "nothing to register in it; replace the file or leave the scan out."
        )
    return values


def whole_numbers(values: np.ndarray, path: str | Path) -> np.ndarray:
    """Finite values as integers: in their own type, or int32 for floats.

    Raises:
        UserError: a float is not a whole number (to 1e-3) of 32 bits.
    """
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind != "f":
        return values
    whole = np.rint(values)
    if np.abs(values - whole).max() > 1e-3:
        raise errors.UserError(
            f"{path} holds values that are not whole numbers, so it is not a label "
            "map; name the file with the labels, resampled by nearest neighbour."
        )
    extreme = max(whole.min().item(), whole.max().item(), key=abs)
    if abs(extreme) >= 2**31:
        raise errors.UserError(
            f"{path} holds the label {extreme:.0f}, which does not fit 32 bits; "
            "renumber the labels, or store them as integers."
        )
    return whole.astype(np.int32)


def cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in a type; whole numbers are rounded to, and cut off at their limits."""
    if dtype.kind not in "iu" or values.dtype == dtype:
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    if values.dtype.kind == "f":
        values = np.rint(values)
    # As a float, the largest whole number may be the next one, which overflows.
    above, below = values >= limits.max, values <= limits.min
    result = np.where(above | below, 0, values).astype(dtype)
    result[above], result[below] = limits.max, limits.min
    return result


def warn_of_non_finite(count: int, path: str | Path) -> None:
    """Warn of voxels that were not finite, if there were any."""
    if count:
        _log.warning(
            "%s holds %d voxels that are NaN or infinite; they are set to 0.",
            path,
            count,
        )
