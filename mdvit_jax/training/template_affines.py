"""Where each scan for training lies in MNI152, as `register` finds it.

From two of these follows the affine between two people, which a network can learn from
as from one that is known (`loss.known`). On 12 pairs of real brains it is 1.1 mm from
what `register` finds for the pair itself, and the regions overlap as well; the minimum
of NTG at 32³ voxels is 2.0 mm from that, and they overlap less (training log).
"""

import json
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import tqdm

from mdvit_jax import errors, geometry
from mdvit_jax.data import cache, conform, dataset, template
from mdvit_jax.evaluation import methods, metrics
from mdvit_jax.io import atomic

# Conformed scans have voxels of 8 mm and more where a network is small; the affine is
# found on voxels of 2 mm.
_VOXEL = 2.0
_RIGHT = 0.9  # Dice of two brains below which an answer is taken to be wrong


def prepare(config: ml_collections.ConfigDict) -> None:
    """Find the affines of the scans for training, and keep each beside its scan.

    What is there stays, so that a run that was interrupted goes on where it was.

    Args:
        config: a whole configuration whose scans are in the cache.

    Raises:
        UserError: the cohort or the cache is missing or wrong.
    """
    scans = dataset.open_part(config, "train").scans
    missing = [scan for scan in scans if not _file(scan, config).exists()]
    if not missing:
        return
    fine = ml_collections.ConfigDict(config.to_dict())
    fine.data.size = round(config.data.field_of_view / _VOXEL)
    fine.data.template = "mni152"
    mni152, _ = template.load(fine.data)
    to_world = geometry.normalised_to_world(mni152.image.shape, mni152.to_world)
    align = methods.classical("register").align
    for scan in tqdm.tqdm(missing, "aligning with MNI152", unit="scan"):
        conformed = dataset.conform_scan(scan, fine)
        matrix = np.linalg.inv(align(mni152, conformed))
        right = _dice(conformed, mni152, matrix) >= _RIGHT
        found = (to_world @ matrix).tolist() if right else None
        atomic.write_text(_file(scan, config), json.dumps(found) + "\n")


def read(
    scans: dataset.ScanDataset, mni152: conform.Conformed | None = None
) -> np.ndarray:
    """The affines that `prepare` kept, conformed scan → MNI152.

    Args:
        scans: for training.
        mni152: the conformed template where it is the fixed scan of all pairs.

    Returns:
        float32 [scans + 1, 4, 4], from normalised coordinates to world coordinates of
        MNI152 in parts of half the field of view; its middle is x = 0. NaN where
        `register` was wrong. The last is that of the template, whose index is
        `pairs.TEMPLATE`; NaN without.

    Raises:
        UserError: one is missing or damaged.
    """
    unknown = np.full((4, 4), np.nan)
    result: list[Any] = []
    for scan in scans.scans:
        path = _file(scan, scans.config)
        try:
            matrix = json.loads(path.read_text())
            result.append(unknown if matrix is None else np.reshape(matrix, (4, 4)))
        except (OSError, ValueError) as error:
            raise errors.UserError(
                f"{path}, which loss.people needs, is missing or damaged ({error}); "
                f"{cache.PREPARE}."
            ) from error
    last = unknown
    if mni152 is not None:
        last = geometry.normalised_to_world(mni152.image.shape, mni152.to_world)
    scale = np.array([*[scans.config.data.field_of_view / 2] * 3, 1.0])
    return (np.stack([*result, last]) / scale[:, None]).astype(np.float32)


def _file(scan, config: ml_collections.ConfigDict) -> Path:
    if not config.data.cache:
        raise errors.UserError(
            "loss.people needs a cache, where the affines of the scans are kept; name "
            f"a folder with data.cache and {cache.PREPARE}."
        )
    return cache.scan_folder(scan, config) / "to_template.json"


def _dice(
    scan: conform.Conformed, mni152: conform.Conformed, to_template: np.ndarray
) -> float:
    """Of the scan's brain and the template's as the affine lays it on the scan."""
    matrix = np.asarray(to_template, np.float32)
    warped = geometry.warp_affine(np.asarray(mni152.mask, np.float32), matrix)
    return metrics.dice(scan.mask, np.asarray(warped) >= 0.5)
