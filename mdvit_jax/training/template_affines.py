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
from mdvit_jax.data import cache, conform, dataset
from mdvit_jax.data import template as templates
from mdvit_jax.evaluation import methods, metrics, scoring
from mdvit_jax.io import atomic

# Conformed scans have voxels of 8 mm and more where a network is small; the affine is
# looked for on voxels of 2 mm.
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
    mni152, _ = templates.load(fine.data)
    to_world = geometry.normalised_to_world(mni152.image.shape, mni152.to_world)
    align = methods.classical("register").align
    for scan in tqdm.tqdm(missing, "aligning with MNI152", unit="scan"):
        conformed = dataset.conform_scan(scan, fine)
        matrix = align(mni152, conformed)
        warped = scoring.warp_scan(conformed, matrix, threshold=0.5)
        right = metrics.dice(mni152.mask, warped.mask) >= _RIGHT
        to_template = (to_world @ np.linalg.inv(matrix)).tolist() if right else None
        atomic.write_text(_file(scan, config), json.dumps(to_template) + "\n")


def read(
    scans: dataset.ScanDataset, template: conform.Conformed | None = None
) -> np.ndarray:
    """The affines that `prepare` kept, conformed scan → MNI152.

    Args:
        scans: for training.
        template: the conformed `data.template` where it is the fixed scan of all pairs.

    Returns:
        float32 [scans + 1, 4, 4], from normalised coordinates to world coordinates of
        MNI152 in parts of half the field of view; its middle is x = 0. NaN where
        `register` was wrong. The last is that of the template, whose index is
        `pairs.TEMPLATE`; NaN unless that is MNI152.

    Raises:
        UserError: one is missing or damaged; or no known affine counts.
    """
    config = scans.config
    if not config.loss.known:
        raise errors.UserError(
            "loss.people takes the affines between people for known, but loss.known, "
            "the weight of known ones, is 0; set it, such as to 0.05."
        )
    unknown = np.full((4, 4), np.nan)
    result: list[Any] = []
    for scan in scans.scans:
        path = _file(scan, config)
        try:
            matrix = json.loads(path.read_text())
            result.append(unknown if matrix is None else np.reshape(matrix, (4, 4)))
        except (OSError, ValueError) as error:
            raise errors.UserError(
                f"{path}, which loss.people needs, is missing or damaged ({error}); "
                f"{cache.PREPARE}."
            ) from error
    last = unknown
    if template is not None and config.data.template == "mni152":
        last = geometry.normalised_to_world(template.image.shape, template.to_world)
    scale = np.array([*[config.data.field_of_view / 2] * 3, 1.0])
    return (np.stack([*result, last]) / scale[:, None]).astype(np.float32)


def _file(scan, config: ml_collections.ConfigDict) -> Path:
    if not config.data.cache:
        raise errors.UserError(
            "loss.people needs a cache, where the affines of the scans are kept; name "
            f"a folder with data.cache and {cache.PREPARE}."
        )
    return cache.scan_folder(scan, config) / "to_template.json"
