"""`mdvit template`: which scans, what is written, one sentence for what is wrong."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from mdvit_jax import errors, transforms
from mdvit_jax.cli.main import main
from mdvit_jax.cli.review import thumbnail
from mdvit_jax.io import coerce, lock
from mdvit_jax.registration import (
    quality,
    register,
    registration_result,
    similarity_metrics,
)
from mdvit_jax.templates import group_template

AFFINE = np.diag([4.0, 4, 4, 1])


def shift(x: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 3] = x
    return matrix


@pytest.fixture
def folder(tmp_path):
    """A BIDS dataset of three people; one has three scans."""
    data = np.random.default_rng(0).integers(1, 99, (9, 8, 7)).astype(np.int16)
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids/dataset_description.json").write_text('{"Name": "it"}')
    names = "sub-a/ses-1", "sub-a/ses-2", "sub-a/ses-3", "sub-b/ses-1", "sub-c/ses-1"
    for name in names:
        path = tmp_path / f"bids/{name}/anat/{name.replace('/', '_')}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(data, AFFINE), path)
    nib.save(nib.Nifti1Image(data * 0 + 3, AFFINE), tmp_path / "labels.nii.gz")
    return tmp_path


@pytest.fixture
def calls(monkeypatch):
    """Templates without a registration: scan i lies 4 i mm from the template."""
    result = []

    def build(scans, *, masks, dof, voxel):
        result.append(([scan.name for scan in scans], dof, voxel))
        images = [coerce.to_image(scan, "it") for scan in scans]
        status = "failed" if "sub-c_ses-1_T1w.nii.gz" in result[-1][0] else "ok"
        verdict = quality.Quality(status, ("not alike",) * (status == "failed"))
        placed = [
            group_template.ScanPlace(shift(4.0 * i), verdict)
            for i in range(len(images))
        ]
        template = images[0]._replace(header=None)
        rounds = [group_template.Round(0.5, 3.0), group_template.Round(0.75, 0.0)]
        return group_template.GroupTemplate(template, placed, rounds, True)

    def check_only(fixed, moving, *, dof, start, moving_mask, refine):
        assert not refine
        measures = similarity_metrics.Measures(0.5, 0.25, 0.9)
        parts = transforms.decompose(start, np.zeros(3))
        known = quality.Quality("check", ("from the template itself",))
        one = coerce.to_image(moving, "it")
        return registration_result.Registration(
            start, known, measures, measures, parts, None, fixed, one, None
        )

    monkeypatch.setattr(group_template, "build_template", build)
    monkeypatch.setattr(register, "register", check_only)
    monkeypatch.setattr(thumbnail, "encode", lambda result: b"a picture")
    return result


def run(folder, *words, output="r"):
    return main(["template", "--output", str(folder / output), *map(str, words)])


def scan(folder, person, session=1):
    name = f"sub-{person}_ses-{session}_T1w.nii.gz"
    return folder / f"bids/sub-{person}/ses-{session}/anat/{name}"


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != lock.NAME)


def test_what_is_written(folder, calls, capsys):
    scans = scan(folder, "a"), scan(folder, "b")
    assert run(folder, "--images", *scans) == 0
    assert calls == [([path.name for path in scans], "affine", None)]
    names = [f"sub-{person}_ses-1_T1w" for person in "ab"]
    assert files(folder / "r") == sorted(
        ["index.html", "pictures", "results.csv", "template.json", "template.nii.gz"]
        + [f"{name}{ending}" for name in names for ending in (".tfm", "_warped.nii.gz")]
    )
    matrix = transforms.read(folder / f"r/{names[1]}.tfm")
    assert np.allclose(matrix, shift(4))
    moving = nib.load(scans[1])
    warped = nib.load(folder / f"r/{names[1]}_warped.nii.gz")
    assert warped.get_data_dtype() == np.int16
    assert (warped.get_fdata()[:-1] == moving.get_fdata()[1:]).all()
    description = json.loads((folder / "r/template.json").read_text())
    assert description["Sources"] == dict(zip(names, map(str, scans), strict=True))
    assert description["Rounds"][0] == {
        "Sharpness": 0.5,
        "LargestShiftMillimetres": 3.0,
    }
    with (folder / "r/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == names
    assert rows[1]["fixed"] == str(folder / "r/template.nii.gz")
    assert rows[1]["image"] == f"{names[1]}_warped.nii.gz"
    assert f"pictures/{names[1]}.webp" in (folder / "r/index.html").read_text()
    printed = capsys.readouterr().out
    assert printed.startswith("2 scans: 2 ok.\nNo scan moves any more after 1 rounds")
    assert "sharpness 0.5000 → 0.7500" in printed


def test_a_table_names_scans_and_their_labels(folder, calls):
    (folder / "pairs.csv").write_text(
        f"fixed,moving,name,labels\nnone.nii,{scan(folder, 'a')},one,labels.nii.gz\n"
        f"none.nii,{scan(folder, 'b')},other,\n"
    )
    words = "--pairs", folder / "pairs.csv", "--no-images", "--dof", "similarity"
    assert run(folder, *words, "--format", "lta", "--voxel", 2) == 0
    assert calls[0][1:] == ("similarity", 2.0)
    names = {"one.lta", "one_labels.nii.gz", "other.lta"}
    assert names < set(files(folder / "r")) and len(files(folder / "r")) == 8
    assert str(folder / "r/template.nii.gz") in (folder / "r/one.lta").read_text()


def test_a_group_of_people(folder, calls, capsys):
    bids = "--bids", folder / "bids"
    assert run(folder, *bids) == 2
    printed = capsys.readouterr().err
    assert "several scans of sub-a (" in printed and "--session" in printed
    assert run(folder, *bids, "--session", 1) == 1  # as one has failed
    assert [*calls[0][0]] == [scan(folder, person).name for person in "abc"]
    assert "(failed): not alike" in capsys.readouterr().out


def test_each_person_of_a_dataset(folder, calls, capsys):
    words = "--bids", folder / "bids", "--within-person"
    assert run(folder, *words) == 0
    assert calls == [([scan(folder, "a", i).name for i in (1, 2, 3)], "rigid", None)]
    assert (folder / "r/sub-a/template.nii.gz").is_file()
    assert "One scan only, so left out: sub-b, sub-c." in capsys.readouterr().err
    assert run(folder, *words, "--participant-label", "b", "c", output="s") == 2
    assert "no person with two scans" in capsys.readouterr().err


def test_people_who_are_there_are_not_averaged_again(folder, calls, capsys):
    for person in "ab":
        path = scan(folder, person, 9)
        path.parent.mkdir(parents=True)
        path.write_bytes(scan(folder, person).read_bytes())
    scan(folder, "a", 9).write_bytes(b"damaged")
    words = "--bids", folder / "bids", "--within-person"
    assert run(folder, *words) == 1 and len(calls) == 2
    assert "sub-a: error: " in capsys.readouterr().err
    assert files(folder / "r/sub-a") == []
    scan(folder, "a", 9).write_bytes(scan(folder, "a").read_bytes())
    assert run(folder, *words) == 0 and len(calls) == 3
    assert "sub-b: there already" in capsys.readouterr().out
    assert run(folder, *words, "--overwrite") == 0 and len(calls) == 5


def test_a_full_disk_leaves_nothing_half_written(folder, calls, monkeypatch):
    def full(*words, **more):
        raise errors.UserError("results.csv cannot be written (No space).")

    monkeypatch.setattr("mdvit_jax.cli.batch.results_csv.write", full)
    assert run(folder, "--images", scan(folder, "a"), scan(folder, "b")) == 2
    assert files(folder / "r") == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--images", "a.nii"], "two scans or more, and this is one"),
        (["--images", "a.nii", "a.nii"], "are scans of one name"),
        (["--images", "a.nii", "x/A.nii.gz"], "are scans of one name"),
        (["--images", "a.nii", "b(1).nii"], "files cannot be called after"),
        (["--images", "a.nii", "template.nii", "--voxel", "0"], "--voxel is 0"),
        (["--images", "a.nii", "b.nii", "--suffix", "T2w"], "--suffix needs --bids"),
        (["--images", "a.nii", "b.nii", "--bids", "x"], "not allowed with"),
        ([], "one of the arguments --images --pairs --bids is required"),
        (["--bids", "nowhere"], "not a BIDS dataset"),
    ],
)
def test_what_is_wrong_is_one_sentence(folder, calls, capsys, words, why):
    assert run(folder, *words) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and why in message and message.count("\n") == 1
    assert not calls and not (folder / "r").exists()


def test_nothing_is_written_over(folder, calls, capsys):
    words = "--images", scan(folder, "a"), scan(folder, "b")
    assert run(folder, *words) == 0 and len(calls) == 1
    assert run(folder, *words) == 2
    assert "is there already" in capsys.readouterr().err
    assert run(folder, *words, "--overwrite") == 0 and len(calls) == 2
    (folder / "r/b.nii.gz").write_bytes(scan(folder, "b").read_bytes())
    scan(folder, "a").rename(folder / "r/template.nii.gz")
    words = "--images", folder / "r/template.nii.gz", folder / "r/b.nii.gz"
    assert run(folder, *words, "--overwrite") == 2
    assert "written over a scan" in capsys.readouterr().err
