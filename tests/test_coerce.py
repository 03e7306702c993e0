"""Images and masks as callers may pass them: accepted, or refused in a sentence."""

import nibabel as nib
import numpy as np
import pytest

import mdvit_jax
from mdvit_jax import errors
from mdvit_jax.io import coerce
from test_transforms import GRIDS

GRID = GRIDS["oblique"]


@pytest.fixture
def data():
    return np.random.default_rng(0).uniform(1, 200, GRID.shape).astype(np.float32)


def test_all_ways_to_pass_an_image(tmp_path, data):
    file = nib.Nifti1Image(data, GRID.affine)
    path = tmp_path / "a.nii.gz"
    nib.save(file, path)
    arguments = [path, str(path), file, nib.load(path), (data, GRID.affine)]
    arguments += [
        coerce.to_image(path, "it"),
        (data.astype(np.float64), GRID.affine.tolist()),
    ]
    arguments += [
        nib.MGHImage(data, GRID.affine),
        nib.Nifti1Image(data[..., None], GRID.affine),
    ]
    for one in arguments:
        image = coerce.to_image(one, "it")
        assert image.data.dtype == np.float32 and image.data.shape == GRID.shape
        assert np.abs(image.data - data).max() < 1e-4
        assert np.allclose(image.affine, GRID.affine, atol=1e-4)


def test_an_array_alone_has_voxels_of_a_millimetre(data):
    assert (coerce.to_image(data, "it").affine == np.eye(4)).all()


@pytest.mark.parametrize(
    "dtype", ["u1", "i2", ">i2", "u2", "i4", "i8", "f2", "f4", "f8"]
)
def test_all_types_of_numbers(data, dtype):
    image = coerce.to_image(((data / 2).astype(dtype), GRID.affine), "it")
    assert image.data.dtype == (image.dtype if dtype[-2] in "iu" else np.float32)
    assert image.dtype == np.dtype("f4" if dtype == "f2" else dtype).newbyteorder("=")
    assert np.abs(image.data - data / 2).max() < 1


def test_the_arguments_are_not_changed(data):
    before = data.copy()
    image = coerce.to_image((data, GRID.affine), "it")
    image.data[:] = 0
    image.affine[:] = 0
    assert (data == before).all() and GRID.affine.any()


def nan_everywhere(data):
    return np.full_like(data, np.nan), GRID.affine


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda d: nib.Nifti1Image(np.stack([d] * 3, -1), GRID.affine), "volume"),
        (lambda d: np.stack([d] * 3, -1), "volume"),
        (lambda d: d[0], "not an array [x, y, z]"),
        (lambda d: d.astype(complex), "real numbers"),
        (lambda d: d.astype(str), "real numbers"),
        (lambda d: "no such file.nii", "no such file.nii"),
        (lambda d: None, "the image"),
        (lambda d: {"a": 1}, "the image"),
        (lambda d: [[1, 2], [3]], "the image"),
        (lambda d: (d, np.eye(3)), "4x4"),
        (lambda d: (d, np.zeros((4, 4))), "the image"),
        (lambda d: (d, np.full((4, 4), np.nan)), "the image"),
        (lambda d: (d, "affine"), "the image"),
        (lambda d: (d, GRID.affine, 1), "the image"),
        (lambda d: (d * 0, GRID.affine), "0 everywhere"),
        (nan_everywhere, "the image"),
        (lambda d: d[:0], "the image"),
    ],
)
def test_invalid_images_are_refused_in_a_sentence(data, make, why):
    with pytest.raises(errors.UserError) as caught:
        coerce.to_image(make(data), "the image")
    assert why in str(caught.value) and "\n" not in str(caught.value)


def test_a_few_bad_voxels_are_cleaned(data, caplog):
    data[3, 4, 5] = np.nan
    data[3, 4, 6] = np.inf
    image = coerce.to_image((data, GRID.affine), "the image")
    assert np.isfinite(image.data).all() and "2" in caplog.text


def test_all_ways_to_pass_a_mask(tmp_path, data):
    image = coerce.to_image((data, GRID.affine), "it")
    mask = data > 100
    path = tmp_path / "m.nii.gz"
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), GRID.affine), path)
    arguments = [path, str(path), nib.load(path), mask, mask.astype(float) * 0.5]
    arguments += [(mask, GRID.affine), mask.astype(int) - 1 + mask]
    for one in arguments:
        result = coerce.to_mask(one, image, "it")
        assert result.dtype == bool and (result == mask).all()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda m: m[1:], "does not lie on the voxels"),
        (lambda m: (m, GRID.affine + np.eye(4)), "does not lie on the voxels"),
        (lambda m: (m, np.eye(4)), "does not lie on the voxels"),
        (lambda m: nib.Nifti1Image(m.astype("u1"), np.eye(4)), "does not lie"),
        (lambda m: np.zeros_like(m), "nothing in it"),
        (lambda m: (m, np.eye(3)), "the image"),
        (lambda m: (m, np.full((4, 4), np.nan)), "the image"),
        (lambda m: "no such file.nii", "no such file.nii"),
        (lambda m: m.astype(str), "the image"),
        (lambda m: m[..., None], "the image"),
    ],
)
def test_invalid_masks_are_refused_in_a_sentence(data, make, why):
    image = coerce.to_image((data, GRID.affine), "it")
    with pytest.raises(errors.UserError) as caught:
        coerce.to_mask(make(data > 100), image, "the image")
    assert why in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"dof": "all"}, "rigid, similarity, affine"),
        ({"start": np.diag([-1.0, 1, 1, 1])}, "mirrors"),
        ({"start": np.eye(3)}, "4x4"),
        ({"start": np.full((4, 4), np.nan)}, "4x4"),
        ({"start": "no.tfm"}, "no.tfm"),
        ({"fixed_mask": np.ones((2, 2, 2))}, "does not lie"),
    ],
)
def test_wrong_options_of_register(data, options, why):
    image = np.pad(data, 3), GRID.affine
    with pytest.raises(errors.UserError) as caught:
        mdvit_jax.register(image, image, **options)
    assert why in str(caught.value)


def test_a_label_map_is_refused(data):
    index = np.indices((30, 30, 30)).sum(0)
    labels = (index // 20).astype(np.int16) * (index > 30)
    with pytest.raises(errors.UserError, match="looks like a label map"):
        mdvit_jax.register(labels, labels)
