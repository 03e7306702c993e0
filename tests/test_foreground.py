"""Which voxels of an image are its foreground."""

import numpy as np
import pytest
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.registration.foreground import Foreground, segment_foreground
from oracle import heads


@pytest.fixture(scope="module")
def head():
    """The head as [x, y, z], which voxels it fills, and its affine."""
    shape, matrix = heads.grid(46, 4.0)
    data = heads.head(shape, matrix)
    return data, data > 0, matrix


def segment(data, matrix, **more):
    return segment_foreground(np.asarray(data), matrix, name="head.nii", **more)


def on_grid(foreground: Foreground, matrix, shape):
    """Which voxels of the file are foreground."""
    offset = np.linalg.solve(matrix, foreground.affine @ [0, 0, 0, 1])[:3]
    inside = np.zeros(shape, bool)
    start = np.rint(offset).astype(int)
    inside[tuple(map(slice, start, start + foreground.inside.shape))] = (
        foreground.inside
    )
    return inside


@pytest.mark.parametrize("background", [0.0, -1000.0, 7.5, 1.0])
@pytest.mark.parametrize("inverted", [False, True])
def test_an_empty_background_of_any_value(head, background, inverted):
    data, inside, matrix = head
    values = np.where(inside, 1 - data if inverted else data, background)
    found = segment(values, matrix)
    assert found.empty_background
    assert (on_grid(found, matrix, data.shape) == inside).mean() > 0.9999
    within = found.image[found.inside]
    assert within.min() >= -0.05 and within.max() <= 1.05 and within.std() > 0.1
    assert (found.image[~found.inside] == 0).all()


def test_centre_and_radius(head):
    data, inside, matrix = head
    found = segment(data, matrix)
    points = np.argwhere(inside) @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.abs(found.centre - points.mean(0)).max() < 1e-9
    far = np.linalg.norm(points - points.mean(0), axis=1).max()
    assert found.radius == pytest.approx(far)


@pytest.mark.parametrize("level", [0.02, 0.05])
def test_a_noisy_background(head, level):
    data, inside, matrix = head
    random = np.random.default_rng(0)
    noise = np.abs(random.normal(0, level, (2, *data.shape))).sum(0)
    found = segment(0.3 * inside + data + noise, matrix)
    assert not found.empty_background
    object_ = on_grid(found, matrix, data.shape)
    dice = 2 * (object_ & inside).sum() / (object_.sum() + inside.sum())
    assert dice > 0.95


def test_holes_of_a_noisy_image_are_filled(head):
    data, inside, matrix = head
    noise = np.random.default_rng(0).uniform(0, 0.05, data.shape)
    hole = ndimage.binary_erosion(inside, iterations=6)
    found = segment(np.where(hole, 0.0, 0.3 * inside + data) + noise, matrix)
    assert on_grid(found, matrix, data.shape)[hole].all()


def test_a_mask_is_a_weight_and_no_cut(head):
    data, inside, matrix = head
    mask = np.ones(data.shape, bool)
    mask[:20] = False
    plain, masked = segment(data, matrix), segment(data, matrix, mask=mask)
    assert (plain.inside == masked.inside).all() and (plain.weight == 1).all()
    assert 0 < masked.weight.mean() < 1 and (plain.image == masked.image).all()


def few(data):
    """Single voxels, 63 in all."""
    values = np.zeros(data.size)
    values[:: data.size // 62] = np.arange(1, 64)
    return values.reshape(data.shape)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: (data > 0).astype(np.float32), "has one value throughout"),
        (few, "shows no object"),
        (lambda data: data[:, :, 20:23], "too thin"),
        (lambda data: data[20:21], "too thin"),
    ],
)
def test_nothing_to_align_is_refused_in_a_sentence(head, change, why):
    data, _, matrix = head
    with pytest.raises(errors.UserError) as caught:
        segment(change(data), matrix)
    assert why in str(caught.value)
    assert "head.nii" in str(caught.value) and "\n" not in str(caught.value)
