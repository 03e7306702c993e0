"""A network's parameters in a safetensors file.

A tensor is called after its path, "stage_1/head/hidden/kernel".
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

Params = dict[str, Any]  # nested; arrays at its ends


def save(path: str | Path, params: Params, metadata: dict[str, str]) -> None:
    """Write parameters with some words about them.

    They are rounded to float16, by up to 1/2000 of each, so that the file is half as
    large.

    Raises:
        OSError: the file cannot be written.
    """
    save_file(dict(_flat(params)), path, metadata)


def load(path: str | Path) -> tuple[Params, dict[str, str]]:
    """Read what `save` wrote: the parameters, float32, and the words.

    Raises:
        OSError, SafetensorError: the file is missing, or not of that kind.
    """
    params: Params = {}
    with safe_open(path, "numpy") as file:
        for name in file.keys():  # noqa: SIM118, it is not a dict
            *groups, last = name.split("/")
            group = params
            for part in groups:
                group = group.setdefault(part, {})
            group[last] = file.get_tensor(name).astype(np.float32)
        return params, file.metadata() or {}


def _flat(params: Params, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in params.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", np.ascontiguousarray(np.asarray(value, np.float16))
