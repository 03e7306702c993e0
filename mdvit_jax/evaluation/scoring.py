"""Score registrations of conformed pairs: brain masks and regions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from mdvit_jax import errors, geometry
from mdvit_jax.data import conform, dataset, pairs
from mdvit_jax.evaluation import metrics, regions

Regions = Mapping[str, Sequence[int]]  # name → its label values

_warp = jax.jit(geometry.warp_affine, static_argnames="order")


class Pair(NamedTuple):
    """A fixed and a moving scan with their names."""

    fixed_name: str
    moving_name: str
    fixed: conform.Conformed
    moving: conform.Conformed


def load_pairs(
    indices: Sequence[tuple[int, int]],
    scans: dataset.ScanDataset,
    template: conform.Conformed | None,
) -> Iterator[Pair]:
    """Load pairs one by one.

    Args:
        indices: (fixed, moving), as `data.pairs.cases` gives them.
        scans: one part of the cohort.
        template: the fixed scan of index `data.pairs.TEMPLATE`, if there is such.
    """
    for fixed_index, moving_index in indices:
        if fixed_index == pairs.TEMPLATE:
            assert template is not None  # it was loaded for the task "template"
            fixed_name, fixed = "template", template
        else:
            fixed_name, fixed = scans.subjects[fixed_index], scans[fixed_index]
        yield Pair(fixed_name, scans.subjects[moving_index], fixed, scans[moving_index])


def compared_regions(config: ml_collections.ConfigDict) -> Regions:
    """The regions that the labels of both scans of a pair draw; empty if none.

    The template's labels are tissues (`data.template`), so only the scheme "tissue" can
    be compared with it.

    Raises:
        UserError: `data.label_scheme` is unknown.
    """
    scheme = config.data.label_scheme
    if not scheme:
        return {}
    tissues = config.data.template == "mni152" and scheme == "tissue"
    if config.data.task == "template" and not tissues:
        return {}
    return regions.label_values(scheme)


def warp_scan(
    scan: conform.Conformed, matrix: np.ndarray, *, threshold: float
) -> conform.Conformed:
    """Warp the moving scan onto the fixed grid.

    Image: linear. Mask: linear, then ≥ `threshold`; 0 means > 0, the authors' reading,
    which grows the mask by up to a voxel. Labels: nearest voxel.

    Args:
        scan: the moving scan.
        matrix: 4×4 `fixed_to_moving`, normalised coordinates.
        threshold: of the mask.
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


def score_overlap(
    fixed: conform.Conformed,
    warped: conform.Conformed,
    regions: Regions,
    *,
    hausdorff_unit: str = "mm",
) -> dict:
    """Overlap and distance of a fixed scan and a moving one warped onto its grid.

    Returns:
        `dsc`, `hd95`, `jaccard` of the masks, and `regions`, name → Dice, which is
        empty where one of the scans has no labels.

    Raises:
        UserError: an unknown unit.
    """
    if hausdorff_unit not in ("mm", "voxels"):
        raise errors.UserError(
            f'evaluation.hausdorff_unit is "{hausdorff_unit}"; choose "mm" or "voxels".'
        )
    millimetres = np.linalg.norm(fixed.to_world[:3, :3], axis=0)
    spacing = millimetres if hausdorff_unit == "mm" else np.ones(3)
    region_dice: dict[str, float] = {}
    if regions and fixed.labels is not None and warped.labels is not None:
        region_dice = metrics.region_dice(fixed.labels, warped.labels, regions)
    return {
        "dsc": metrics.dice(fixed.mask, warped.mask),
        "hd95": metrics.hausdorff95(fixed.mask, warped.mask, spacing=tuple(spacing)),
        "jaccard": metrics.jaccard(fixed.mask, warped.mask),
        "regions": region_dice,
    }


def warp_and_score(
    pair: Pair, matrix: np.ndarray, config: ml_collections.ConfigDict
) -> tuple[conform.Conformed, dict]:
    """Warp the moving scan of a pair, and score it as `score_overlap` does.

    Args:
        pair: the conformed scans.
        matrix: 4×4 `fixed_to_moving`, normalised coordinates.
        config: its `data.task`, `data.label_scheme` and `evaluation` are read.

    Returns:
        The warped scan, and its scores.
    """
    settings = config.evaluation
    warped = warp_scan(pair.moving, matrix, threshold=settings.mask_threshold)
    scores = score_overlap(
        pair.fixed,
        warped,
        compared_regions(config),
        hausdorff_unit=settings.hausdorff_unit,
    )
    return warped, scores
