"""Which voxels of an image are its foreground."""

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mdvit_jax import errors
from mdvit_jax.registration.foreground import (
    Foreground,
    coarsen,
    segment_foreground,
)
from oracle import heads


@pytest.fixture(scope="module")
def head():
    return heads.coarse_head()


def segment(data, matrix, **more):
    return segment_foreground(np.asarray(data), matrix, name="head.nii", **more)


def on_grid(foreground: Foreground, matrix, shape):
    """The foreground as voxels of the file."""
    offset = np.linalg.solve(matrix, foreground.affine @ [0, 0, 0, 1])[:3]
    inside = np.zeros(shape, bool)
    start = np.rint(offset).astype(int)
    inside[tuple(map(slice, start, start + foreground.inside.shape))] = (
        foreground.inside
    )
    return inside


def test_a_small_head_is_no_less_fine(head):
    """That of a mouse, a twelfth as large, keeps as many voxels."""
    data, _, matrix = head
    fine = ndimage.zoom(data, 4, order=1)
    matrix = matrix @ np.diag([1 / 4, 1 / 4, 1 / 4, 1])
    whole = coarsen(segment(fine, matrix))
    mouse = coarsen(segment(fine, np.diag([1 / 12, 1 / 12, 1 / 12, 1]) @ matrix))
    assert np.all(np.array(whole.image.shape) < fine.shape)
    assert np.all(np.array(mouse.image.shape) >= whole.image.shape)
    assert mouse.inside.any()


@pytest.mark.parametrize("levels", [None, 255])
def test_a_field_of_view_with_noise_is_no_brain(head, levels):
    """Cut through the head, so that its border is as smooth as tissue."""
    data, inside, matrix = head
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.04, (2, *data.shape))
    scan = np.hypot(np.where(inside, data, 0) + noise[0], noise[1])
    scan = scan[:, :, scan.shape[2] // 3 : 2 * scan.shape[2] // 3]
    if levels:
        scan = np.round(scan / scan.max() * levels)
    result = segment(np.pad(scan, 3), matrix)
    assert not result.clean
    within = inside[:, :, inside.shape[2] // 3 : 2 * inside.shape[2] // 3]
    voxel = abs(np.linalg.det(matrix[:3, :3]))
    assert result.volume < 1.3 * voxel * within.sum()


@pytest.mark.parametrize("background", [0.0, -1000.0, 7.5, 1.0])
@pytest.mark.parametrize("inverted", [False, True])
def test_an_empty_background_of_any_value(head, background, inverted):
    data, inside, matrix = head
    values = np.where(inside, 1 - data if inverted else data, background)
    result = segment(values, matrix)
    assert result.clean
    assert (on_grid(result, matrix, data.shape) == inside).mean() > 0.9999
    within = result.image[result.inside]
    assert within.min() >= -0.05 and within.max() <= 1.05 and within.std() > 0.1
    assert (result.image[~result.inside] == 0).all()


def test_centre_and_radius(head):
    data, inside, matrix = head
    result = segment(data, matrix)
    points = np.argwhere(inside) @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.abs(result.centre - points.mean(0)).max() < 1e-9
    far = np.linalg.norm(points - points.mean(0), axis=1).max()
    assert result.radius == pytest.approx(far)


@pytest.mark.parametrize("level", [0.02, 0.05])
def test_a_noisy_background(head, level):
    data, inside, matrix = head
    random = np.random.default_rng(0)
    noise = np.abs(random.normal(0, level, (2, *data.shape))).sum(0)
    result = segment(0.3 * inside + data + noise, matrix)
    assert not result.clean
    object_ = on_grid(result, matrix, data.shape)
    dice = 2 * (object_ & inside).sum() / (object_.sum() + inside.sum())
    assert dice > 0.95


def test_holes_of_a_noisy_image_are_filled(head):
    data, inside, matrix = head
    noise = np.random.default_rng(0).uniform(0, 0.05, data.shape)
    hole = ndimage.binary_erosion(inside, iterations=6)
    result = segment(np.where(hole, 0.0, 0.3 * inside + data) + noise, matrix)
    assert on_grid(result, matrix, data.shape)[hole].all()


def test_a_mask_weighs_and_decides_centre_and_radius(head):
    data, inside, matrix = head
    mask = np.ones(data.shape, bool)
    mask[:20] = False
    masked = segment(data, matrix, mask=mask)
    assert (on_grid(masked, matrix, data.shape)[20:] == inside[20:]).all()
    points = np.argwhere(inside & mask) @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.abs(masked.centre - points.mean(0)).max() < 1e-9
    far = np.linalg.norm(points - masked.centre, axis=1).max()
    assert masked.radius == pytest.approx(far)
    assert (masked.weight[0] == 0).all() and (masked.weight[4:-1] == 1).all()
    assert (segment(data, matrix).weight == 1).all()


def rician(data, deviation, seed=0):
    random = np.random.default_rng(seed)
    noise = random.normal(0, deviation, (2, *data.shape))
    return np.hypot(data + noise[0], noise[1])


def smoothed(data):
    return ndimage.gaussian_filter(data, 0.45)  # 4.2 mm at half maximum


def turned(data, order):
    turn = Rotation.from_euler("xyz", [8, -5, 12], degrees=True).as_matrix()
    middle = (np.array(data.shape) - 1) / 2
    return ndimage.affine_transform(
        data.astype(np.float32), turn, middle - turn @ middle, order=order
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data,
        smoothed,
        lambda data: turned(data, 1),
        lambda data: turned(data, 3),
        lambda data: np.rint(1000 * turned(data, 3)).astype(np.int16),
        lambda data: np.where(data > 0, data, rician(0 * data, 1e-6) * HALF),
        lambda data: np.rint(250 * data).astype(np.uint8),
    ],
)
def test_a_brain_keeps_its_volume(head, change):
    """Smoothed, interpolated, or with a nearly empty background."""
    data, inside, matrix = head
    brain = np.where(inside, 0.3 + 0.7 * data, 0)
    result = segment(change(brain), matrix)
    assert result.clean
    assert result.inside.sum() == pytest.approx(inside.sum(), rel=0.07)


HALF = np.indices((46, 46, 46))[0] < 23


def test_blends_of_large_voxels_are_no_noise(head):
    """As many as the tissue's own, where a brain is some ten voxels wide."""
    data, inside, matrix = head
    brain = ndimage.gaussian_filter(np.where(inside, 0.3 + 0.7 * data, 0), 5)
    brain = np.where(brain > 1e-4, brain, 0)[::4, ::4, ::4]
    assert segment(np.pad(brain, 8), matrix @ np.diag([4, 4, 4, 1])).clean


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8])
@pytest.mark.parametrize("deviation", [0.002, 0.03])
def test_a_padded_head_is_its_head(head, dtype, deviation):
    """Zeros around a field of view full of noise, as in FreeSurfer's orig.mgz."""
    data, inside, matrix = head
    scan = rician(np.where(inside, 0.3 + 0.7 * data, 0), deviation)
    scan = scan if dtype == np.float32 else np.rint(200 * scan)
    padded = np.pad(scan, ((0, 0), (30, 50), (20, 10))).astype(dtype)
    there = matrix.copy()
    there[:3, 3] -= matrix[:3, :3] @ [0, 30, 20]
    result = segment(padded, there)
    mask = np.pad(inside, ((0, 0), (30, 50), (20, 10)))
    object_ = on_grid(result, there, padded.shape)
    assert 2 * (object_ & mask).sum() / (object_.sum() + mask.sum()) > 0.98


