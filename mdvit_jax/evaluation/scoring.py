"""Measure registrations of conformed pairs: masks and regions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from mdvit_jax import errors, geometry
from mdvit_jax.data import conform, dataset, pairs
from mdvit_jax.evaluation import metrics, regions

Regions = Mapping[str, Sequence[int]]


class Pair(NamedTuple):
    """A fixed and a moving scan, and what to call them."""

    fixed_name: str
    moving_name: str
    fixed: conform.Conformed
    moving: conform.Conformed


_warp = jax.jit(geometry.warp_affine, static_argnames="order")


def regions_of(config: ml_collections.ConfigDict) -> Regions:
    """The regions that both labels of a pair draw under this configuration.

    The template's labels are tissues (`data.template`), so that against it no other
    scheme can be compared.

    Raises:
        UserError: `data.label_scheme` names no scheme.
    """
    scheme = config.data.label_scheme
    if not scheme:
        return {}
    labelled = config.data.template == "mni152" and scheme == "tissue"
    if config.data.task == "template" and not labelled:
        return {}
    return regions.table(scheme)


def warp(
    scan: conform.Conformed, matrix: np.ndarray, *, threshold: float
) -> conform.Conformed:
    """The moving scan seen on the fixed grid through a normalised `fixed_to_moving`.

    Image: linear. Mask: linear, then ≥ `threshold`; 0 means > 0, the authors' reading,
    which grows the mask by up to a voxel. Labels: nearest.
    """
    mask = np.asarray(_warp(scan.mask.astype(np.float32), matrix))
    labels = scan.labels
    if labels is not None:
        labels = np.asarray(_warp(labels, matrix, order=0))
    return conform.Conformed(
        image=np.asarray(_warp(scan.image, matrix)),
        mask=(mask >= threshold if threshold > 0 else mask > 0).astype(np.uint8),
        labels=labels,
        to_world=scan.to_world,
    )


def measure(
    fixed: conform.Conformed,
    warped: conform.Conformed,
    regions: Regions,
    *,
    hausdorff_unit: str = "mm",
) -> dict:
    """Overlap and distance of a fixed scan and a moving one warped onto its grid.

    Returns:
        `dsc`, `hd95`, `jaccard` of the masks, and `regions` with the Dice of each; it
        is empty where one of the scans has no labels.

    Raises:
        UserError: an unknown unit.
    """
    if hausdorff_unit not in ("mm", "voxels"):
        raise errors.UserError(
            f'evaluation.hausdorff_unit is "{hausdorff_unit}"; choose "mm" or "voxels".'
        )
    millimetres = np.linalg.norm(fixed.to_world[:3, :3], axis=0)
    spacing = millimetres if hausdorff_unit == "mm" else np.ones(3)
    of_regions: dict[str, float] = {}
    if regions and fixed.labels is not None and warped.labels is not None:
        of_regions = metrics.region_dice(fixed.labels, warped.labels, regions)
    return {
        "dsc": metrics.dice(fixed.mask, warped.mask),
        "hd95": metrics.hausdorff95(fixed.mask, warped.mask, spacing=tuple(spacing)),
        "jaccard": metrics.jaccard(fixed.mask, warped.mask),
        "regions": of_regions,
    }


def align(
    pair: Pair, matrix: np.ndarray, config: ml_collections.ConfigDict
) -> tuple[conform.Conformed, dict]:
    """The moving scan of a pair, warped, and what `measure` says of it.

    Args:
        pair: the conformed scans.
        matrix: 4×4 normalised `fixed_to_moving`.
        config: of it `data.task`, `data.label_scheme` and `evaluation`.
    """
    settings = config.evaluation
    warped = warp(pair.moving, matrix, threshold=settings.mask_threshold)
    unit = settings.hausdorff_unit
    return warped, measure(pair.fixed, warped, regions_of(config), hausdorff_unit=unit)


def pairs_of(
    cases: Sequence[tuple[int, int]],
    scans: dataset.ScanDataset,
    template: conform.Conformed | None,
) -> Iterator[Pair]:
    """The pairs (fixed, moving) that indices name, as in `pairs.cases`, one by one."""
    for of_fixed, of_moving in cases:
        if of_fixed == pairs.TEMPLATE:
            assert template is not None  # the task is "template", so it was loaded
            fixed_name, fixed = "template", template
        else:
            fixed_name, fixed = scans.subjects[of_fixed], scans[of_fixed]
        yield Pair(fixed_name, scans.subjects[of_moving], fixed, scans[of_moving])
