"""Templates by name: nilearn's own, in every place that takes an image or a grid."""

import importlib.util
import json

import nibabel as nib
import numpy as np
import pytest
from nilearn import datasets

from mdvit_jax import errors, transforms
from mdvit_jax.cli import main
from mdvit_jax.cli.batch import pairs_csv
from mdvit_jax.io import coerce, named_templates, series
from mdvit_jax.io.grid import Grid
from mdvit_jax.registration.register import register


@pytest.mark.parametrize(("name", "resolution"), [("mni152", 1), ("mni152-2mm", 2)])
def test_they_are_nilearns(name, resolution):
    template = coerce.to_image(name, "it")
    published = datasets.load_mni152_template(resolution=resolution)
    values = published.get_fdata(dtype=np.float32)
    brain = values > np.float32(0.2)
    np.testing.assert_allclose(template.data / 255, values * brain, atol=1e-6)
    np.testing.assert_array_equal(template.affine, published.affine)
    assert coerce.to_grid(name, "it") is template.grid
    assert template.grid.space == 4 and template.path == name
    assert not template.data.flags.writeable
    opened = series.open_series(name)
    assert opened.lengths == () and next(opened.volumes) is template.data


def test_a_missing_nilearn_is_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    named_templates.load.cache_clear()
    with pytest.raises(errors.UserError, match=r'pip install "nilearn'):
        coerce.to_image("mni152", "it")


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """The template by its name, moved by a known affine, as a file; and that affine."""
    template = named_templates.load("mni152-2mm")
    matrix = np.eye(4)
    matrix[:3, :3] = [[1.04, -0.1, 0], [0.1, 0.98, 0.06], [0, -0.06, 1.02]]
    matrix[:3, 3] = 6, -9, 4
    shape = (76, 92, 76)
    affine = np.diag([2.5, 2.5, 2.5, 1.0])
    affine[:3, 3] = -95, -130, -90
    data = transforms.resample(
        template.data, template.affine, np.linalg.inv(matrix), Grid(shape, affine)
    )
    path = tmp_path_factory.mktemp("moved") / "T1.nii.gz"
    nib.save(nib.Nifti1Image(data, affine), path)
    return path, matrix


def test_the_shortest_command(moved, tmp_path):
    moving, matrix = moved
    names = {"output": "out.nii.gz", "transform": "T.txt", "report": "T.json"}
    paths = {flag: tmp_path / name for flag, name in names.items()}
    words = [word for flag, path in paths.items() for word in (f"--{flag}", str(path))]
    images = ["--fixed", "mni152-2mm", "--moving", str(moving)]
    assert main.main(["register", *images, *words]) == 0
    template = named_templates.load("mni152-2mm")
    aligned = nib.load(paths["output"])
    assert aligned.shape == template.data.shape
    np.testing.assert_array_equal(aligned.affine, template.affine)
    assert aligned.header["sform_code"] == 4
    corners = np.array([[0, 0, 0, 1], [60, 0, 0, 1], [0, -90, 40, 1], [0, 50, 60, 1]])
    difference = (np.loadtxt(paths["transform"]) - matrix) @ corners.T
    assert np.linalg.norm(difference[:3], axis=0).max() < 0.5
    report = json.loads(paths["report"].read_text())
    assert report["inputs"]["fixed"]["path"] == "mni152-2mm"
    assert len(report["inputs"]["fixed"]["sha256"]) == 64
    # The way back: the template on the scan's own grid, by name.
    back = tmp_path / "template.nii.gz"
    words = ["--transform", str(paths["transform"]), "--invert", "--moving"]
    words += ["mni152-2mm", "--reference", str(moving), "--output", str(back)]
    assert main.main(["apply", *words]) == 0
    there, here = nib.load(back).get_fdata(), nib.load(moving).get_fdata()
    assert np.corrcoef(there.ravel(), here.ravel())[0, 1] > 0.99
    words = ["--transform", str(paths["transform"]), "--moving", str(moving)]
    words += ["--reference", "mni152-2mm", "--output", str(tmp_path / "again.nii.gz")]
    assert main.main(["apply", *words]) == 0
    again = nib.load(tmp_path / "again.nii.gz").get_fdata()
    np.testing.assert_allclose(again, aligned.get_fdata(), atol=1)


def test_from_python(moved):
    result = register("mni152-2mm", moved[0], refine=False)
    assert result.fixed is named_templates.load("mni152-2mm")


def test_cells_of_a_batch(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("fixed,moving\nmni152,a.nii.gz\nmni152-2mm,b.nii.gz\n")
    (tmp_path / "mni152").mkdir()  # an image has an ending, so this is none
    rows = pairs_csv.read(table)
    assert [str(row.fixed) for row in rows] == ["mni152", "mni152-2mm"]
    assert rows[0].moving == tmp_path / "a.nii.gz"
