"""Which voxels are the object, and where it comes to lie on the cubes."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.registration import levels
from oracle import heads
from test_transforms import GRIDS, affine


@pytest.fixture(scope="module")
def head():
    """The head as [x, y, z], which voxels it fills, and its affine."""
    shape, matrix = heads.grid(46, 4.0)
    data = heads.head(shape, matrix)
    return data, data > 0, matrix


def find(data, matrix, **more):
    return levels.find(np.asarray(data), matrix, name="head.nii", **more)


def on_grid(thing: levels.Object, matrix, shape):
    """Which voxels of the file are the object's."""
    offset = np.linalg.solve(matrix, thing.affine @ [0, 0, 0, 1])[:3]
    found = np.zeros(shape, bool)
    start = np.rint(offset).astype(int)
    found[tuple(map(slice, start, start + thing.inside.shape))] = thing.inside
    return found


@pytest.mark.parametrize("background", [0.0, -1000.0, 7.5, 1.0])
@pytest.mark.parametrize("inverted", [False, True])
def test_an_empty_background_of_any_value(head, background, inverted):
    data, inside, matrix = head
    values = np.where(inside, 1 - data if inverted else data, background)
    found = find(values, matrix)
    assert found.bare
    assert (on_grid(found, matrix, data.shape) == inside).mean() > 0.9999
    within = found.image[found.inside]
    assert within.min() >= -0.05 and within.max() <= 1.05 and within.std() > 0.1
    assert (found.image[~found.inside] == 0).all()


def test_centre_and_radius(head):
    data, inside, matrix = head
    found = find(data, matrix)
    points = np.argwhere(inside) @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.abs(found.centre - points.mean(0)).max() < 1e-9
    far = np.linalg.norm(points - points.mean(0), axis=1).max()
    assert found.radius == pytest.approx(far)


@pytest.mark.parametrize("level", [0.02, 0.05])
def test_a_noisy_background(head, level):
    data, inside, matrix = head
    random = np.random.default_rng(0)
    noise = np.abs(random.normal(0, level, (2, *data.shape))).sum(0)
    found = find(0.3 * inside + data + noise, matrix)
    assert not found.bare
    object_ = on_grid(found, matrix, data.shape)
    dice = 2 * (object_ & inside).sum() / (object_.sum() + inside.sum())
    assert dice > 0.95


def test_holes_of_a_noisy_image_are_filled(head):
    data, inside, matrix = head
    noise = np.random.default_rng(0).uniform(0, 0.05, data.shape)
    hole = ndimage.binary_erosion(inside, iterations=6)
    found = find(np.where(hole, 0.0, 0.3 * inside + data) + noise, matrix)
    assert on_grid(found, matrix, data.shape)[hole].all()


def test_a_mask_is_a_weight_and_no_cut(head):
    data, inside, matrix = head
    mask = np.ones(data.shape, bool)
    mask[:20] = False
    plain, masked = find(data, matrix), find(data, matrix, mask=mask)
    assert (plain.inside == masked.inside).all() and (plain.weight == 1).all()
    assert 0 < masked.weight.mean() < 1 and (plain.image == masked.image).all()


def few(data):
    """Single voxels, 63 in all."""
    found = np.zeros(data.size)
    found[:: data.size // 62] = np.arange(1, 64)
    return found.reshape(data.shape)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: (data > 0).astype(np.float32), "has one value throughout"),
        (few, "shows no object"),
        (lambda data: data[:, :, 20:23], "too thin"),
        (lambda data: data[20:21], "too thin"),
    ],
)
def test_nothing_to_align_is_told_in_a_sentence(head, change, why):
    data, _, matrix = head
    with pytest.raises(errors.UserError) as told:
        find(change(data), matrix)
    assert why in str(told.value)
    assert "head.nii" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("scales", "why"),
    [
        ((1e3, 1e3, 1e3), "1000 times as large as that of head.nii (1"),
        ((1e-3, 1e-3, 1e-3), "1000 times as large as that of odd.nii (1"),
        ((1e-3, 1, 1), "odd.nii shows an object only 0.128 mm thick"),
        ((1, 15, 15), "head.nii shows"),
    ],
)
def test_voxel_sizes_that_cannot_be_are_told_in_a_sentence(head, scales, why):
    """Before cubes are made of them, which would take time and memory without end."""
    data, _, matrix = head
    other = levels.find(data, matrix @ np.diag([*scales, 1.0]), name="odd.nii")
    plain = find(data[:, :, 20:24] if why.startswith("head") else data, matrix)
    for both in ((plain, other), (other, plain)):
        with pytest.raises(errors.UserError) as told:
            levels.pair(*both)
        assert why in str(told.value) and "\n" not in str(told.value)


