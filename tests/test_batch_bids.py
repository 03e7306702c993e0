"""BIDS in and out: which images, to what, and the names and sidecars of the result."""

import json
from urllib.parse import urlsplit

import nibabel as nib
import numpy as np
import pytest

from helpers import unaligned
from mdvit_jax import __main__, errors, transforms
from mdvit_jax.cli.batch import bids_images, bids_outputs
from mdvit_jax.cli.review import thumbnail
from mdvit_jax.registration import register

SPACE = "MNI152NLin2009aSym"


@pytest.fixture
def dataset(tmp_path):
    """A dataset of nothing but a description, and a function that adds images."""
    root = tmp_path / "raw"
    root.mkdir()
    text = '{"Name": "Twins", "License": "CC0", "DatasetDOI": "10.1/x"}'
    (root / "dataset_description.json").write_text(text)
    values = np.random.default_rng(0).uniform(0, 200, (6, 7, 5)).astype(np.float32)

    def add(*names):
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values, np.diag([20.0, 20, 20, 1])), path)

    return root, add


@pytest.fixture
def run(dataset, monkeypatch):
    """The command for the dataset, that aligns nothing; its exit code."""
    monkeypatch.setattr(register, "register", unaligned.check_only)
    monkeypatch.setattr(thumbnail, "encode", lambda result: b"a picture")
    root, _ = dataset
    (root / "sub-x").mkdir()  # else the sidecars ask the image for its skull
    return lambda *words: __main__.main(
        ["batch", "--bids", str(root), "--output", str(root / "derivatives/m"), *words]
    )


def written(root):
    folder = root / "derivatives/m"
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("sub-*_*")
        if path.suffix != ".webp"
    }


def add_skull(root, name):
    path = root / name
    path.write_text('{"SkullStripped": false, "EchoTime": 0.003}')


def test_t1w_to_a_template(dataset, run, capsys):
    root, add = dataset
    name = "sub-01/ses-a/anat/sub-01_ses-a_run-2_T1w"
    add(f"{name}.nii.gz")
    add_skull(root, f"{name}.json")
    assert run("--to", "mni152-2mm", "--participant-label", "sub-01") == 0
    place = "sub-01/ses-a/anat/sub-01_ses-a_run-2"
    image = f"{place}_space-{SPACE}_desc-affine_T1w"
    transform = f"{place}_from-T1w_to-{SPACE}_mode-image_xfm"
    expected = {f"{image}.nii.gz", f"{image}.json"}
    expected |= {f"{transform}{ending}" for ending in (".tfm", ".txt", ".json")}
    assert written(root) == expected
    folder = root / "derivatives/m"
    for ending in (".tfm", ".txt"):
        matrix = transforms.read(folder / f"{transform}{ending}")
        assert np.abs(matrix - unaligned.MATRIX).max() < 1e-6
    sidecar = json.loads((folder / f"{image}.json").read_text())
    assert sidecar["Sources"] == [f"bids:source:{name}.nii.gz"]
    assert sidecar["SkullStripped"] is False
    assert sidecar["Quality"]["Status"] == "ok"
    assert sidecar["Quality"]["CorrelationAfter"] == 0.25
    assert "Defaced" not in sidecar and "mdvit_jax" in sidecar["Versions"]
    sidecar = json.loads((folder / f"{transform}.json").read_text())
    assert sidecar["RotationDegrees"][2] == pytest.approx(11.5, abs=0.1)
    description = json.loads((folder / "dataset_description.json").read_text())
    assert description["GeneratedBy"][0]["Name"] == "mdvit_jax"
    assert description["DatasetType"] == "derivative"
    link = urlsplit(description["DatasetLinks"]["source"]).path
    assert link == str(root)
    assert description["License"] == "CC0"
    assert "*_xfm.*" in (folder / ".bidsignore").read_text().split()
    # The same command finds all there.
    assert run("--to", "mni152-2mm", "--participant-label", "01") == 0
    assert "not changed: 1" in capsys.readouterr().out


def test_several_missing_and_defaced_images_are_reported(dataset, run, capsys):
    root, add = dataset
    names = ["sub-01/anat/sub-01_run-1_T1w", "sub-01/anat/sub-01_run-2_T1w"]
    names += ["sub-02/anat/sub-02_rec-defaced_T1w", "sub-03/anat/sub-03_T1w"]
    names += ["sub-03/anat/sub-03_mod-T1w_defacemask", "sub-04/anat/sub-04_T2w"]
    names += ["sub-01/anat/sub-01_space-MNI305_T1w"]
    add(*(f"{name}.nii.gz" for name in names))
    for name in names:
        add_skull(root, f"{name}.json")
    assert run("--to", "mni152-2mm") == 0
    error = capsys.readouterr().err
    assert "Several images of one kind in 1 sessions" in error
    assert "sub-01_run-1_T1w.nii.gz, sub-01_run-2_T1w.nii.gz" in error
    assert "No T1w, so left out: sub-04, sub-x." in error
    assert "2 of 4 images are defaced" in error
    assert "In another space by their names (space-), so left out: 1." in error
    images = {name for name in written(root) if name.endswith(".nii.gz")}
    assert len(images) == 4
    sidecar = root / "derivatives/m/sub-03/anat"
    content = (sidecar / f"sub-03_space-{SPACE}_desc-affine_T1w.json").read_text()
    assert json.loads(content)["Defaced"] is True
    assert run("--to", "mni152-2mm", "--entity", "run-2") == 0
    assert capsys.readouterr().out.startswith("1 pair: 1 ok.")


