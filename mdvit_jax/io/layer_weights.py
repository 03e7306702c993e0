"""A network's parameters in a safetensors file: one tensor for each "layer/part"."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file


def save(path: str | Path, params: dict[str, dict[str, Any]]) -> None:
    """Write the parameters, layer → part → array, in float16."""
    flat = {
        f"{layer}/{part}": np.ascontiguousarray(np.asarray(value, np.float16))
        for layer, parts in params.items()
        for part, value in parts.items()
    }
    save_file(flat, path)


def load(path: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """Read what `save` wrote, in float32."""
    params: dict[str, dict[str, np.ndarray]] = {}
    for name, value in load_file(path).items():
        layer, part = name.split("/")
        params.setdefault(layer, {})[part] = value.astype(np.float32)
    return params
