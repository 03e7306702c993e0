"""FreeSurfer's linear transform arrays (.lta): moving ("src") → fixed ("dst").

Written in world RAS+ mm (type 1, LINEAR_RAS_TO_RAS); read also in voxels (type 0). Both
grids are part of the file; FreeSurfer's "c_ras" is the world place of the voxel
coordinates shape / 2.
"""

import os
import re

import numpy as np

from mdvit_jax.io.grid import Grid
from mdvit_jax.transforms.text import numbers

_VOXELS, _RAS = 0, 1


def text(fixed_to_moving: np.ndarray, fixed: Grid, moving: Grid) -> str:
    """4×4 in world RAS+ mm as the text of an .lta file."""
    rows = "\n".join(numbers(row) for row in np.linalg.inv(fixed_to_moving))
    return (
        f"type      = {_RAS} # LINEAR_RAS_TO_RAS\nnxforms   = 1\n"
        "mean      = 0.0 0.0 0.0\nsigma     = 1.0\n1 4 4\n"
        f"{rows}\nsrc volume info\n{_info(moving)}dst volume info\n{_info(fixed)}"
    )


def is_lta(text: str) -> bool:
    """Whether this is the text of an .lta file."""
    return all(re.search(rf"^\s*{n}\s*=", text, re.M) for n in ("type", "nxforms"))


def from_text(text: str) -> np.ndarray:
    """The content of an .lta file as a 4×4 in world RAS+ mm; ValueError if none."""
    kind = int(_field(text, "type", 1)[0])
    if int(_field(text, "nxforms", 1)[0]) != 1:
        raise ValueError("it holds more than one transform")
    block = re.search(r"^1 4 4\s*\n((?:.*\n){4})", text + "\n", re.M)
    if block is None:
        raise ValueError("its matrix is missing")
    matrix = np.array(block[1].split(), np.float64).reshape(4, 4)
    if kind == _VOXELS:
        source, target = (_to_world(text, name) for name in ("src", "dst"))
        matrix = target @ matrix @ np.linalg.inv(source)
    elif kind != _RAS:
        raise ValueError(f"type {kind} is neither RAS to RAS nor voxel to voxel")
    return np.linalg.inv(matrix)


def _to_world(text: str, which: str) -> np.ndarray:
    """Voxel indices → world RAS+ mm of the grid "src" or "dst"."""
    _, heading, info = text.partition(f"{which} volume info")
    if not heading or int(_field(info, "valid", 1)[0]) != 1:
        raise ValueError(f"the grid of its {which} volume is missing")
    sizes, shape = _field(info, "voxelsize", 3), _field(info, "volume", 3)
    axes = np.stack([_field(info, name, 3) for name in ("xras", "yras", "zras")], 1)
    affine = np.eye(4)
    affine[:3, :3] = axes * sizes
    affine[:3, 3] = _field(info, "cras", 3) - affine[:3, :3] @ (shape / 2)
    return affine


def _field(text: str, name: str, count: int) -> np.ndarray:
    """The numbers of the first line `name = …`."""
    line = re.search(rf"^\s*{name}\s*=\s*([^#\n]*)", text, re.M)
    if line is None or len(line[1].split()) != count:
        raise ValueError(f"its {name} is missing")
    return np.array(line[1].split(), np.float64)


def _info(grid: Grid) -> str:
    centre = grid.affine[:3, 3] + grid.affine[:3, :3] @ (np.array(grid.shape) / 2)
    axes = (grid.affine[:3, :3] / grid.voxel_sizes).T
    file = os.path.abspath(grid.file) if grid.file else ""
    # FreeSurfer and nitransforms read one word of text; "unknown" is FreeSurfer's for
    # none.
    is_text = file == file.encode("utf-8", errors="replace").decode()
    file = file if is_text and re.fullmatch(r"[^\s#]+", file) else "unknown"
    lines = ["valid = 1  # volume info valid", f"filename = {file}"]
    lines.append("volume = " + " ".join(str(n) for n in grid.shape))
    lines.append("voxelsize = " + numbers(grid.voxel_sizes))
    for name, axis in zip(("xras  ", "yras  ", "zras  "), axes, strict=True):
        lines.append(f"{name} = {numbers(axis)}")
    lines.append("cras   = " + numbers(centre))
    return "\n".join(lines) + "\n"
