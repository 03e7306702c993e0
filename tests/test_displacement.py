"""Displacement fields and composites of ITK through `mdvit apply`, with SimpleITK."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from mdvit_jax import errors, transforms
from test_apply_transform import NEAR, WARP, folder, run, to_sitk
from test_transforms import GRIDS, affine

__all__ = ["folder"]  # a fixture

FIELD = transforms.Grid((9, 10, 8), np.diag([7.0, -6, 8, 1]) @ affine(3))
FIELD.affine[:3, 3] = -20, 30, -25


def displacements() -> sitk.Image:
    """A smooth field on an oblique grid (LPS+ mm), up to 5 mm."""
    grid = GRIDS["coronal"]
    sizes = np.array(grid.shape)
    x, y, z = (np.indices(grid.shape).T / sizes).T
    vectors = 5 * np.stack([np.sin(3 * y), np.cos(2 * z + x), np.sin(x - y)], -1)
    image = to_sitk(np.zeros(grid.shape, np.float32), grid.affine)
    field = sitk.GetImageFromArray(vectors.transpose(2, 1, 0, 3), isVector=True)
    field.CopyInformation(image)
    return field


def peer(folder, transform) -> np.ndarray:
    moving, fixed = (nib.load(folder / f"{n}.nii.gz") for n in ("moving", "fixed"))
    resampled = sitk.Resample(
        to_sitk(moving.get_fdata().astype(np.float32), moving.affine),
        to_sitk(np.zeros(fixed.shape, np.float32), fixed.affine),
        transform,
        sitk.sitkLinear,
        0.0,
    )
    return sitk.GetArrayFromImage(resampled).transpose(2, 1, 0)


def assert_same(folder, words, transform):
    output = ["--output", "w.nii.gz", "--overwrite", "--fill=0"]
    assert run(folder, [*words, *WARP, *output]) == 0
    result = nib.load(folder / "w.nii.gz").get_fdata()
    expected = peer(folder, transform)
    assert (expected > 0).mean() > 0.05
    # At the border, rounding decides on which side of a face a point lies.
    assert (np.abs(result - expected) > 0.05).mean() < 1e-3


def fields(folder):
    """A field in the format of ANTs, and ITK's transform of it."""
    sitk.WriteImage(displacements(), str(folder / "warp.nii.gz"))
    assert nib.load(folder / "warp.nii.gz").header["intent_code"] == 1007
    as_double = sitk.Cast(displacements(), sitk.sitkVectorFloat64)
    return sitk.DisplacementFieldTransform(as_double)


def test_a_field_of_ants(folder):
    field = fields(folder)
    words = ["--transform", str(folder / "warp.nii.gz")]
    assert_same(folder, words, field)


def test_a_chain_of_an_affine_and_a_field(folder):
    field = fields(folder)
    matrix = sitk.ReadTransform(str(folder / "a.tfm"))
    warp = str(folder / "warp.nii.gz")
    # ITK applies the last one first.
    both = sitk.CompositeTransform([matrix, field])
    assert_same(folder, ["--transform", warp, "a.tfm"], both)
    both = sitk.CompositeTransform([field, matrix])
    assert_same(folder, ["--transform", "a.tfm", warp], both)


def test_a_composite_in_hdf5(folder):
    euler = sitk.Euler3DTransform((1.0, 2, 3), 0.1, -0.2, 0.3, (4.0, -2, 1))
    matrix = sitk.ReadTransform(str(folder / "a.tfm"))
    both = sitk.CompositeTransform([euler, fields(folder), matrix])
    sitk.WriteTransform(both, str(folder / "c.h5"))
    assert_same(folder, ["--transform", str(folder / "c.h5")], both)
    with pytest.raises(errors.UserError, match="holds a displacement field"):
        transforms.read(folder / "c.h5")
    linear = sitk.CompositeTransform([euler, matrix])
    for name in ("l.h5", "l.tfm"):
        sitk.WriteTransform(linear, str(folder / name))
        assert_same(folder, ["--transform", str(folder / name)], linear)
    result = transforms.read(folder / "l.h5")
    assert np.abs(result - transforms.read(folder / "l.tfm")).max() < 1e-12


def test_labels_through_a_field(folder):
    fields(folder)
    words = ["--transform", str(folder / "warp.nii.gz"), "--labels"]
    words += ["--moving", "moving_labels.nii.gz", "--reference", "fixed.nii.gz"]
    assert run(folder, [*words, "--output", "w.nii"]) == 0
    again = [*words, "--interpolation", "linear", "--output", "v.nii"]
    assert run(folder, again) == 0
    one, other = (nib.load(folder / n).get_fdata() for n in ("w.nii", "v.nii"))
    assert one.any() and set(np.unique(one)) <= {0, 1, 2, 3}
    assert 0 < (one != other).mean() < 0.5


def test_a_zero_field_changes_nothing_and_points_outside_stay(folder):
    field = transforms.DisplacementField(
        FIELD, np.full((3, *FIELD.shape), 2.0, np.float32)
    )
    corners = FIELD.affine @ [[0, 8, 4, 30], [0, 9, 4, 4], [0, 7, 4, 4], [1, 1, 1, 1]]
    moved = field.apply(corners[:3])
    assert np.allclose(moved - corners[:3], [[2, 2, 2, 0]] * 3)
    data, grid = np.arange(120.0).reshape(4, 5, 6), transforms.Grid((4, 5, 6), NEAR)
    still = field._replace(vectors=0 * field.vectors)
    result = transforms.resample(data, NEAR, [still], grid)
    assert np.abs(result - data).max() < 1e-9


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("invert", "no inverse here"),
        ("plain", "intent code 1007"),
        ("fsl", "a warp of FSL's"),
        ("spm", "a deformation of SPM's"),
        ("nan", "NaN or infinite"),
    ],
)
def test_fields_that_cannot_be_used_are_named(folder, capsys, name, why):
    fields(folder)
    warp = nib.load(folder / "warp.nii.gz")
    data = warp.get_fdata(dtype=np.float32)
    if name == "plain":
        warp.header["intent_code"] = 0
    elif name == "fsl":
        warp.header["intent_code"], data = 2006, data[:, :, :, 0]
    elif name == "spm":
        warp.header["intent_name"] = b"Mapping"
    elif name == "nan":
        data[1, 2, 3] = np.nan
    nib.save(nib.Nifti1Image(data, warp.affine, warp.header), folder / "odd.nii.gz")
    words = [
        "--transform",
        str(folder / "odd.nii.gz"),
        *["--invert"][: name == "invert"],
    ]
    assert run(folder, [*words, *WARP, "--output", "w.nii"]) == 2
    message = capsys.readouterr().err
    assert why in message and message.count("\n") == 1
    assert not (folder / "w.nii").exists()
