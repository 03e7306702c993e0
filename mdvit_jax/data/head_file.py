"""Heads (`label_maps.Head`) for training or validation, of label maps or a small file.

The small file is for machines without the label maps.
"""

from pathlib import Path

import numpy as np

from mdvit_jax import errors
from mdvit_jax.data import label_maps
from mdvit_jax.data.label_maps import Head


def write(path: str | Path, heads: Head) -> None:
    """Write a batch of heads as a compressed .npz, whose arrays have the fields' names.

    Raises:
        OSError: it cannot be written.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **heads._asdict())


def read(path: str | Path) -> Head:
    """Read what `write` wrote.

    Raises:
        UserError: the file is missing, or holds no heads.
    """
    try:
        with np.load(path) as archive:
            return Head(**{name: archive[name] for name in Head._fields})
    except (OSError, ValueError, KeyError) as error:
        raise errors.UserError(
            f"{path} is not a file of heads ({error}); make it anew with "
            "launch/small_copy.py, or name the folder of the label maps."
        ) from error


def read_part(path: Path, part: str, *, held_out: int, voxel: float = 2.0) -> Head:
    """Read the heads of "train" or of "validation", in one batch.

    Args:
        path: a folder of label maps (*.nii*), or a file that `write` wrote.
        part: "train" or "validation".
        held_out: how many of them, the last by name, are those for validation.
        voxel: mm, of heads that are made from label maps.

    Raises:
        UserError: there are none, or the file cannot be read.
    """
    packed = read(path) if path.suffix == ".npz" else None
    paths = sorted(path.glob("*.nii*"))
    count = len(paths) if packed is None else len(packed.labels)
    first = max(count - held_out, 0)
    chosen = slice(first) if part == "train" else slice(first, count)
    if not range(count)[chosen]:
        raise errors.UserError(
            f"{path} has {count} label maps (*.nii.gz), of which {held_out} are held "
            f"out for validation, so that none is left for {part}; name another "
            "folder."
        )
    if packed is not None:
        return Head(*(field[chosen] for field in packed))
    return label_maps.read_heads(paths[chosen], voxel=voxel)
