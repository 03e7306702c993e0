"""Nipype's nodes of `mdvit register` and `mdvit apply`, and what they give back."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mdvit_jax import transforms
from oracle import heads

pytest.importorskip("nipype", reason="nipype is not installed")
interfaces = pytest.importorskip("mdvit_jax.interfaces.nipype")

KNOWN = np.eye(4)
KNOWN[:3, :3] = [[0.98, -0.2, 0], [0.2, 0.98, 0], [0, 0, 1]]
KNOWN[:3, 3] = 3, -2, 4


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """A head, and where it is after a known transform; the commands run here."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    monkeypatch.chdir(tmp_path)
    shape, affine = heads.grid(24, 8.0)
    for name, pose in (("fixed", np.eye(4)), ("moving", KNOWN)):
        data = heads.head(shape, affine, pose)
        nib.save(nib.Nifti1Image(data, affine), f"{name}.nii.gz")
    transforms.write("known.tfm", KNOWN)
    return tmp_path


def test_register_and_apply(scans):
    register = interfaces.Register(
        fixed="fixed.nii.gz", moving="moving.nii.gz", start="known.tfm"
    )
    register.inputs.args = "--no-refine"
    outputs = register.run().outputs
    assert outputs.status in ("ok", "check")
    assert np.allclose(outputs.matrix, KNOWN, atol=1e-6)
    assert Path(outputs.output) == scans / "moving_warped.nii.gz"
    assert np.allclose(transforms.read(outputs.transform), KNOWN, atol=1e-6)
    assert np.allclose(transforms.read(outputs.inverse) @ KNOWN, np.eye(4), atol=1e-5)
    assert Path(outputs.report).is_file()
    apply = interfaces.Apply(
        moving="moving.nii.gz",
        reference="fixed.nii.gz",
        transforms=[outputs.transform],
        output="again.nii.gz",
    )
    again = nib.load(apply.run().outputs.output).get_fdata()
    assert np.allclose(again, nib.load(outputs.output).get_fdata(), atol=1e-5)


def test_the_command_lines(scans):
    register = interfaces.Register(
        fixed="mni152", moving="moving.nii.gz", dof="rigid", moving_mask="fixed.nii.gz"
    )
    words = register.cmdline.split(" -m mdvit_jax ")[1].split()
    assert words[0] == "register" and "--overwrite" in words
    for option, value in (
        ("--fixed", "mni152"),
        ("--dof", "rigid"),
        ("--moving-mask", "fixed.nii.gz"),
        ("--transform", "moving.tfm"),
        ("--report", "moving.json"),
    ):
        assert words[words.index(option) + 1] == value
    apply = interfaces.Apply(
        moving="moving.nii.gz",
        reference="fixed.nii.gz",
        transforms=["known.tfm", "known.tfm"],
        labels=True,
        invert=True,
    )
    assert "--transform known.tfm known.tfm" in apply.cmdline
    assert "--labels" in apply.cmdline and "--invert" in apply.cmdline


def test_what_cannot_be_used_is_known_before_it_runs(scans):
    with pytest.raises(Exception, match="does not exist|no such file|existing"):
        interfaces.Register(fixed="none.nii.gz", moving="moving.nii.gz")
    with pytest.raises(Exception, match="affine"):
        interfaces.Register(fixed="fixed.nii.gz", moving="moving.nii.gz", dof="warp")
