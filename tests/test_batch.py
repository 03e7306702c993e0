"""`mdvit batch`: a status for every pair, and resumption."""

import csv
import os
import shutil

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from helpers import unaligned
from mdvit_jax import __main__, errors, transforms
from mdvit_jax.cli.batch import part_tables, run_batch
from mdvit_jax.cli.review import thumbnail
from mdvit_jax.io import image, lock, nifti
from mdvit_jax.registration import register
from oracle import heads

TURNED = unaligned.MATRIX


@pytest.fixture
def folder(tmp_path):
    """Four images; one is damaged."""
    shape, affine = heads.grid(24, 8.0)
    (tmp_path / "scans").mkdir()
    save(tmp_path / "fixed.nii.gz", heads.head(shape, affine), affine)
    for name, pose in (("anna", TURNED), ("bert", np.eye(4))):
        data = (200 * heads.head(shape, affine, pose)).astype(np.int16)
        save(tmp_path / f"scans/{name}.nii.gz", data, affine)
    labels = 3 * (heads.head(shape, affine, TURNED) > 0.1)
    save(tmp_path / "labels.nii.gz", labels.astype(np.uint8), affine)
    save(tmp_path / "flat.nii", np.ones(shape, np.float32), affine)
    mask = np.ones(shape, np.uint8)
    mask[:7] = 0
    save(tmp_path / "mask.nii.gz", mask, affine)
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    return tmp_path


def save(path, data, affine):
    nib.save(nib.Nifti1Image(data, affine), path)


@pytest.fixture
def quick(monkeypatch):
    """Replace registration by a stub that only reads and checks its images."""
    calls = []

    def check_only(fixed, moving, **options):
        mask = options["fixed_mask"]
        calls.append((moving.name, options["dof"], mask and mask.name))
        if moving.name == "bug.nii":
            raise ZeroDivisionError("a\nbug")
        return unaligned.check_only(fixed, moving, **options)

    monkeypatch.setattr(register, "register", check_only)
    monkeypatch.setattr(thumbnail, "encode", lambda result: b"a picture")
    return calls


def run(folder, text, *words):
    (folder / "pairs.csv").write_text(text)
    words = [
        "--pairs",
        str(folder / "pairs.csv"),
        "--output",
        str(folder / "r"),
        *words,
    ]
    return __main__.main(["batch", *words])


def table(folder):
    with (folder / "r/results.csv").open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def files(folder):
    result = {path.name for path in (folder / "r").iterdir()}
    return sorted(result - {lock.NAME, "index.html", "pictures"})


GOOD = "moving,fixed,age\nscans/anna.nii.gz,fixed.nii.gz,70\n"
BOTH = GOOD + "scans/bert.nii.gz,fixed.nii.gz,30\n"


def test_pairs_are_registered(folder, capsys):
    text = "fixed;moving;name;fixed_mask;labels\n"
    text += "fixed.nii.gz;scans/anna.nii.gz;a b;;labels.nii.gz\n"
    text += "fixed.nii.gz;scans/anna.nii.gz;masked;mask.nii.gz\n"
    text += "fixed.nii.gz;flat.nii;flat\n"
    assert run(folder, text, "--qc") == 1
    output, progress = capsys.readouterr()
    lines = [line.rpartition(", ")[0] for line in progress.splitlines()]
    assert lines == ["1/3 a b: ok", "2/3 masked: ok", "3/3 flat: error"]
    assert output.startswith("3 pairs: 2 ok, 1 error.\n") and "flat (error): " in output
    assert str(folder / "r/results.csv") in output
    names = ["a b.png", "a b.tfm", "a b_labels.nii.gz", "a b_warped.nii.gz"]
    names += ["masked.png", "masked.tfm", "masked_warped.nii.gz"]
    assert files(folder) == [*names, "results.csv"]
    labels = nib.load(folder / "r/a b_labels.nii.gz").get_fdata()
    brain = nib.load(folder / "fixed.nii.gz").get_fdata() > 0.1
    assert set(np.unique(labels)) == {0, 3} and ((labels == 3) == brain).mean() > 0.95
    for name in ("a b", "masked"):
        matrix = transforms.read(folder / f"r/{name}.tfm")
        points = heads.points()
        offsets = points @ (matrix - TURNED)[:3, :3].T + (matrix - TURNED)[:3, 3]
        assert np.linalg.norm(offsets, axis=1).max() < 8  # the size of a voxel
    row = table(folder)["a b"]
    assert (row["transform"], row["picture"]) == ("a b.tfm", "a b.png")
    with Image.open(folder / "r" / row["thumbnail"]) as thumbnail:
        assert thumbnail.format == "WEBP"
    page = (folder / "r/index.html").read_text()
    assert "pictures/a%20b.webp" in page and '"remaining": 0' in page
    warped = nib.load(folder / "r/a b_warped.nii.gz")
    assert warped.get_data_dtype() == np.int16
    assert np.allclose(warped.affine, nib.load(folder / "fixed.nii.gz").affine)
    row = table(folder)["a b"]
    assert row["status"] == "ok" and row["reasons"] == ""
    assert float(row["rotation_degrees"]) == pytest.approx(11.5, abs=1)
    assert float(row["correlation_after"]) > float(row["correlation_before"])
    assert table(folder)["masked"]["inputs"] != row["inputs"]


