"""The cases that registration methods are compared on."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from benchmarks.registration import cases, contrasts, heads, scans
from mdvit_jax.transforms import resample

# Oblique, with two axes flipped and voxels of three sizes.
_TURN = Rotation.from_euler("xyz", [20, -15, 40], degrees=True).as_matrix()
AFFINE = np.eye(4)
AFFINE[:3, :3] = _TURN @ np.diag([-2.0, 1.5, -1.8])
AFFINE[:3, 3] = [60, -20, 45]


@pytest.fixture(scope="module")
def blob() -> scans.Scan:
    """A smooth asymmetric object that nearly fills its grid."""
    random = np.random.default_rng(1)
    shape = (34, 40, 30)
    at = np.moveaxis(np.indices(shape), 0, -1) / np.array(shape) * 2 - 0.97
    mask = (at**2).sum(axis=-1) + 0.3 * at[..., 0] * at[..., 1] < 0.85
    texture = ndimage.gaussian_filter(random.normal(size=shape), 2.5)
    data = np.clip(0.5 + 0.2 * texture / texture.std(), 0.1, 1) * mask
    return scans.Scan(scans.image(data, AFFINE), mask)


def test_a_moved_brain_lies_where_its_affine_says(blob):
    centre = (AFFINE @ [17, 20, 15, 1])[:3]
    truth = cases.small_affine(np.random.default_rng(2), centre)
    moved = cases.move_scan(blob, truth)
    image = moved.image
    back = resample(image.data, image.affine, truth, blob.image.grid)
    inside = ndimage.binary_erosion(blob.mask, iterations=2)
    assert np.abs(back - blob.image.data)[inside].mean() < 0.01
    # Nothing was cut: all borders are empty, and the volume changed by the affine's.
    assert not any(moved.mask.take((0, 1, -2, -1), axis=a).any() for a in range(3))
    volume = blob.mask.sum() * np.linalg.det(truth[:3, :3])
    assert moved.mask.sum() == pytest.approx(volume, rel=0.01)
    assert not image.data[~moved.mask].any()


def test_the_error_of_a_shift_is_its_length(blob):
    points = np.random.default_rng(3).normal(size=(50, 3)) * 60
    truth = cases.small_affine(np.random.default_rng(4), points.mean(axis=0))
    case = cases.KnownAffine(blob.image, blob.image, truth, points)
    shift = np.eye(4)
    shift[:3, 3] = [1, 2, -2]
    assert case.measure(truth) == 0
    assert case.measure(shift @ truth) == pytest.approx(3)


def test_two_runs_agree_where_one_answer_follows_from_the_other(blob):
    points = np.random.default_rng(5).normal(size=(50, 3)) * 60
    truth = cases.small_affine(np.random.default_rng(6), points.mean(axis=0))
    away = cases.small_affine(np.random.default_rng(7), np.zeros(3))
    moved = heads._moved(blob.image, blob.image, away, points)
    assert np.allclose(moved.second[1].affine, away @ AFFINE)
    assert moved.measure(truth, away @ truth) == pytest.approx(0, abs=1e-9)
    shift = np.eye(4)
    shift[:3, 3] = [1, 2, -2]
    assert moved.measure(shift @ truth, away @ truth) == pytest.approx(3)


@pytest.mark.parametrize("contrast", contrasts.CONTRASTS)
def test_a_contrast_stays_within_bounds_and_mask(contrast, blob):
    changed = contrasts.change(blob.image.data, blob.mask, contrast)
    assert changed.min() >= 0 and changed.max() <= 1
    assert not changed[~blob.mask].any()
    assert changed.dtype == np.float32
    assert (contrast == "gamma 1") == np.array_equal(changed, blob.image.data)


def test_t2_like_orders_the_tissues_the_other_way_round():
    values = np.linspace(0, 1, 1001)
    new = contrasts.CONTRASTS["T2-like"](values)
    fluid, grey, white = new[[50, 400, 800]]
    assert fluid > grey > white > 0 == new[0]


def test_a_coarser_image_lies_where_the_fine_one_does(blob):
    coarse = cases.resample_coarser(blob.image, 3.0)
    np.testing.assert_allclose(coarse.grid.voxel_sizes, 3)

    def centre(image):
        at = np.array(ndimage.center_of_mass(image.data))
        return image.affine[:3, :3] @ at + image.affine[:3, 3]

    np.testing.assert_allclose(centre(coarse), centre(blob.image), atol=0.1)


def test_no_pair_is_of_one_person():
    pairs = scans.oasis_pairs()
    assert len(set(pairs)) == len(pairs) == 16 * 15 - 2
    assert not {("1003", "1023"), ("1023", "1003")} & set(pairs)


def test_a_brain_without_a_move_overlaps_itself(real_data, monkeypatch):
    monkeypatch.setenv("MDVIT_DATA", str(real_data))
    pair = cases.labelled_pair("1000", "1000", "gamma 2")
    assert pair.measure(np.eye(4)) == 1
    shift = np.eye(4)
    shift[0, 3] = 4
    assert 0.3 < pair.measure(shift) < 0.9


def test_masks_are_measured_on_their_own_grid():
    """A pair with masks at 3 mm: the identity has Dice 1, a shift of 2 mm less."""
    mask = np.zeros((20, 24, 22), np.float32)
    mask[4:14, 6:18, 5:15] = 1
    brain = cases.scans.image(mask * 0.5, np.eye(4))
    inside = cases.scans.image(mask, np.eye(4))
    pair = cases.at_spacing(3.0, cases.MaskedPair, brain, brain, inside, inside)
    assert pair.fixed.data.shape == (7, 8, 8)
    assert pair.measure(np.eye(4)) == 1
    shift = np.eye(4)
    shift[0, 3] = 2
    assert pair.measure(shift) == pytest.approx(0.8)
