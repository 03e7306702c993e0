"""Metrics against SimpleITK and against slow definitions, on asymmetric volumes."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial import distance

from mdvit_jax.evaluation import metrics

SHAPE = (23, 17, 12)
SPACING = (0.8, 1.3, 2.1)


def blob(seed: int, shape=SHAPE, sigma=2.5, share=0.25) -> np.ndarray:
    """A mask of smooth noise in several pieces; it touches the border."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, sigma)
    return smooth > np.quantile(smooth, 1 - share)


def itk(array: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> sitk.Image:
    """SimpleITK's axes are in the opposite order of the array's."""
    image = sitk.GetImageFromArray(array.astype(np.uint16).T)
    image.SetSpacing(spacing)
    return image


@pytest.mark.parametrize("seed", range(4))
def test_dice_and_jaccard_equal_simpleitk(seed):
    fixed, warped = blob(seed), blob(seed + 10, share=0.4)
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    oracle.Execute(itk(fixed), itk(warped))
    assert metrics.dice(fixed, warped) == pytest.approx(oracle.GetDiceCoefficient())
    assert metrics.jaccard(fixed, warped) == pytest.approx(
        oracle.GetJaccardCoefficient()
    )


def test_known_overlap():
    fixed, warped = np.zeros((2, *SHAPE), np.uint8)
    fixed[2:6, 3:5, 1:4] = 1  # 24 voxels
    warped[4:8, 3:5, 1:4] = 7  # 24 voxels, 12 of them shared; any value but 0 counts
    assert metrics.dice(fixed, warped) == 0.5
    assert metrics.jaccard(fixed, warped) == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(4))
def test_jaccard_follows_from_dice_and_both_are_symmetric(seed):
    fixed, warped = blob(seed), blob(seed + 20)
    overlap = metrics.dice(fixed, warped)
    assert metrics.jaccard(fixed, warped) == pytest.approx(overlap / (2 - overlap))
    assert metrics.dice(warped, fixed) == overlap
    assert metrics.dice(fixed, fixed) == metrics.jaccard(fixed, fixed) == 1


def brute_force_hausdorff(fixed, warped, spacing, percentile):
    """All pairs of surface voxels; a surface voxel lacks one of its six neighbours."""

    def surface(mask):
        inside = np.pad(mask, 1)
        kept = inside.copy()
        for axis in range(3):
            kept &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
        return np.argwhere(mask & ~kept[1:-1, 1:-1, 1:-1]) * spacing

    apart = distance.cdist(surface(fixed), surface(warped))
    there, back = apart.min(axis=1), apart.min(axis=0)
    return max(np.percentile(there, percentile), np.percentile(back, percentile))


@pytest.mark.parametrize("seed", range(6))
def test_hausdorff_equals_all_pairs(seed):
    fixed, warped = blob(seed), blob(seed + 30, share=0.1)
    expected = brute_force_hausdorff(fixed, warped, SPACING, 95)
    assert metrics.hausdorff95(fixed, warped, spacing=SPACING) == pytest.approx(
        expected
    )
    # The test is sensitive: the value is neither the maximum nor the isotropic one.
    assert expected != brute_force_hausdorff(fixed, warped, SPACING, 100)
    assert expected != brute_force_hausdorff(fixed, warped, (1, 1, 1), 95)


@pytest.mark.parametrize("seed", range(4))
def test_hausdorff_equals_simpleitk_surface_distances(seed):
    """LabelContour draws the same surface; Maurer's map gives the distances to it."""
    # ITK counts no face on the volume's edge as surface: keep one voxel away from it.
    fixed, warped = (np.pad(blob(s, share=0.2), 1) for s in (seed, seed + 40))

    def surface(mask):
        drawn = sitk.LabelContour(itk(mask, SPACING), fullyConnected=False)
        inner = sitk.BinaryErode(  # of a cross: the other name of the same definition
            itk(mask, SPACING), (1, 1, 1), sitk.sitkCross, 0, 1, False
        )
        shell = sitk.Subtract(itk(mask, SPACING), inner)
        first, second = (sitk.GetArrayFromImage(image) for image in (drawn, shell))
        assert np.array_equal(first, second)
        return drawn

    def directed(start, end):
        to_end = sitk.SignedMaurerDistanceMap(
            end, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
        )
        far = np.maximum(sitk.GetArrayFromImage(to_end), 0)
        return far[sitk.GetArrayFromImage(start) > 0]

    pair = surface(fixed), surface(warped)
    expected = max(
        np.percentile(directed(*pair), 95), np.percentile(directed(*pair[::-1]), 95)
    )
    value = metrics.hausdorff95(fixed, warped, spacing=SPACING)
    assert value == pytest.approx(expected, rel=1e-5)


