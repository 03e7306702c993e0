"""Masks against the filters of SciPy, on shapes without symmetry."""

import numpy as np
import pytest
from scipy import ndimage

from mdvit_jax.data import morphology
from mdvit_jax.io import voxels


@pytest.fixture(params=[0, 1, 2], ids=["sparse", "half", "dense"])
def mask(request):
    random = np.random.default_rng(request.param)
    noise = ndimage.gaussian_filter(random.normal(size=(13, 17, 11)), 0.8)
    return noise > np.quantile(noise, (0.8, 0.5, 0.2)[request.param])


def test_an_erosion_takes_the_faces_for_inside(mask):
    expected = ndimage.binary_erosion(mask, border_value=1)
    assert np.array_equal(morphology.erode(mask), expected)


def test_what_is_thin_goes(mask):
    expected = ndimage.binary_opening(mask)
    assert np.array_equal(morphology.remove_thin(mask), expected)


def test_a_dilation_reaches_as_far_along_each_axis(mask):
    expected = ndimage.maximum_filter(mask, (7, 1, 5), mode="constant")
    assert np.array_equal(morphology.dilate(mask, (3, 0, 2)), expected)


def test_gaps_close(mask):
    padded = np.pad(mask, 4)
    for filtered in (ndimage.maximum_filter, ndimage.minimum_filter):
        padded = filtered(padded, (3, 5, 9), mode="constant")
    expected = padded[4:-4, 4:-4, 4:-4]
    assert np.array_equal(morphology.close(mask, (1, 2, 4)), expected)


def test_holes_are_filled(mask):
    expected = ndimage.binary_fill_holes(mask)
    assert np.array_equal(morphology.fill_holes(mask), expected)


def test_a_window_of_any_width(mask):
    widths = (4, 1, 6)
    views = np.lib.stride_tricks.sliding_window_view(mask, widths)
    expected = views.any((3, 4, 5))
    assert np.array_equal(morphology.any_in_window(mask, widths), expected)


def test_specks_go(mask):
    # What is largest stays, and what is at least a fifth of it.
    components, count = ndimage.label(mask)
    expected = np.zeros_like(mask)
    sizes = {label: (components == label).sum() for label in range(1, count + 1)}
    for label, size in sizes.items():
        if size >= 0.2 * max(sizes.values()):
            expected |= components == label
    assert np.array_equal(morphology.remove_specks(mask, 0.2), expected)
    nothing = np.zeros_like(mask)
    assert not morphology.remove_specks(nothing, 0.2).any()


def test_the_centroid_of_a_mask(mask):
    expected = ndimage.center_of_mass(mask)
    assert np.allclose(morphology.centroid(mask), expected, atol=1e-12)


def test_the_box_of_a_mask():
    mask = np.zeros((5, 6, 7), bool)
    assert mask[voxels.bounding_box(mask)].size == 0
    mask[1, 2, 3] = mask[3, 2, 5] = True
    expected = (slice(1, 4), slice(2, 3), slice(3, 6))
    assert voxels.bounding_box(mask) == expected
    assert np.array_equal(morphology.fill_holes(~mask), np.ones_like(mask))
