"""Damaged tables for `mdvit batch`: one sentence, or a status for every pair.

Both tables are damaged: the one of the pairs, and the results of an older run.
MDVIT_ODD_FILES is the number of tables damaged at random places.
"""

import csv
import os
import shutil

import nibabel as nib
import numpy as np
import pytest

from helpers import damage
from mdvit_jax import __main__
from mdvit_jax.cli.batch import results_csv
from mdvit_jax.io import image, lock
from mdvit_jax.registration import register
from oracle import heads

RANDOM_CASES = int(os.environ.get("MDVIT_ODD_FILES", "60"))
PAIRS = b"""fixed,moving,name,fixed_mask,labels
f.nii,m.nii,one,k.nii,l.nii
f.nii,m.nii,"two, or so",,l.nii
m.nii,f.nii,three,,
"""
STATUSES = {"ok", "check", "failed", "error"}


@pytest.fixture(scope="module")
def scans():
    """The bytes of the images that the pairs name, and a registration of two."""
    shape, affine = heads.grid(24, 8.0)
    head = (150 * heads.head(shape, affine)).astype(np.int16)
    data = {"f": head, "m": head[::-1], "k": head * 0 + 1, "l": 3 * (head > 40)}
    files = {
        f"{name}.nii": damage.stored(values.astype(np.int16), affine)
        for name, values in data.items()
    }
    image = nib.Nifti1Image(head, affine)
    return files, register.register(image, image, refine=False)


@pytest.fixture(scope="module")
def folder(scans, tmp_path_factory):
    """A folder with the images, where each test writes its tables and results."""
    folder = tmp_path_factory.mktemp("batch")
    for name, content in scans[0].items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def batch(scans, folder, monkeypatch, capsys):
    """Run on a table of pairs; returns the exit code and the results by name."""
    files, result = scans
    shutil.rmtree(folder / "r", ignore_errors=True)

    def registered(fixed, moving, **options):
        """Replace registration by a stored result; the files are still read."""
        for path in (fixed, moving):
            image.load(path)
        return result

    monkeypatch.setattr(register, "register", registered)
    monkeypatch.chdir(folder)

    def batch(pairs: bytes):
        (folder / "pairs.csv").write_bytes(pairs)
        words = ["--pairs", str(folder / "pairs.csv"), "--output", "r", "--no-images"]
        code = __main__.main(["batch", *words])
        output = capsys.readouterr()
        assert "Traceback" not in output.err, output.err
        read = {path.name for path in folder.iterdir()} - {"r"}
        assert read == {*files, "pairs.csv"}
        assert all((folder / name).read_bytes() == files[name] for name in files)
        assert not list(folder.glob("r/.partial_*"))
        if code == 2:
            lines = output.err.splitlines()
            assert len(lines) == 1 and lines[0].startswith("error: "), lines
            assert lines[0].endswith((".", "?")) and ".csv" in lines[0]
            assert not output.out
            return 2, None
        rows = results(folder)
        assert {row["status"] for row in rows.values()} <= STATUSES
        assert not any("a bug" in row["reasons"] for row in rows.values())
        return code, rows

    return batch


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Where the results of the sound table are kept."""
    return tmp_path_factory.mktemp("sound") / "r"


@pytest.fixture
def done(batch, folder, sound):
    """`batch`, after a run on the sound table, which is made once."""
    if sound.exists():
        shutil.copytree(sound, folder / "r")
    else:
        assert batch(PAIRS)[0] in (0, 1)
        shutil.copytree(folder / "r", sound)
    return batch


def results(folder) -> dict[str, dict[str, str]]:
    with (folder / "r/results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert all(set(row) == set(results_csv.COLUMNS) for row in rows)
    return {row["name"]: row for row in rows}


def outputs(folder) -> set[str]:
    result = {path.name for path in (folder / "r").iterdir()}
    return result - {"results.csv", lock.NAME}


def damaged(content: bytes, random) -> bytes:
    for _ in range(random.integers(1, 4)):
        content = damage.flipped(content, random)
    return content if random.random() < 0.8 else damage.cut(content, random)


def assert_all_are_there(folder, rows) -> None:
    named = {f"{name}.tfm" for name, r in rows.items() if r["status"] != "error"}
    assert {name for name in outputs(folder) if name.endswith(".tfm")} == named


@pytest.mark.parametrize("case", range(RANDOM_CASES))
def test_random_damage_to_pairs(batch, folder, case):
    random = np.random.default_rng(case)
    code, rows = batch(damaged(PAIRS, random))
    if code == 2:
        assert not (folder / "r").exists()
    else:
        assert_all_are_there(folder, rows)


@pytest.mark.parametrize("case", range(RANDOM_CASES))
def test_random_damage_to_results(done, folder, case):
    random = np.random.default_rng(case)
    path = folder / "r/results.csv"
    wrong = damaged(path.read_bytes(), random)
    path.write_bytes(wrong)
    code, rows = done(PAIRS)
    if code == 2:
        assert path.read_bytes() == wrong
    else:
        assert {"one", "two, or so", "three"} <= set(rows)


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        (b"\xef\xbb\xbf" + PAIRS, 0),
        (PAIRS.replace(b"\n", b"\r\n"), 0),
        (PAIRS.replace(b"\n", b"\r"), 0),
        (PAIRS.replace(b"f.nii", "f\u00fc.nii".encode()), 1),
        (PAIRS.replace(b"m.nii", b'"m\n.nii"'), 2),
        (PAIRS.replace(b"m.nii", b"m\0.nii"), 2),
        (PAIRS.replace(b"m.nii", b"\x1b[2Jm.nii"), 2),
        (PAIRS.replace(b"k.nii", b"k\0.nii"), 2),
        (PAIRS.replace(b"m.nii", b"~no such user/m.nii"), 1),
        (PAIRS.replace(b"one", b"o" * 300), 1),
        (PAIRS.replace(b"m.nii", b"m" * 5000 + b".nii"), 1),
        (PAIRS.replace(b"m.nii", b"m" * 200000), 2),
        (PAIRS.replace(b"one", b"results"), 0),
        (PAIRS.replace(b"fixed_mask", b"moving"), 2),
        (PAIRS.replace(b"moving", b"mo\x0cving"), 2),
        (PAIRS.replace(b"fixed_mask", b"of\na person"), 2),
        (PAIRS.replace(b"fixed_mask", b'"of\na person"'), 0),
        (PAIRS.replace(b"f.nii", b"."), 1),
        (PAIRS.replace(b"f.nii", b"/dev/null"), 1),
        (PAIRS.replace(b"l.nii", b"m.nii,"), 2),
        (PAIRS.decode().encode("utf-16"), 0),
        (b"\0" * 500, 2),
        (b"\n\n\n" + PAIRS, 2),
    ],
)
def test_odd_tables(batch, pairs, code):
    assert batch(pairs)[0] == code


@pytest.mark.parametrize("column", ["status", "correlation_after", "seconds", "name"])
@pytest.mark.parametrize("cell", ["", "x", "nan", "1e999"])
def test_odd_cells_of_results(done, folder, column, cell):
    rows = [*results(folder).values()]
    for row in rows:
        row["status"] = "failed"  # they are sorted by the others
        row[column] = cell
    results_csv.write(folder / "r/results.csv", rows)
    code, after = done(PAIRS)
    assert code == 2 or {"one", "two, or so", "three"} <= set(after)
