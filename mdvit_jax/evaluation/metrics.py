"""Overlap and surface distance of two segmentations on one grid.

All functions take arrays `[x, y, z]` of equal shape: the fixed segmentation and the
moving one after warping onto the fixed grid. A voxel is in a mask where the mask is not
0. Different shapes raise a ValueError. Where both segmentations are empty there is
nothing to compare, and the value is NaN: neither a success nor a failure.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from mdvit_jax.io import voxels

Name = TypeVar("Name", bound=Hashable)


def dice(fixed_mask: ArrayLike, warped_mask: ArrayLike) -> float:
    """Dice similarity coefficient 2|F ∩ W| / (|F| + |W|), in [0, 1]."""
    fixed, warped = _masks(fixed_mask, warped_mask)
    return _ratio(2 * (fixed & warped).sum(), fixed.sum() + warped.sum())


def jaccard(fixed_mask: ArrayLike, warped_mask: ArrayLike) -> float:
    """Jaccard similarity coefficient |F ∩ W| / |F ∪ W|, in [0, 1]."""
    fixed, warped = _masks(fixed_mask, warped_mask)
    return _ratio((fixed & warped).sum(), (fixed | warped).sum())


def hausdorff95(
    fixed_mask: ArrayLike, warped_mask: ArrayLike, *, spacing: Sequence[float]
) -> float:
    """The larger of the two directed 95th percentiles of surface distance, in mm.

    The surface is the mask's voxels with a face on the background; what lies
    outside the volume is background. A directed distance goes from each surface voxel
    of one mask to the nearest one of the other, centre to centre. It is infinite where
    only one of the masks is empty.

    Args:
        fixed_mask: [x, y, z].
        warped_mask: [x, y, z].
        spacing: voxel size along x, y and z in mm; ones give the value in voxels.
    """
    fixed, warped = _masks(fixed_mask, warped_mask)
    if not fixed.any() or not warped.any():
        return float("inf") if fixed.any() or warped.any() else float("nan")
    # Beyond the masks there is only background: leave it out, for speed.
    box = voxels.bounding_box(fixed | warped)
    fixed_surface, warped_surface = _surface(fixed[box]), _surface(warped[box])
    to_fixed = _distance(fixed_surface, spacing)
    to_warped = _distance(warped_surface, spacing)
    return float(
        max(
            np.percentile(to_warped[fixed_surface], 95),
            np.percentile(to_fixed[warped_surface], 95),
        )
    )


def region_dice(
    fixed_labels: ArrayLike,
    warped_labels: ArrayLike,
    regions: Mapping[Name, Sequence[int]],
) -> dict[Name, float]:
    """Dice of each region, the union of its label values; NaN where neither map has it.

    Regions may share values. The label maps [x, y, z] are read once, whatever the
    number of regions, for their joint histogram.
    """
    fixed, warped = _check_shapes(fixed_labels, warped_labels)
    values = np.unique(
        np.array([v for region in regions.values() for v in region], np.int64)
    )
    joint = _joint_histogram(fixed, warped, values)
    result = {}
    for name, region in regions.items():
        member = np.isin(values, region)
        # The last row and column of the histogram count all other values.
        in_fixed = joint[:-1].sum(axis=1)[member].sum()
        in_warped = joint[:, :-1].sum(axis=0)[member].sum()
        both = joint[:-1, :-1][np.ix_(member, member)].sum()
        result[name] = _ratio(2 * both, in_fixed + in_warped)
    return result


def lowest30(values: ArrayLike) -> NDArray[np.float64]:
    """The lowest 30 % of the cases, ascending: ceil(0.3 n) of n; [m].

    The mean of these Dice values is DSC30. (The paper's text calls it the 30th
    percentile; its tables hold a mean ± standard deviation of the lowest 30 %.) NaN
    does not count as a case.
    """
    scores = np.asarray(values, np.float64).ravel()
    scores = np.sort(scores[~np.isnan(scores)])
    count = -(-3 * len(scores) // 10)  # integers: 0.3 n may round to just above a whole
    return scores[:count]


def _check_shapes(fixed: ArrayLike, warped: ArrayLike) -> tuple[NDArray, NDArray]:
    fixed, warped = np.asarray(fixed), np.asarray(warped)
    if fixed.shape != warped.shape or fixed.ndim != 3:
        raise ValueError(
            "two volumes [x, y, z] of equal shape are needed, "
            f"not {fixed.shape} and {warped.shape}"
        )
    return fixed, warped


def _masks(fixed: ArrayLike, warped: ArrayLike) -> tuple[NDArray, NDArray]:
    fixed, warped = _check_shapes(fixed, warped)
    return fixed != 0, warped != 0


def _ratio(part: np.integer, whole: np.integer) -> float:
    return float(part / whole) if whole else float("nan")


def _surface(mask: NDArray) -> NDArray[np.bool_]:
    """The voxels of a mask that have one of six neighbours outside it, [x, y, z]."""
    return mask & ~ndimage.binary_erosion(mask, border_value=0)


def _distance(surface: NDArray, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Distance of every voxel to the surface, in mm, [x, y, z]."""
    return np.asarray(ndimage.distance_transform_edt(~surface, sampling=spacing))


def _joint_histogram(fixed: NDArray, warped: NDArray, values: NDArray) -> NDArray:
    """Voxels with value i in fixed and j in warped, [n + 1, n + 1]; n is all others."""
    labelled = (fixed != 0) | (warped != 0)
    if np.any(values == 0):
        labelled[:] = True
    size = len(values) + 1
    joint = _index(fixed[labelled], values) * size + _index(warped[labelled], values)
    return np.bincount(joint, minlength=size * size).reshape(size, size)


def _index(labels: NDArray, values: NDArray) -> NDArray:
    """Position of each label in the sorted `values`; len(values) for all others."""
    place = np.searchsorted(values, labels)
    known = np.append(values, 0)[place] == labels
    return np.where(known & (place < len(values)), place, len(values))
