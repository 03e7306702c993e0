"""Our transforms in ANTs and ITK: which one of several is applied first."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from mdvit_jax import transforms
from test_transforms import GRIDS, affine

FIRST, SECOND = affine(1), affine(2)
FIRST[:3, 3] /= 6  # so that the images meet
SECOND[:3, 3] /= 6


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """A reference, a moving image, and transforms: reference → … → moving."""
    smooth = np.random.default_rng(0).uniform(0, 100, (12, 12, 12))
    result = {name: tmp_path / f"{name}.nii.gz" for name in ("reference", "moving")}
    for name, grid in (
        ("reference", GRIDS["oblique"]),
        ("moving", GRIDS["straight"]),
    ):
        data = np.kron(smooth, np.ones((3, 3, 3)))
        data = data[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
        nib.save(nib.Nifti1Image(data.astype(np.float32), grid.affine), result[name])
    for name, matrix in (("first", FIRST), ("second", SECOND)):
        result[name] = tmp_path / f"{name}.tfm"
        transforms.write(result[name], matrix)
    return result


def ours(files, chain) -> np.ndarray:
    return transforms.apply(
        files["moving"], chain, files["reference"], fill=-1
    ).get_fdata()


def check_alike(theirs: np.ndarray, expected: np.ndarray, other_order: np.ndarray):
    inside = (theirs >= 0) & (expected >= 0)
    assert inside.mean() > 0.2
    # At the border of a voxel, the last digits of float32 decide.
    assert np.quantile(np.abs(theirs - expected)[inside], 0.999) < 0.01
    assert np.abs(theirs - other_order)[inside].mean() > 1, "the order matters"


def test_ants_applies_the_first_of_a_list_first(files):
    """To a point of the reference, as `mdvit apply --transform FIRST SECOND`."""
    ants = pytest.importorskip("ants", reason="antspyx is not installed")
    warped = ants.apply_transforms(
        fixed=ants.image_read(str(files["reference"])),
        moving=ants.image_read(str(files["moving"])),
        transformlist=[str(files["first"]), str(files["second"])],
        interpolator="linear",
        defaultvalue=-1,
    )
    check_alike(
        warped.numpy(), ours(files, [FIRST, SECOND]), ours(files, [SECOND, FIRST])
    )


def test_itk_applies_the_last_of_a_composite_first(files):
    """So a composite of the same transforms has them the other way round."""
    read = [sitk.ReadTransform(str(files[name])) for name in ("second", "first")]
    composite = sitk.CompositeTransform(read)
    warped = sitk.Resample(
        sitk.ReadImage(str(files["moving"])),
        sitk.ReadImage(str(files["reference"])),
        composite,
        sitk.sitkLinear,
        -1.0,
    )
    theirs = sitk.GetArrayFromImage(warped).transpose()
    check_alike(theirs, ours(files, [FIRST, SECOND]), ours(files, [SECOND, FIRST]))
    path = files["first"].with_name("composite.tfm")
    sitk.WriteTransform(composite, str(path))
    chain = transforms.read_chain(path)
    assert np.allclose(chain[0], FIRST) and np.allclose(chain[1], SECOND)
    assert np.allclose(ours(files, chain), ours(files, [FIRST, SECOND]), atol=1e-3)
