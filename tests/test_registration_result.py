"""The outputs of a result of `mdvit_jax.register`: image, transform, nibabel image."""

import nibabel as nib
import numpy as np
import pytest
from nitransforms import resampling

from mdvit_jax import errors, transforms
from mdvit_jax.io import coerce
from mdvit_jax.registration import quality, registration_result, similarity_metrics
from test_transforms import GRIDS, affine

MATRIX = np.eye(4)
MATRIX[:3, :3] += np.array([[0.05, 0.1, 0], [-0.08, -0.04, 0.02], [0, 0.06, 0.03]])
MATRIX[:3, 3] = 2, -1, 3


@pytest.fixture
def result():
    random = np.random.default_rng(0)
    fixed, moving = GRIDS["oblique"], GRIDS["radiological"]
    image = nib.Nifti1Image(random.uniform(0, 9, fixed.shape), fixed.affine)
    image.set_sform(fixed.affine, 4)
    image.header["descrip"], image.header["intent_code"] = b"the fixed image's", 3
    values = random.integers(-1000, 1000, moving.shape).astype(np.int16)
    values[[0, -1]] = values[:, [0, -1]] = -1024
    seen = nib.Nifti1Image(values, moving.affine)
    seen.header["descrip"] = b"the moving image's"
    measures = similarity_metrics.Measures(0.5, 0.25, 0.9)
    return registration_result.Registration(
        MATRIX,
        quality.Quality("ok", ()),
        measures,
        measures,
        transforms.decompose(MATRIX, np.zeros(3)),
        None,
        coerce.to_image(image, "fixed"),
        coerce.to_image(seen, "moving"),
        None,
    )


def test_the_image_is_written_with_the_fixed_grid_and_the_moving_values(
    result, tmp_path
):
    result.save(tmp_path / "w.nii.gz")
    written = nib.load(tmp_path / "w.nii.gz")
    assert written.get_data_dtype() == np.int16
    assert np.allclose(written.affine, GRIDS["oblique"].affine, atol=1e-4)
    assert written.header["sform_code"] == 4
    assert written.header["descrip"] == b"the moving image's"
    assert written.header["intent_code"] == 0
    values = np.asanyarray(written.dataobj)
    assert np.abs(values - result.warped).max() <= 0.5
    assert values.min() == -1024 == values[0, 0, 0]


def test_nitransforms_resamples_alike(result):
    transform = result.to_nitransforms()
    assert np.allclose(transform.matrix, MATRIX)
    data = result.moving.data.astype(np.float32)  # of integers it would round
    moving = nib.Nifti1Image(data, result.moving.affine)
    theirs = resampling.apply(
        transform, moving, order=1, cval=-1024, output_dtype=np.float32
    )
    assert np.allclose(theirs.affine, result.fixed.affine)
    # Within the outermost voxel centres; beyond them the two fill differently.
    at = np.indices(result.fixed.grid.shape).reshape(3, -1)
    to_moving = np.linalg.inv(result.moving.affine) @ MATRIX @ result.fixed.affine
    at = to_moving[:3, :3] @ at + to_moving[:3, 3:]
    last = np.array(result.moving.grid.shape)[:, None] - 1
    inside = ((at > 0) & (at < last)).all(0)
    assert inside.mean() > 0.1
    apart = np.abs(theirs.get_fdata() - result.warped).ravel()[inside]
    assert apart.max() < 0.1, "of values to 1000"


def test_nibabels_image_is_the_warped_one(result):
    image = result.to_nibabel()
    assert (image.get_fdata() == result.warped).all()
    assert np.allclose(image.affine, GRIDS["oblique"].affine, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "format"),
    [("t.tfm", None), ("t.lta", None), ("t.x5", None), ("t.mat", "fsl")],
)
def test_the_transform_comes_back(result, tmp_path, name, format):
    result.save_transform(tmp_path / name, format=format)
    grids = {"fixed": result.fixed.grid, "moving": result.moving.grid}
    matrix = transforms.read(tmp_path / name, **grids)
    assert np.abs(matrix - MATRIX).max() < 1e-5


def test_mistakes_get_a_sentence(result, tmp_path):
    with pytest.raises(errors.UserError, match=r"none of the endings"):
        result.save(tmp_path / "w.png")
    with pytest.raises(errors.UserError, match="choose the format"):
        result.save_transform(tmp_path / "t.mat")


def test_apply_is_save_and_takes_several_transforms(result, tmp_path):
    first, second = affine(3), MATRIX @ np.linalg.inv(affine(3))
    result.save(tmp_path / "w.nii")
    moving = result.moving.data, result.moving.affine
    for matrix in (MATRIX, [first, second]):
        image = transforms.apply(moving, matrix, tmp_path / "w.nii")
        difference = np.abs(
            np.asanyarray(image.dataobj, float) - nib.load(tmp_path / "w.nii").dataobj
        )
        assert image.get_data_dtype() == np.int16 and difference.max() <= 1
