"""Heads (`label_maps.Head`) in one small file, for machines without the label maps."""

from pathlib import Path

import numpy as np

from mdvit_jax import errors
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