def test_all_images_to_the_t1w_of_their_session(dataset, run, capsys):
    root, add = dataset
    names = ["sub-01/ses-1/anat/sub-01_ses-1_T1w", "sub-01/ses-1/anat/sub-01_ses-1_T2w"]
    names += ["sub-01/ses-1/anat/sub-01_ses-1_FLAIR"]
    names += ["sub-01/ses-2/anat/sub-01_ses-2_T2w"]
    names += [f"sub-02/ses-1/anat/sub-02_ses-1_run-{n}_T1w" for n in (1, 2)]
    names += ["sub-02/ses-1/anat/sub-02_ses-1_T2w"]
    add(*(f"{name}.nii.gz" for name in names))
    for name in names:
        add_skull(root, f"{name}.json")
    assert run("--to", "T1w") == 0
    error = capsys.readouterr().err
    assert "No T1w in their session, so left out: sub-01_ses-2_T2w.nii.gz." in error
    assert "Several T1w in 1 sessions" in error and "--entity run-1" in error
    place = "sub-01/ses-1/anat/sub-01_ses-1_"
    images = {name for name in written(root) if name.endswith(".nii.gz")}
    assert images == {
        f"{place}space-T1w_desc-rigid_{suffix}.nii.gz" for suffix in ("T2w", "FLAIR")
    }
    assert f"{place}from-FLAIR_to-T1w_mode-image_xfm.tfm" in written(root)
    path = root / f"derivatives/m/{place}space-T1w_desc-rigid_T2w.json"
    sources = json.loads(path.read_text())["Sources"]
    assert sources == [f"bids:source:{name}.nii.gz" for name in (names[1], names[0])]
    assert run("--to", "T1w", "--suffix", "T2w", "--entity", "run-2") == 0
    assert written(root) >= {
        "sub-02/ses-1/anat/sub-02_ses-1_from-T2w_to-T1w_mode-image_xfm.tfm"
    }


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "--bids needs --to"),
        (["--to", "tpl.nii.gz"], "add --space"),
        (["--to", "mni152", "--space", "a_b"], "letters and digits"),
        (["--to", "T1w", "--space", "X"], "--space means nothing with --to T1w"),
        (["--to", "T1w"], "has no T2w or FLAIR"),
        (["--to", "mni152", "--suffix", "T2w"], "has no T2w image"),
        (["--to", "mni152", "--participant-label", "7"], "no participant 7; it has 01"),
        (["--to", "mni152", "--session", "7"], "no session 7; it has none"),
        (["--to", "mni152", "--entity", "run1"], '--entity is "run1"'),
        (["--to", "mni152", "--entity", "run-7"], "no T1w image with run-7"),
        (["--to", "mni152", "--output", "RAW"], "is the dataset itself"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(dataset, run, capsys, words, why):
    root, add = dataset
    add("sub-01/anat/sub-01_T1w.nii.gz")
    assert run(*(str(root) if word == "RAW" else word for word in words)) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and why in message and message.count("\n") == 1
    assert not (root / "derivatives").exists()


def test_what_is_no_dataset_is_refused(dataset, run, capsys):
    root, _ = dataset
    assert run("--to", "mni152") == 2
    assert "has no images sub-" in capsys.readouterr().err
    (root / "dataset_description.json").unlink()
    assert run("--to", "mni152") == 2
    assert "is not a BIDS dataset" in capsys.readouterr().err


def test_the_derivatives_of_another_program_stay(dataset, run, capsys):
    root, add = dataset
    add("sub-01/anat/sub-01_T1w.nii.gz")
    path = root / "derivatives/m/dataset_description.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"GeneratedBy": [{"Name": "fMRIPrep"}]}')
    assert run("--to", "mni152") == 2
    assert "is not of mdvit_jax" in capsys.readouterr().err
    assert "fMRIPrep" in path.read_text()


def test_names_keep_the_order_of_the_standard():
    entities = {"sub": "1", "acq": "x", "chunk": "2", "desc": "brain"}
    added = bids_images.add_entities(entities, {"space": "S", "desc": "brainAffine"})
    name = bids_images.join_name(added, "T1w")
    assert name == "sub-1_acq-x_space-S_chunk-2_desc-brainAffine_T1w"


def test_the_space_of_a_template():
    assert bids_outputs.name_space("mni152", None) == SPACE
    name = "/t/tpl-MNI152NLin2009cAsym_res-01_T1w.nii.gz"
    assert bids_outputs.name_space(name, None) == "MNI152NLin2009cAsym"
    assert bids_outputs.name_space("/t/mine.nii", "Ours") == "Ours"
    with pytest.raises(errors.UserError, match="add --space"):
        bids_outputs.name_space("/t/mine.nii", None)
