"""The cubes of a pair: where a foreground lies on them."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.registration import levels
from mdvit_jax.registration.foreground import Foreground, segment_foreground
from oracle import heads
from test_foreground import segment
from test_transforms import GRIDS, affine


@pytest.fixture(scope="module")
def head():
    return heads.coarse_head()


@pytest.mark.parametrize(
    ("scales", "why"),
    [
        ((1e3, 1e3, 1e3), "1000 times as large as that of head.nii (1"),
        ((1e-3, 1e-3, 1e-3), "1000 times as large as that of odd.nii (1"),
        ((1e-3, 1, 1), "odd.nii shows an object only 0.128 mm thick"),
        ((1, 15, 15), "head.nii shows"),
    ],
)
def test_voxel_sizes_that_cannot_be_are_caught_in_a_sentence(head, scales, why):
    """Before cubes of them would take all time and memory."""
    data, _, matrix = head
    other = segment_foreground(data, matrix @ np.diag([*scales, 1.0]), name="odd.nii")
    plain = segment(data[:, :, 20:24] if why.startswith("head") else data, matrix)
    for both in ((plain, other), (other, plain)):
        with pytest.raises(errors.UserError) as caught:
            levels.build_pair(*both)
        assert why in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def pair(head):
    data, _, matrix = head
    there = affine(4) @ matrix
    return levels.build_pair(segment(data, matrix), segment(data, there))


@pytest.mark.parametrize("size", levels.SIZES)
def test_voxels_and_world_are_inverse(pair, size):
    matrix = affine(5)
    again = pair.to_world(pair.to_voxels(matrix, size), size)
    assert np.abs(again - matrix).max() < 1e-9


@pytest.mark.parametrize("size", levels.SIZES)
def test_voxels_lie_at_their_places_in_the_world(pair, size):
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
    blob_image = Foreground(
        image, np.ones(shape, bool), np.ones_like(image), grid.affine, middle,
        radius, True, "it",
    )  # fmt: skip
    pair = levels.build_pair(blob_image, blob_image)
    for size, (level, _) in pair.cubes.items():
        step = pair.voxel * 96 / size
        result = ndimage.center_of_mass(level.image)
        expected = (blob - middle) / step + (size - 1) / 2
        assert np.abs(result - expected).max() < 0.02


ORDERS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


def reordered(data, matrix, axes, flips):
    """The same image with the file's axes permuted and some of them reversed."""
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, old in enumerate(axes):
        to_old[old, new] = -1 if flips[new] else 1
        to_old[old, 3] += (data.shape[old] - 1) if flips[new] else 0
    data = np.flip(data.transpose(axes), np.flatnonzero(flips))
    return np.ascontiguousarray(data), matrix @ to_old


def test_the_order_of_axes_changes_no_cube(head):
    data, matrix = head[0][::2, ::2, ::2], affine(7) @ head[2] @ np.diag([2, 2, 2, 1])
    first = levels.build_pair(*2 * [segment(data, matrix)])
    for axes, flips in ORDERS:
        foreground = segment(*reordered(data, matrix, axes, flips))
        assert np.abs(foreground.centre - first.fixed.centre).max() < 1e-9
        assert foreground.radius == pytest.approx(first.fixed.radius, abs=1e-9)
        cube = levels._pyramid(foreground, first.voxel)
        for size, level in zip(levels.SIZES, cube, strict=True):
            for one, other in zip(level, first.cubes[size][0], strict=True):
                assert np.abs(one - other).max() < 1e-5