def test_bad_rows_do_not_stop_the_batch(folder, quick, capsys):
    (folder / "bug.nii").write_bytes(b"")
    text = "fixed,moving\nfixed.nii.gz,broken.nii.gz\nno.nii,scans/anna.nii.gz\n"
    text += "fixed.nii.gz,bug.nii\nfixed.nii.gz,scans/bert.nii.gz\n"
    assert run(folder, text) == 1
    output = capsys.readouterr()
    assert output.out.startswith("4 pairs: 1 failed, 3 error.")
    assert "bert (failed): not alike" in output.out
    assert "Traceback" in output.err and "ZeroDivisionError" in output.err
    rows = table(folder)
    assert [*rows] == ["broken", "anna", "bug", "bert"]
    assert "broken.nii.gz" in rows["broken"]["reasons"]
    assert "no.nii" in rows["anna"]["reasons"]
    assert rows["bug"]["reasons"].startswith("a bug: ZeroDivisionError: a bug")
    assert files(folder) == ["bert.tfm", "bert_warped.nii.gz", "results.csv"]


def test_up_to_date_results_are_kept(folder, quick, capsys):
    assert run(folder, BOTH) == 1 and len(quick) == 2
    before = (folder / "r/results.csv").read_bytes()
    assert run(folder, BOTH) == 1 and len(quick) == 2
    assert "not changed: 2" in capsys.readouterr().out
    assert (folder / "r/results.csv").read_bytes() == before
    (folder / "r/anna.tfm").unlink()
    assert run(folder, BOTH) == 1
    assert [c[0] for c in quick[2:]] == ["anna.nii.gz"]


def test_changed_inputs_are_computed_again(folder, quick):
    run(folder, BOTH)
    path = folder / "scans/anna.nii.gz"
    os.utime(path, ns=(1, 1))
    run(folder, BOTH)
    assert [c[0] for c in quick[2:]] == ["anna.nii.gz"]
    run(folder, BOTH, "--dof", "rigid")
    assert [c[1] for c in quick[3:]] == ["rigid", "rigid"]
    path.write_bytes(b"damaged")
    assert run(folder, BOTH, "--dof", "rigid") == 1
    assert table(folder)["anna"]["status"] == "error"
    assert files(folder) == ["bert.tfm", "bert_warped.nii.gz", "results.csv"]


def test_errors_are_tried_again(folder, quick):
    text = "fixed,moving\nfixed.nii.gz,later.nii.gz\n"
    assert run(folder, text) == 1
    (folder / "scans/anna.nii.gz").rename(folder / "later.nii.gz")
    assert run(folder, text) == 0
    assert table(folder)["later"]["status"] == "ok"


def test_an_interrupted_batch_goes_on(folder, quick, monkeypatch, capsys):
    save_image = image.save

    def stopped(path, *arguments, **options):
        if path.name.startswith("bert"):
            raise KeyboardInterrupt
        save_image(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(image, "save", stopped)
        assert run(folder, BOTH) == 130
    assert "goes on" in capsys.readouterr().err
    assert [*table(folder)] == ["anna"]
    assert run(folder, BOTH) == 1
    assert [c[0] for c in quick] == ["anna.nii.gz", "bert.nii.gz", "bert.nii.gz"]


def test_the_pairs_of_another_csv_stay_in_the_table(folder, quick):
    run(folder, BOTH)
    assert run(folder, "fixed,moving,name\nfixed.nii.gz,mask.nii.gz,new\n") == 0
    assert {n: r["status"] for n, r in table(folder).items()} == {
        "new": "ok", "anna": "ok", "bert": "failed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("format", "ending"), [("fsl", ".mat"), ("lta", ".lta"), ("text", ".txt")]
)
def test_transforms_only_in_another_format(folder, quick, format, ending):
    assert run(folder, GOOD, "--no-images", "--format", format) == 0
    assert files(folder) == [f"anna{ending}", "results.csv"]
    names = "fixed.nii.gz", "scans/anna.nii.gz"
    grids = [nifti.read_grid(folder / name) for name in names]
    path = folder / f"r/anna{ending}"
    matrix = transforms.read(path, fixed=grids[0], moving=grids[1])
    assert np.abs(matrix - TURNED).max() < 1e-6


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty; its first line must name the columns"),
        ("fixed;move\na;b\n", "no column moving"),
        ("fixed,move\na,b\n", "no column moving"),
        ("fixed,moving,fixed_msk\na,b,c\n", 'did you mean "fixed_mask"'),
        ("fixed,moving\n", "names no pair"),
        ("fixed,moving\na.nii,\n", "no moving image in row 2"),
        ("fixed,moving\na.nii,b.nii,c\n", "3 values in row 2"),
        ("fixed,moving\na.nii,x/b.nii\na.nii,y/b.nii.gz\n", "in rows 2 and 3"),
        ("fixed,moving,name\na,b,One\na,b,one\n", "in rows 2 and 3"),
        ("fixed,moving,name\na,b,../c\n", "cannot be called after"),
        ("fixed,moving,name\na,b,.c\n", "cannot be called after"),
        ('fixed,moving\n"a,b\n', "cannot be read as a CSV file"),
    ],
)
def test_a_wrong_csv_is_refused_in_a_sentence(folder, quick, capsys, text, why):
    assert run(folder, text) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and why in message and message.count("\n") == 1
    assert not (folder / "r").exists() and not quick