def test_fine_voxels_are_averaged(head):
    """Of 0.25 mm along two axes: the same object, in little memory."""
    data, inside, matrix = head
    coarse = (1000 * np.where(inside, 0.3 + 0.7 * data, 0)).astype(np.int16)
    mask = np.indices(data.shape)[0] > 20
    expected = segment(coarse, matrix, mask=mask)
    parts = np.array([17, 17, 1])
    fine = matrix @ np.diag([*1 / parts, 1])
    fine[:3, 3] = matrix[:3, 3] + fine[:3, :3] @ ((1 - parts) / 2)
    values, mask = (v.repeat(17, 0).repeat(17, 1) for v in (coarse, mask))
    tracemalloc.start()
    result = segment(values, fine, mask=mask)
    assert tracemalloc.get_traced_memory()[1] < 2.5 * values.nbytes
    tracemalloc.stop()
    assert result.inside.size < values.size / 8
    step = np.linalg.norm(fine[:3, 0])
    assert np.abs(result.centre - expected.centre).max() < step
    assert result.radius == pytest.approx(expected.radius, rel=0.04)


def test_thinned_out_it_is_the_same_object(head):
    """Fine voxels of unequal sides, with noise and a mask: volume, place, mask."""
    data, inside, matrix = head
    factor = np.array([4, 1, 3])
    fine = np.kron(np.where(inside, 0.3 + 0.7 * data, 0), np.ones(factor))
    fine = rician(fine, 0.02)
    affine = matrix @ np.diag([*1 / factor, 1])
    affine[:3, 3] += matrix[:3, :3] @ ((1 / factor - 1) / 2)
    mask = np.indices(fine.shape)[0] < fine.shape[0] / 2
    whole, thin = (
        segment(fine, affine, mask=mask, thin_out=thin_out)
        for thin_out in (False, True)
    )
    steps = np.linalg.norm(thin.affine[:3, :3], axis=0)
    assert (steps > 1.5).all() and thin.image.size < whole.image.size / 5
    seen = [
        image._replace(inside=image.inside & (image.weight > 0)).volume
        for image in (whole, thin)
    ]
    assert seen[1] == pytest.approx(seen[0], rel=0.03)
    np.testing.assert_allclose(thin.centre, whole.centre, atol=0.6)
    assert thin.radius == pytest.approx(whole.radius, rel=0.06)
    assert thin.clean == whole.clean


def test_a_field_of_view_is_no_outline(head):
    data, inside, matrix = head
    noisy = rician(np.where(inside, 0.3 + 0.7 * data, 0), 0.02)
    for scan in (noisy[:, :, 15:], np.pad(noisy[:, :, 15:], 9)):
        result = segment(scan, matrix)
        cut = result.weight[:, :, 0] if scan.shape == noisy.shape else result.weight
        assert (result.weight == 0).any() and (result.weight == 1).mean() > 0.8
        assert not (cut[result.inside[:, :, 0]] if cut.ndim == 2 else False)


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
