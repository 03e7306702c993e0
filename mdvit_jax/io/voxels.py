"""Decoded voxels → float32 or int32, all finite."""

import logging
from pathlib import Path

import numpy as np

from mdvit_jax import errors

_log = logging.getLogger(__name__)


def as_image(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Values as float32, and how many of them were not finite and are 0 now."""
    with np.errstate(over="ignore"):
        return _finite(values.astype(np.float32))


def as_scan(values: np.ndarray, path: str | Path) -> np.ndarray:
    """Values as float32; a warning says how many were not finite.

    Raises:
        UserError: all of them are equal.
    """
    data, bad = as_image(values)
    say_how_many(bad, path)
    if data.min() == data.max():
        raise errors.UserError(
            f"{path} holds the value {data.flat[0]:g} everywhere, so there is nothing "
            "to register in it; replace the file or leave the scan out."
        )
    return data


def as_labels(values: np.ndarray, path: str | Path) -> tuple[np.ndarray, int]:
    """Values as int32, and how many of them were not finite and are 0 now.

    Raises:
        UserError: one is not a whole number (to 1e-3) of 32 bits.
    """
    bad = 0
    if values.dtype.kind == "f":
        values, bad = _finite(values)
        whole = np.rint(values)
        if np.abs(values - whole).max() > 1e-3:
            raise errors.UserError(
                f"{path} holds values that are no whole numbers, so it is no label "
                "map; name the file with the labels, resampled by nearest neighbour."
            )
        values = whole
    limits, low, high = np.iinfo(np.int32), values.min().item(), values.max().item()
    if low < limits.min or high > limits.max:
        extreme = max(low, high, key=abs)
        raise errors.UserError(
            f"{path} holds the label {extreme:.0f}, which does not fit 32 bits; "
            "renumber the labels."
        )
    return values.astype(np.int32), bad


def _finite(values: np.ndarray) -> tuple[np.ndarray, int]:
    bad = ~np.isfinite(values)
    count = int(np.count_nonzero(bad))
    return np.where(bad, values.dtype.type(0), values) if count else values, count


def say_how_many(bad: int, path: str | Path) -> None:
    """Warn of voxels that were not finite, if there were any."""
    if bad:
        _log.warning(
            "%s holds %d voxels that are NaN or infinite; they are set to 0.", path, bad
        )
