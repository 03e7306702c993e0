"""What a trained network says of a pair of scans, in their own world."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mdvit_jax import config, geometry
from mdvit_jax.data import conform
from mdvit_jax.evaluation import methods
from mdvit_jax.io.image import Image
from mdvit_jax.training import start


class Estimate(NamedTuple):
    """The answer of a network.

    Attributes:
        matrix: 4×4 float64 fixed → moving, world RAS+ mm.
        network: what it is called, and after how many steps of training.
    """

    matrix: np.ndarray
    network: str


def estimate(
    run: str | Path, pair: Sequence[Image], names: tuple[str, str]
) -> Estimate:
    """Align two skull-stripped scans by the network of a run, on its own grid.

    Args:
        run: folder that training wrote.
        pair: the fixed and the moving scan.
        names: of the two, in messages.

    Raises:
        UserError: no such run, no checkpoint in it, or a scan that it cannot take.
    """
    trained = start.trained_network(run)
    data = config.saved(run).data
    scans = [
        conform.conform(
            volume, None, None,
            size=data.size, field_of_view=data.field_of_view, name=name,
        )
        for volume, name in zip(pair, names, strict=True)
    ]  # fmt: skip
    one, other = (
        geometry.normalised_to_world(scan.image.shape, scan.to_world) for scan in scans
    )
    normalised = methods.aligner(trained.network, trained.params)(*scans)
    matrix = geometry.in_world(normalised, fixed=one, moving=other)
    return Estimate(matrix, f"{trained.name}, {trained.origin}")