@pytest.fixture(scope="module")
def pair(head):
    data, _, matrix = head
    there = affine(4) @ matrix
    return levels.pair(find(data, matrix), find(data, there))


@pytest.mark.parametrize("size", levels.SIZES)
def test_voxels_and_world_are_inverse(pair, size):
    matrix = affine(5)
    again = pair.to_world(pair.to_voxels(matrix, size), size)
    assert np.abs(again - matrix).max() < 1e-9


@pytest.mark.parametrize("size", levels.SIZES)
def test_voxels_are_where_world_says(pair, size):
    matrix, step = affine(6), pair.voxel * 96 / size
    voxel = np.array([3.0, -2.0, 1.5])
    world = matrix @ [*(pair.fixed.centre + step * voxel), 1]
    moved = pair.to_voxels(matrix, size) @ [*voxel, 1]
    assert np.abs(pair.moving.centre + step * moved - world[:3]).max() < 1e-9


def test_a_cube_holds_its_object_however_it_is_turned(pair):
    for size, both in pair.cubes.items():
        middle = (size - 1) / 2
        for level in both:
            assert level.image.shape == level.inside.shape == (size,) * 3
            far = np.linalg.norm(np.argwhere(level.inside > 0.5) - middle, axis=1)
            assert far.max() < size / 2
    finest = pair.cubes[96][0].inside
    assert finest[[0, -1]].max() == 0 and finest[:, [0, -1]].max() == 0


@pytest.mark.parametrize("name", GRIDS)
def test_a_blob_is_where_it_is_in_the_world(name):
    grid = GRIDS[name]
    shape = tuple(np.ceil([45, 50, 55] / grid.voxel_sizes).astype(int))
    index = np.moveaxis(np.indices(shape), 0, -1)
    at = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    middle = at.reshape(-1, 3).mean(0)
    radius = np.linalg.norm(at - middle, axis=-1).max()
    blob = middle + np.array([1.7, -1.3, 2.1])
    image = np.exp(-((at - blob) ** 2).sum(-1) / (2 * 4**2)).astype(np.float32)
    thing = levels.Object(
        image, np.ones(shape, bool), np.ones_like(image), grid.affine, middle,
        radius, True, "it",
    )  # fmt: skip
    pair = levels.pair(thing, thing)
    for size, (level, _) in pair.cubes.items():
        step = pair.voxel * 96 / size
        found = ndimage.center_of_mass(level.image)
        expected = (blob - middle) / step + (size - 1) / 2
        assert np.abs(found - expected).max() < 0.02


ORDERS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


def reordered(data, matrix, axes, flips):
    """The same image with the file's axes in another order, some of them backwards."""
    of = np.zeros((4, 4))
    of[3, 3] = 1
    for new, old in enumerate(axes):
        of[old, new] = -1 if flips[new] else 1
        of[old, 3] += (data.shape[old] - 1) if flips[new] else 0
    data = np.flip(data.transpose(axes), np.flatnonzero(flips))
    return np.ascontiguousarray(data), matrix @ of


def test_the_order_of_axes_changes_no_cube(head):
    data, matrix = head[0][::2, ::2, ::2], affine(7) @ head[2] @ np.diag([2, 2, 2, 1])
    first = levels.pair(*2 * [find(data, matrix)])
    for axes, flips in ORDERS:
        thing = find(*reordered(data, matrix, axes, flips))
        assert np.abs(thing.centre - first.fixed.centre).max() < 1e-9
        assert thing.radius == pytest.approx(first.fixed.radius, abs=1e-9)
        cube = levels._pyramid(thing, first.voxel)
        for size, level in zip(levels.SIZES, cube, strict=True):
            for one, other in zip(level, first.cubes[size][0], strict=True):
                assert np.abs(one - other).max() < 1e-5
