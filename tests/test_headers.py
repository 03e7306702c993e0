"""Units and sides in headers, and the fields that a result keeps."""

import nibabel as nib
import numpy as np
import pytest
from nibabel import spm2analyze

from mdvit_jax import transforms
from mdvit_jax.io import coerce, nifti
from mdvit_jax.io import image as images
from test_apply_transform import WARP, folder, run, volume
from test_transforms import GRIDS, affine

__all__ = ["folder"]  # a fixture


def in_unit(path, unit, grid, data, *, form="sform"):
    factor = {"mm": 1, "micron": 1e3, "meter": 1e-3}[unit]
    matrix = np.diag([factor, factor, factor, 1]) @ grid.affine
    image = nib.Nifti1Image(data, matrix)
    image.set_sform(matrix, int(form == "sform"))
    image.set_qform(matrix, int(form == "qform"))
    image.header.set_xyzt_units(unit)
    nib.save(image, path)


@pytest.mark.parametrize("unit", ["micron", "meter"])
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_every_unit_is_millimetres_inside(tmp_path, caplog, unit, form):
    grid = GRIDS["oblique"]
    data = volume(grid.shape)
    for name in (unit, "mm"):
        in_unit(tmp_path / f"{name}.nii.gz", name, grid, data, form=form)
    names = [tmp_path / f"{name}.nii.gz" for name in (unit, "mm")]
    odd, right = (nifti.read_grid(name) for name in names)
    assert np.allclose(odd.affine, right.affine, atol=1e-3)
    assert np.allclose(odd.pixdim, right.pixdim, rtol=1e-5)
    assert "metres, which are converted" in caplog.text and unit in caplog.text
    for one, other in zip(
        (images.load(names[0]), coerce.to_image(nib.load(names[0]), "it")),
        (images.load(names[1]), coerce.to_image(nib.load(names[1]), "it")),
        strict=True,
    ):
        assert np.allclose(one.affine, other.affine, atol=1e-3)
    mask = nib.load(names[0])
    assert coerce.to_mask(mask, images.load(names[1]), "it").all()


@pytest.mark.parametrize("unit", ["micron", "meter"])
def test_the_result_of_other_units_is_in_millimetres(folder, unit):
    moving, fixed = GRIDS["radiological"], GRIDS["oblique"]
    assert run(folder, ["--transform", "a.tfm", *WARP, "--output", "w.nii"]) == 0
    expected = nib.load(folder / "w.nii").get_fdata()
    in_unit(folder / "moving.nii.gz", unit, moving, volume(moving.shape))
    in_unit(folder / "fixed.nii.gz", unit, fixed, volume(fixed.shape))
    assert run(folder, ["--transform", "a.tfm", *WARP, "--output", "v.nii"]) == 0
    written = nib.load(folder / "v.nii")
    assert np.allclose(written.affine, fixed.affine, atol=1e-3)
    assert written.header.get_xyzt_units()[0] == "mm"
    assert np.abs(written.get_fdata() - expected).max() < 0.05


def test_a_unit_that_cannot_be_is_not_taken(tmp_path, caplog):
    in_unit(
        tmp_path / "a.nii", "mm", GRIDS["straight"], volume(GRIDS["straight"].shape)
    )
    image = nib.load(tmp_path / "a.nii")
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "b.nii")
    grid = nifti.read_grid(tmp_path / "b.nii")
    assert np.allclose(grid.affine, GRIDS["straight"].affine)
    assert "taken to be in millimetres" in caplog.text


def test_an_unknown_left_side_is_warned_about(tmp_path, caplog):
    data = volume((5, 6, 7), np.int16)
    spm2analyze.Spm2AnalyzeImage(data, None).to_filename(tmp_path / "a.img")
    for left_over in tmp_path.glob("*.mat"):
        left_over.unlink()
    content = bytearray(nib.MGHImage(data, affine(1)).to_bytes())
    (tmp_path / "sound.mgh").write_bytes(content)
    content[28:30] = b"\0\0"
    (tmp_path / "b.mgh").write_bytes(content)
    plain = nib.Nifti1Image(data, None)
    plain.header["sform_code"] = plain.header["qform_code"] = 0
    nib.save(plain, tmp_path / "c.nii")
    for name, reason in (
        ("a.img", "Analyze 7.5"),
        ("a.hdr", "Analyze 7.5"),
        ("b.mgh", "goodRASFlag is 0"),
        ("c.nii", "sform and qform codes are 0"),
    ):
        caplog.clear()
        images.load(tmp_path / name)
        assert f"{name} does not say how it lies in space ({reason})" in caplog.text
    caplog.clear()
    images.load(tmp_path / "sound.mgh")
    # SPM's .mat file beside an image defines the sides.
    spm2analyze.Spm2AnalyzeImage(data, affine(2)).to_filename(tmp_path / "d.img")
    assert (tmp_path / "d.mat").exists()
    grid = nifti.read_grid(tmp_path / "d.img")
    assert not caplog.records and np.allclose(grid.affine, affine(2), atol=1e-4)


def test_only_the_grid_of_the_fixed_image_is_kept(folder):
    fixed = nib.load(folder / "fixed.nii.gz")
    fixed.set_sform(fixed.affine, 4)
    fixed.header["descrip"], fixed.header["aux_file"] = b"fixed's", b"fixed's"
    fixed.header["cal_max"], fixed.header["intent_code"] = 77, 1001
    fixed.header["intent_name"] = b"fixed's"
    extension = nib.nifti1.Nifti1Extension(6, b"a comment on the fixed image")
    fixed.header.extensions.append(extension)
    nib.save(fixed, folder / "fixed.nii.gz")
    moving = nib.load(folder / "moving.nii.gz")
    moving.header["descrip"], moving.header["cal_max"] = b"moving's", 9
    moving.header.set_intent("t test", (12,), name="moving's")
    nib.save(moving, folder / "moving.nii.gz")
    words = ["--transform", "a.tfm", *WARP]
    for ending in (".nii.gz", ".nii"):
        assert run(folder, [*words, "--output", f"w{ending}"]) == 0
        header = nib.load(folder / f"w{ending}").header
        assert header["descrip"] == b"moving's" and header["aux_file"] == b""
        assert header["cal_max"] == 9 and not header.extensions
        assert header.get_intent() == ("t test", (12.0,), "moving's")
        assert header["sform_code"] == header["qform_code"] == 4
        assert np.allclose(header.get_sform(), fixed.affine, atol=1e-4)
        assert np.allclose(header.get_qform(), fixed.affine, atol=1e-3)


def test_a_sheared_grid_has_no_qform(tmp_path):
    shear = affine(3)
    images.save(
        tmp_path / "a.nii", np.ones((4, 5, 6), "u1"), transforms.Grid((4, 5, 6), shear)
    )
    header = nib.load(tmp_path / "a.nii").header
    assert header["qform_code"] == 0 and header["sform_code"] == 2
    assert np.allclose(nib.load(tmp_path / "a.nii").affine, shear, atol=1e-4)


def test_a_grid_of_unknown_space_stays_unknown(tmp_path):
    plain = nib.Nifti1Image(volume((5, 6, 7), np.int16), None)
    plain.header["pixdim"][1:4] = 2, 3, 4
    nib.save(plain, tmp_path / "c.nii")
    grid = nifti.read_grid(tmp_path / "c.nii")
    images.save(tmp_path / "d.nii", np.ones((5, 6, 7), "u1"), grid)
    header = nib.load(tmp_path / "d.nii").header
    assert header["qform_code"] == header["sform_code"] == 0
    assert np.allclose(nib.load(tmp_path / "d.nii").affine, grid.affine)
