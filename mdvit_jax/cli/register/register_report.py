"""The result of a registration, its inputs and versions: one JSON file."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mdvit_jax
from mdvit_jax.io import atomic, gzip_files, json_file, named_templates
from mdvit_jax.io.grid import Grid
from mdvit_jax.registration.registration_result import Registration

_CONVENTION = (
    "4x4, world RAS+ millimetres, fixed to moving: the matrix takes a point of the "
    "fixed image to the point of the moving image that shows the same place; the "
    "warped image at x is the moving image at matrix * x; components: translation (mm) "
    "of the fixed object's centre, about which the rest turns and scales; rotation in "
    "degrees about x, then y, then z, and as one angle; scale: how many times as large "
    "as the fixed object the moving one is; overlap: soft Dice of the smoothed "
    "outlines, about 0.96 of one brain with itself"
)


def report(
    result: Registration,
    *,
    command: Sequence[str],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    options: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Everything about a result, for strict JSON (NaN and infinity become null).

    Args:
        command: the words of the command line.
        inputs: what was read, by the option that names it; "--fixed" and "--moving" are
            described further.
        outputs: what is written, likewise.
        options: values of the other options.
        seconds: that the registration took.
    """
    grids = {"--fixed": result.fixed.grid, "--moving": result.moving.grid}
    components = result.components._asdict()
    alignment = result.alignment and result.alignment._asdict()
    if alignment:
        del alignment["matrix"]
    content = {
        "quality": result.quality._asdict(),
        "matrix": result.matrix,
        "inverse": result.inverse,
        "convention": _CONVENTION,
        "components": components,
        "centre": result.pair.fixed.centre,
        "before": result.before._asdict(),
        "after": result.after._asdict(),
        "alignment": alignment,
        "seconds": seconds,
        "inputs": {
            flag.lstrip("-"): _file(path, grids.get(flag))
            for flag, path in inputs.items()
        },
        "outputs": {flag.lstrip("-"): path for flag, path in outputs.items()},
        "options": dict(options),
        "command": list(command),
        "versions": {
            "mdvit_jax": mdvit_jax.__version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
        },
    }
    return json_file.finite(content)


def write(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a report, whole or not at all."""
    text = json_file.encode(content)
    # Rows of numbers on one line; no string holds a line break.
    text = re.sub(r"\[\s+([-+.,\d\se]+?)\s+\]", _on_one_line, text)
    atomic.write_text(path, text, errors="backslashreplace")


def _file(path: str, grid: Grid | None) -> dict[str, Any]:
    """Path, size and checksum.

    Of a pair of files the checksum is that of the voxels, of a name that of nilearn's
    file.
    """
    source: Path = named_templates.source_file(path)
    if path.lower().endswith((".hdr", ".img", ".hdr.gz", ".img.gz")):
        source = gzip_files.image_files(path)[-1]
    with open(source, "rb") as file:
        description = {
            "path": path,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }
    if grid is None:
        return description
    return description | {"shape": grid.shape, "voxel_sizes": grid.voxel_sizes}


def _on_one_line(numbers: re.Match) -> str:
    return f"[{' '.join(numbers[1].split())}]"