@pytest.mark.parametrize("comma", ["\t", ";", ","])
@pytest.mark.parametrize("excel", [False, True])
def test_pairs_as_spreadsheets_write_them(folder, quick, comma, excel):
    text = f"sep={comma}\n" * excel + GOOD.replace(",", comma)
    assert run(folder, text) == 0 and [*table(folder)] == ["anna"]


def test_a_folder_whose_name_is_not_utf_8(folder, quick):
    other = folder.parent / "caf\udce9"
    shutil.copytree(folder, other)
    assert run(other, GOOD) == 0
    assert files(other) == ["anna.tfm", "anna_warped.nii.gz", "results.csv"]
    assert run(other, GOOD) == 0 and len(quick) == 1, "nothing has changed"


def test_a_missing_csv(folder, capsys):
    words = ["--pairs", str(folder / "no.csv"), "--output", str(folder / "r")]
    assert __main__.main(["batch", *words]) == 2
    message = capsys.readouterr().err
    assert "no.csv cannot be read (No such file" in message and message.count("\n") == 1


def test_a_second_batch_in_the_folder_is_refused(folder, quick, capsys):
    with part_tables.hold_folder(folder / "r"):
        assert run(folder, GOOD) == lock.Taken.exit_code
    message = capsys.readouterr().err
    assert "another mdvit batch is writing to" in message and message.count("\n") == 1
    assert not quick and not files(folder)
    assert run(folder, GOOD) == 0


def test_labels_that_cannot_be_resampled(folder, quick, capsys):
    text = "fixed,moving,labels\nfixed.nii.gz,scans/anna.nii.gz,fixed.nii.gz\n"
    assert run(folder, text) == 1
    assert "not a label map" in table(folder)["anna"]["reasons"]
    assert files(folder) == ["results.csv"]


def test_no_input_is_overwritten(folder, quick, capsys):
    (folder / "r").mkdir()
    (folder / "scans/anna.nii.gz").rename(folder / "r/b_warped.nii.gz")
    text = "fixed,moving,name\nfixed.nii.gz,r/b_warped.nii.gz,b\n"
    assert run(folder, text) == 2
    assert "written over" in capsys.readouterr().err and not quick


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\xff\xfe", b'"'])
def test_a_foreign_results_file_stays(folder, quick, capsys, content):
    (folder / "r").mkdir()
    (folder / "r/results.csv").write_bytes(content)
    assert run(folder, GOOD) == 2
    assert "results.csv" in capsys.readouterr().err and not quick
    assert (folder / "r/results.csv").read_bytes() == content


def test_the_output_is_a_file(folder, quick, capsys):
    (folder / "r").write_bytes(b"")
    assert run(folder, GOOD) == 2
    assert "cannot be used" in capsys.readouterr().err


def test_a_full_disk_ends_the_batch(folder, quick, capsys, monkeypatch):
    def full(path, results):
        raise errors.UserError("results.csv cannot be written (No space).")

    monkeypatch.setattr(run_batch.results_csv, "write", full)
    assert run(folder, BOTH) == 2 and not quick  # refused before it computes
    assert "No space" in capsys.readouterr().err


def test_files_that_no_batch_wrote_are_not_replaced(folder, quick, capsys):
    (folder / "r").mkdir()
    (folder / "r/anna_warped.nii.gz").write_bytes(b"mine")
    assert run(folder, BOTH) == 2 and not quick
    assert "anna_warped.nii.gz is there, but no results.csv" in capsys.readouterr().err
    assert files(folder) == ["anna_warped.nii.gz"]
    (folder / "r/results.csv").write_text("whose\n")
    assert run(folder, BOTH) == 2 and not quick
    assert "was not written by this version of mdvit batch" in capsys.readouterr().err
