"""Strict JSON, which other programs read too: it has neither NaN nor infinity."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mdvit_jax.io import atomic


def finite(value: Any) -> Any:
    """The value with lists for arrays and tuples, and None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    if isinstance(value, np.generic):
        return finite(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def encode(content: Any) -> str:
    """The text of a file, with a line for each value.

    Raises:
        ValueError: the content holds NaN or infinity.
    """
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write(path: str | Path, content: Any) -> None:
    """Write a file, whole or not at all.

    Bytes of file names that are not UTF-8 become JSON's escapes.

    Raises:
        OSError: it cannot be written.
        ValueError: as `encode`.
    """
    atomic.write_text(path, encode(content), errors="backslashreplace")