def test_hausdorff_stays_below_simpleitk_maximum():
    fixed, warped = (np.pad(blob(s), 1) for s in (1, 51))
    oracle = sitk.HausdorffDistanceImageFilter()
    oracle.Execute(itk(fixed, SPACING), itk(warped, SPACING))
    value = metrics.hausdorff95(fixed, warped, spacing=SPACING)
    assert 0 < value < oracle.GetHausdorffDistance()


@pytest.mark.parametrize("axis", range(3))
def test_hausdorff_of_a_shifted_plate_is_the_shift_in_mm(axis):
    fixed = np.zeros(SHAPE, bool)
    plate: list = [slice(None)] * 3
    plate[axis] = 3
    fixed[tuple(plate)] = True
    warped = np.roll(fixed, 5, axis)
    value = metrics.hausdorff95(fixed, warped, spacing=SPACING)
    assert value == pytest.approx(5 * SPACING[axis])
    assert metrics.hausdorff95(fixed, fixed, spacing=SPACING) == 0


def test_hausdorff_is_the_larger_direction_and_symmetric():
    fixed = np.zeros(SHAPE, bool)
    fixed[5, 5, 5] = True
    warped = fixed.copy()
    warped[15, 5, 5] = True  # from warped to fixed some are far, the other way none is
    args = {"spacing": (1, 1, 1)}
    assert metrics.hausdorff95(fixed, warped, **args) == pytest.approx(9.5)
    assert metrics.hausdorff95(warped, fixed, **args) == pytest.approx(9.5)


def test_outside_the_volume_is_background():
    full = np.ones(SHAPE, bool)
    core = np.zeros(SHAPE, bool)
    core[1:-1, 1:-1, 1:-1] = True
    assert metrics.hausdorff95(full, core, spacing=(1, 1, 1)) == pytest.approx(
        brute_force_hausdorff(full, core, (1, 1, 1), 95)
    )


def test_empty_masks():
    empty, some = np.zeros(SHAPE), blob(3)
    assert np.isnan(metrics.dice(empty, empty))
    assert np.isnan(metrics.jaccard(empty, empty))
    assert np.isnan(metrics.hausdorff95(empty, empty, spacing=SPACING))
    assert metrics.dice(empty, some) == metrics.jaccard(some, empty) == 0
    assert metrics.hausdorff95(empty, some, spacing=SPACING) == np.inf
    assert metrics.hausdorff95(some, empty, spacing=SPACING) == np.inf


def test_unequal_shapes_are_refused_not_broadcast():
    with pytest.raises(ValueError, match="equal shape"):
        metrics.dice(np.ones(SHAPE), np.ones((1, 17, 12)))


def label_maps() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    values = np.array([0, 2, 3, 17, 53, 2035, 2**31 - 1], np.int32)
    fixed = values[rng.integers(0, len(values), SHAPE)]
    warped = np.where(rng.random(SHAPE) < 0.6, fixed, np.roll(fixed, 1, 0))
    return fixed, warped


def test_dice_of_single_labels_equals_simpleitk_and_that_of_masks():
    fixed, warped = label_maps()
    values = [2, 3, 17, 53, 2035, 2**31 - 1]
    single = {value: (value,) for value in [*values, 0, 99, 54]}
    result = metrics.region_dice(fixed, warped, single)
    for value in [*values, 0]:
        one = metrics.dice(fixed == value, warped == value)
        assert result[value] == pytest.approx(one)
    assert np.isnan(result[99]) and np.isnan(result[54])  # in neither map
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    oracle.Execute(itk(fixed % 5000), itk(warped % 5000))
    for value in values[:-1]:
        assert result[value] == pytest.approx(oracle.GetDiceCoefficient(value))


def test_region_dice_is_the_dice_of_the_union():
    fixed, warped = label_maps()
    regions = {"a": (2, 3), "b": (53,), "shares with a": (3, 17, 2035), "none": (7, 8)}
    result = metrics.region_dice(fixed, warped, regions)
    for name in ("a", "b", "shares with a"):
        union = metrics.dice(
            np.isin(fixed, regions[name]), np.isin(warped, regions[name])
        )
        assert result[name] == pytest.approx(union)
    assert np.isnan(result["none"])
    assert metrics.region_dice(fixed, warped, {}) == {}


def test_a_label_in_one_map_only_has_dice_zero():
    fixed, warped = np.zeros((2, *SHAPE), np.int16)
    fixed[3, 4, 5] = 9
    assert metrics.region_dice(fixed, warped, {"a": (9,)}) == {"a": 0.0}


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, 1), (3, 1), (4, 2), (10, 3), (11, 4), (40, 12), (103, 31)],
)
def test_lowest30_takes_ceil_of_three_tenths(count, expected):
    values = np.random.default_rng(count).permutation(count).astype(float)
    assert metrics.lowest30(values).tolist() == list(range(expected))


def test_lowest30_ignores_nan():
    assert metrics.lowest30([np.nan, 0.9, 0.7, np.nan]).tolist() == [0.7]
    assert metrics.lowest30([]).size == 0
