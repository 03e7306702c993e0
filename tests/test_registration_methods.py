"""Other programs' methods: their images lie where ours do, and so do their results."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from benchmarks.registration import itk_grid, methods, scans
from mdvit_jax import errors

_SIGNS = [(1, 1, 1), (-1, 1, 1), (1, -1, -1)]


def oblique(signs) -> np.ndarray:
    """An affine with its axes permuted, flipped, turned and of three sizes."""
    turn = Rotation.from_euler("xyz", [15, -10, 20], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(signs) @ np.roll(np.diag([3.0, 3.5, 2.5]), 1, 0)
    affine[:3, 3] = [40, -70, 25]
    return affine


def brain(affine) -> scans.images.Image:
    """Something lopsided with two tissues, 36×44×40."""
    random = np.random.default_rng(5)
    shape = (36, 44, 40)
    at = np.moveaxis(np.indices(shape), 0, -1) / np.array(shape) * 2 - 0.95
    inside = (at**2).sum(axis=-1) + 0.4 * at[..., 0] * at[..., 1] < 0.6
    texture = ndimage.gaussian_filter(random.normal(size=shape), 2.5) > 0
    smooth = ndimage.gaussian_filter((0.4 + 0.5 * texture) * inside, 0.7)
    return scans.image(smooth, affine)


@pytest.mark.parametrize("signs", _SIGNS)
@pytest.mark.parametrize("name", ["ants", "elastix"])
def test_a_rigid_move_comes_back(name, signs):
    """The moving image has the same voxels, and a header that was moved."""
    pytest.importorskip(methods.PACKAGES[name][0])
    fixed = brain(oblique(signs))
    truth = np.eye(4)
    truth[:3, :3] = Rotation.from_euler("xyz", [8, -12, 5], degrees=True).as_matrix()
    truth[:3, 3] = [12, -7, 20]
    moving = fixed._replace(affine=truth @ fixed.affine)
    found = methods.METHODS[name](fixed, moving)
    if signs == _SIGNS[0]:
        np.testing.assert_allclose(methods.METHODS[name](fixed, moving), found)
    points = np.argwhere(fixed.data > 0.2) @ fixed.affine[:3, :3].T
    points += fixed.affine[:3, 3]
    apart = (found - truth)[:3]
    error = np.linalg.norm(points @ apart[:, :3].T + apart[:, 3], axis=1)
    assert error.mean() < 0.3  # mm; a tenth of a voxel


@pytest.mark.parametrize("signs", _SIGNS)
def test_voxels_lie_where_the_affine_says(signs):
    image = brain(oblique(signs))
    corners = list(itertools.product(*((0, n - 1) for n in image.data.shape)))
    to_lps = np.diag([-1, -1, 1])
    expected = [to_lps @ (image.affine @ [*c, 1])[:3] for c in corners]
    itk = pytest.importorskip("itk")
    of_itk = itk_grid.itk_image(image)
    found = [of_itk.TransformIndexToPhysicalPoint(c) for c in corners]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert of_itk.GetPixel((9, 20, 30)) == image.data[9, 20, 30]
    assert itk.size(of_itk) == list(image.data.shape)
    ants = pytest.importorskip("ants")
    of_ants = itk_grid.ants_image(image)
    found = [ants.transform_index_to_physical_point(of_ants, c) for c in corners]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(of_ants.numpy(), image.data)


def test_a_sheared_image_is_refused():
    affine = oblique((1, 1, 1))
    affine[:3, 1] += 0.1 * affine[:3, 0]
    with pytest.raises(errors.UserError, match="right angles"):
        itk_grid.geometry(affine)


def test_a_matrix_is_found_from_points():
    expected = np.diag([-1.0, -1, 1, 1]) @ (np.eye(4) + np.arange(16).reshape(4, 4) / 9)
    expected[3] = [0, 0, 0, 1]
    to_lps = np.diag([-1, -1, 1])

    def of_itk(point):
        ras = np.append(to_lps @ point, 1)
        return to_lps @ (expected @ ras)[:3]

    np.testing.assert_allclose(itk_grid.matrix_of(of_itk), expected, atol=1e-12)


def test_a_missing_package_is_told_in_a_sentence(monkeypatch):
    monkeypatch.setitem(methods.PACKAGES, "ants", ("no_such_module", "antspyx"))
    assert "pip install 'mdvit-jax[peers]'" in methods.missing("ants")
    assert methods.missing("ours") is None
