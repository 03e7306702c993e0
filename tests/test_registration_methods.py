"""Other programs: their images and results lie at the same places as ours."""

import importlib
import itertools

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from benchmarks.registration import compare, scans
from mdvit_jax import errors
from mdvit_jax.evaluation.methods import CLASSICAL, itk_grid
from mdvit_jax.io.image import Image, from_array

_SIGNS = [(1, 1, 1), (-1, 1, 1), (1, -1, -1)]
_PEERS = ["ants", "elastix", "simpleitk"]


def oblique(signs) -> np.ndarray:
    """An affine with permuted, flipped and oblique axes of three voxel sizes."""
    turn = Rotation.from_euler("xyz", [15, -10, 20], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(signs) @ np.roll(np.diag([3.0, 3.5, 2.5]), 1, 0)
    affine[:3, 3] = [40, -70, 25]
    return affine


def brain(affine) -> Image:
    """An asymmetric object with two tissues, 36×44×40."""
    random = np.random.default_rng(5)
    shape = (36, 44, 40)
    at = np.moveaxis(np.indices(shape), 0, -1) / np.array(shape) * 2 - 0.95
    inside = (at**2).sum(axis=-1) + 0.4 * at[..., 0] * at[..., 1] < 0.6
    texture = ndimage.gaussian_filter(random.normal(size=shape), 2.5) > 0
    smooth = ndimage.gaussian_filter((0.4 + 0.5 * texture) * inside, 0.7)
    return scans.image(smooth, affine)


@pytest.mark.parametrize("signs", _SIGNS)
@pytest.mark.parametrize("name", _PEERS)
def test_a_rigid_move_comes_back(name, signs):
    """The moving image has the same voxels and another header."""
    pytest.importorskip(CLASSICAL[name][1])
    fixed = brain(oblique(signs))
    truth = np.eye(4)
    truth[:3, :3] = Rotation.from_euler("xyz", [8, -12, 5], degrees=True).as_matrix()
    truth[:3, 3] = [12, -7, 20]
    moving = from_array(fixed.data, truth @ fixed.affine)
    matrix = compare.align_pair(name, fixed, moving)
    points = np.argwhere(fixed.data > 0.2) @ fixed.affine[:3, :3].T
    points += fixed.affine[:3, 3]
    change = (matrix - truth)[:3]
    error = np.linalg.norm(points @ change[:, :3].T + change[:, 3], axis=1)
    assert error.mean() < 0.3  # mm; a tenth of a voxel


def first_and_centres(name, image, corners):
    """Three corners in LPS+ mm and the value of voxel (9, 20, 30), by the program."""
    if name == "ants":
        ants = importlib.import_module("ants")
        to_world = ants.transform_index_to_physical_point
        return [to_world(image, c) for c in corners], image.numpy()[9, 20, 30]
    to_world = image.TransformIndexToPhysicalPoint
    return [to_world(c) for c in corners], image.GetPixel((9, 20, 30))


@pytest.mark.parametrize("signs", _SIGNS)
@pytest.mark.parametrize("name", _PEERS)
def test_voxels_lie_at_their_places_in_the_world(name, signs):
    pytest.importorskip(CLASSICAL[name][1])
    method = importlib.import_module(f"mdvit_jax.evaluation.methods.{name}")
    source = brain(oblique(signs))
    data, affine = source.data, source.affine
    convert = method.to_ants if name == "ants" else method.to_itk
    image = convert(source)
    corners = list(itertools.product(*((0, n - 1) for n in data.shape)))
    points, value = first_and_centres(name, image, corners)
    expected = [np.diag([-1, -1, 1]) @ (affine @ [*c, 1])[:3] for c in corners]
    np.testing.assert_allclose(points, expected, atol=1e-4)
    assert value == data[9, 20, 30]


def test_a_sheared_image_is_refused():
    affine = oblique((1, 1, 1))
    affine[:3, 1] += 0.1 * affine[:3, 0]
    with pytest.raises(errors.UserError, match="right angles"):
        itk_grid.itk_geometry(affine)


def test_a_matrix_comes_from_points():
    expected = np.diag([-1.0, -1, 1, 1]) @ (np.eye(4) + np.arange(16).reshape(4, 4) / 9)
    expected[3] = [0, 0, 0, 1]
    to_lps = np.diag([-1, -1, 1])

    def transform_point(point):
        ras = np.append(to_lps @ point, 1)
        return to_lps @ (expected @ ras)[:3]

    np.testing.assert_allclose(
        itk_grid.affine_matrix(transform_point), expected, atol=1e-12
    )
