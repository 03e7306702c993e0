"""Files are replaced whole: with long and odd names, and behind symbolic links."""

import json
import os

import nibabel as nib
import numpy as np
import pytest

from mdvit_jax import errors, transforms
from mdvit_jax.io import atomic
from test_apply_transform import WARP, folder, run

__all__ = ["folder"]  # a fixture


@pytest.mark.parametrize("name", ["a", "a.nii.gz", "." * 40 + "x", "é" * 120 + ".nii"])
@pytest.mark.parametrize("length", [None, 247, 255])
def test_a_name_of_any_length(tmp_path, name, length):
    if length:
        name = "n" * (length - len(os.fsencode(name))) + name
    with atomic.replacing(tmp_path / name) as beside:
        assert beside.parent == tmp_path and beside.name.startswith(".partial_")
        assert not name.endswith(".nii.gz") or beside.name.endswith(".nii.gz")
        beside.write_text("new")
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "new"


def test_bytes_that_are_not_utf_8_become_escapes(tmp_path):
    text = json.dumps({"path": "caf\udce9.nii"}, ensure_ascii=False)
    atomic.write_text(tmp_path / "a.json", text, errors="backslashreplace")
    assert json.loads((tmp_path / "a.json").read_text())["path"] == "caf\udce9.nii"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def fail(path):
        path.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), atomic.replacing(tmp_path / "a.txt") as path:
        fail(path)
    assert os.listdir(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("relative", [False, True])
def test_the_target_of_a_symbolic_link_is_written(tmp_path, there, relative):
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store/real.txt", tmp_path / "link.txt"
    link.symlink_to("store/real.txt" if relative else target)
    if there:
        target.write_text("old")
    atomic.write_text(link, "new")
    assert link.is_symlink() and target.read_text() == "new"
    assert os.listdir(tmp_path / "store") == ["real.txt"]


def test_what_is_no_file_is_not_replaced(folder, capsys):
    os.mkfifo(folder / "pipe")
    for name in ("w.nii.gz", "t.tfm"):
        (folder / name).symlink_to("pipe")
    words = ["--transform", "a.tfm", *WARP, "--output", "w.nii.gz", "--overwrite"]
    assert run(folder, words) == 2
    message = capsys.readouterr().err
    assert "w.nii.gz cannot be written (what is there is not a file)" in message
    with pytest.raises(errors.UserError, match="not a file"):
        transforms.write(folder / "t.tfm", np.eye(4))
    assert (folder / "pipe").is_fifo() and not [*folder.glob(".partial*")]


def test_an_output_that_is_a_link(folder, capsys):
    (folder / "store").mkdir()
    (folder / "w.nii.gz").symlink_to(folder / "store/w.nii.gz")
    words = ["--transform", "a.tfm", *WARP, "--output", "w.nii.gz"]
    assert run(folder, words) == 0
    assert (folder / "w.nii.gz").is_symlink()
    assert nib.load(folder / "store/w.nii.gz").get_fdata().any()
    assert run(folder, words) == 2
    assert "is there already" in capsys.readouterr().err
    (folder / "v.nii.gz").symlink_to(folder / "gone/v.nii.gz")
    assert run(folder, [*words[:-1], "v.nii.gz"]) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["x" * 240 + ".nii.gz", "x" * 248 + ".nii.gz", "caf\udce9.nii.gz", "ü ß.nii"],
)
def test_outputs_of_long_and_odd_names(folder, name):
    words = ["--transform", "a.tfm", *WARP, "--output", name]
    assert run(folder, words) == 0
    assert os.fsencode(name) in os.listdir(os.fsencode(folder))
    assert np.asanyarray(nib.load(folder / name).dataobj).any()
    os.rename(folder / "moving.nii.gz", folder / "m\udce9.nii.gz")
    words = ["--transform", "a.tfm", "--moving", "m\udce9.nii.gz"]
    words += ["--reference", "fixed.nii.gz", "--output", "again.nii.gz"]
    assert run(folder, words) == 0
