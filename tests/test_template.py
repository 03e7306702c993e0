"""The template: MNI152 from nilearn, or a file of the user."""

import nibabel as nib
import numpy as np
import pytest
from nilearn import datasets

from configs import default
from mdvit_jax import errors
from mdvit_jax.data import template


def test_mni152_is_nilearns():
    image, labels, mask = template.mni152()
    published = datasets.load_mni152_template(resolution=1)
    brain = datasets.load_mni152_brain_mask(resolution=1).get_fdata() > 0
    np.testing.assert_array_equal(mask.data > 0, brain)
    np.testing.assert_allclose(
        image.data, np.where(brain, published.get_fdata(), 0), atol=1e-6
    )
    for volume in (image, labels, mask):
        np.testing.assert_array_equal(volume.affine, published.affine)
        assert not volume.data.flags.writeable
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.data.dtype == np.float32 and labels.data.dtype == np.int32
    np.testing.assert_array_equal(labels.data > 0, brain)
    assert set(np.unique(labels.data)) == {0, 1, 2, 3}


def test_tissues_are_the_most_probable_ones():
    image, labels, _ = template.mni152()
    grey = datasets.load_mni152_gm_template(resolution=1).get_fdata()
    white = datasets.load_mni152_wm_template(resolution=1).get_fdata()
    assert grey[labels.data == template.GREY].min() > 1 / 3 - 1e-6
    assert white[labels.data == template.WHITE].min() > 1 / 3 - 1e-6
    fluid = labels.data == template.CSF
    assert (grey[fluid] + white[fluid]).max() < 2 / 3 + 1e-6
    means = [image.data[labels.data == label].mean() for label in (1, 2, 3)]
    assert means == sorted(means)  # T1: fluid, grey, white


@pytest.mark.parametrize("size", [64, 128])
def test_load_conforms_it(size):
    data = default.get_config().data
    data.size = size
    scan, name = template.load(data)
    assert name == "mni152" and scan.image.shape == (size,) * 3
    assert scan.image.min() == 0 and scan.image.max() == pytest.approx(1, abs=0.01)
    assert set(np.unique(scan.labels)) == {0, 1, 2, 3}
    _, _, mask = template.mni152()
    volume = scan.mask.sum() * (256 / size) ** 3
    assert volume == pytest.approx(np.count_nonzero(mask.data), rel=0.01)


def test_a_file_of_the_users(tmp_path):
    volume = np.zeros((20, 22, 24), np.float32)
    volume[5:15, 6:16, 7:17] = np.random.default_rng(0).uniform(1, 2, (10, 10, 10))
    path = tmp_path / "my.template.nii.gz"
    nib.Nifti1Image(volume, np.diag([-2, 2, 2, 1.0])).to_filename(path)
    data = default.get_config().data
    data.template, data.size, data.field_of_view = str(path), 32, 64.0
    scan, name = template.load(data)
    assert name == "my" and scan.labels is None
    assert scan.mask.sum() * 8 == 1000 * 8
    data.template = str(tmp_path / "missing.nii.gz")
    with pytest.raises(errors.UserError, match=r"missing\.nii\.gz"):
        template.load(data)
