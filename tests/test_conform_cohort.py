"""Preparing a cache: complete, resumable after a kill, with warnings of bad files."""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from configs import default
from mdvit_jax import errors
from mdvit_jax.data import cache, cohort, conform_cohort, dataset
from mdvit_jax.io import atomic


def save(path: Path, seed: int) -> None:
    image = np.zeros((12, 14, 10), np.float32)
    random = np.random.default_rng(seed)
    image[3:9, 3:11, 2:8] = random.uniform(1, 2, (6, 8, 6))
    nib.Nifti1Image(image, np.diag([2, 2, 2, 1.0])).to_filename(path)


def configuration(folder: Path, scans: int):
    config = default.get_config()
    config.data.root = str(folder / "scans")
    config.data.cache = str(folder / "cache")
    config.data.split = (scans - 1, 1, 0)
    config.data.size = 12
    config.data.field_of_view = 36.0
    (folder / "scans").mkdir()
    for seed in range(scans):
        save(folder / f"scans/s{seed:02}.nii.gz", seed)
    return config


def contents(config) -> dict[str, bytes]:
    """Name → bytes of every file of the cache."""
    folder = Path(config.data.cache)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_prepares_once_and_skips_what_is_there(tmp_path, capfd):
    config = configuration(tmp_path, 4)
    assert conform_cohort.conform_cohort(config) == 0
    assert "4/4" in capfd.readouterr().err  # the progress bar
    opened = dataset.open_part(config, "train")
    for scan, conformed in zip(opened.scans, opened, strict=True):
        for one, other in zip(
            conformed, dataset.conform_scan(scan, config), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    before = contents(config)
    times = {p: p.stat().st_mtime_ns for p in Path(config.data.cache).glob("s*/*")}
    assert conform_cohort.conform_cohort(config) == 0
    assert contents(config) == before
    assert times == {p: p.stat().st_mtime_ns for p in times}

    # One file changes, another entry is damaged: these two are made again.
    save(tmp_path / "scans/s01.nii.gz", 99)
    (tmp_path / "cache/s02/image.npy").write_bytes(b"")
    assert conform_cohort.conform_cohort(config) == 0
    after = contents(config)
    changed = {name.split("/")[0] for name in after if after[name] != before.get(name)}
    assert changed == {"s01"}
    assert (tmp_path / "cache/s02").stat().st_mtime_ns > max(times.values())


def test_bad_files_are_named_skipped_counted_and_tried_again(tmp_path, caplog):
    config = configuration(tmp_path, 5)
    (tmp_path / "scans/s01.nii.gz").write_bytes(b"not an image")
    sound = (tmp_path / "scans/s03.nii.gz").read_bytes()
    (tmp_path / "scans/s03.nii.gz").write_bytes(sound[:-20])
    assert conform_cohort.conform_cohort(config) == 2
    for name in ("s01", "s03"):
        assert f"Skipped {name}: " in caplog.text
        assert str(tmp_path / f"scans/{name}.nii.gz") in caplog.text
    assert "2 of 5 scans are bad and were skipped" in caplog.text
    bad = json.loads((tmp_path / "cache/bad.json").read_text())
    assert set(bad) == {"s01", "s03"} and "not a gzip file" in bad["s01"]["why"]

    caplog.clear()
    parts = [dataset.open_part(config, part) for part in ("train", "validation")]
    subjects = {subject for part in parts for subject in part.subjects}
    assert subjects == {"s00", "s02", "s04"}
    assert "bad and left out" in caplog.text

    caplog.clear()
    assert conform_cohort.conform_cohort(config) == 2  # still bad, and reported again
    assert "Skipped s01" in caplog.text
    (tmp_path / "scans/s03.nii.gz").write_bytes(sound)
    assert conform_cohort.conform_cohort(config) == 1
    assert set(json.loads((tmp_path / "cache/bad.json").read_text())) == {"s01"}


def test_warnings_of_the_workers_reach_the_log(tmp_path, caplog):
    config = configuration(tmp_path, 2)
    image = nib.load(tmp_path / "scans/s00.nii.gz").get_fdata()
    image[4, 4, 4] = np.nan
    nib.Nifti1Image(image, np.diag([2, 2, 2, 1.0])).to_filename(
        tmp_path / "scans/s00.nii.gz"
    )
    assert conform_cohort.conform_cohort(config) == 0
    assert "1 voxels that are NaN" in caplog.text and "s00.nii.gz" in caplog.text


PROGRAM = """
import pickle, sys
from mdvit_jax.data import conform_cohort
if __name__ == "__main__":
    config = pickle.load(open(sys.argv[1], "rb"))
    conform_cohort.conform_cohort(config)
    assert not {"jax", "grain", "flax"} & set(sys.modules)
"""


def test_killed_at_any_moment_it_is_resumed(tmp_path):
    """SIGKILL leaves no half scan and no worker, and the final cache is the same."""
    config = configuration(tmp_path, 12)
    expected = config.copy_and_resolve_references()
    expected.data.cache = str(tmp_path / "unbroken")
    assert conform_cohort.conform_cohort(expected) == 0

    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "config").write_bytes(pickle.dumps(config))
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "config")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    folder = Path(config.data.cache)
    for target in (1, 4, 7):
        run = subprocess.Popen(
            command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
        )
        for _ in range(3000):
            if len(list(folder.glob("s*"))) >= target or run.poll() is not None:
                break
            time.sleep(0.005)
        run.kill()
        run.wait()
        for _ in range(500):  # its workers end by themselves
            try:
                os.killpg(run.pid, 0)
            except ProcessLookupError:
                break
            time.sleep(0.02)
        else:
            os.killpg(run.pid, signal.SIGKILL)
            pytest.fail("worker processes outlived the killed one")
        for scan in cohort.read(config):
            if cache.stale_reason(scan, config) is None:
                cache.read(scan, config)  # whole
    (folder / ".partial-1-s00").mkdir(exist_ok=True)
    (folder / ".partial-bad.json").touch()  # as of an earlier version
    (folder / atomic._partial_name("other.json")).touch()
    run = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert run.returncode == 0, run.stderr
    assert contents(config) == contents(expected)
    assert not list(folder.glob(".*"))


def test_a_synthetic_cohort(tmp_path):
    config = default.get_config()
    config.data.layout = "synthetic"
    config.data.synthetic.people = 2
    config.data.split = (1, 1, 0)
    config.data.size = 64
    config.data.cache = str(tmp_path / "cache")
    assert conform_cohort.conform_cohort(config) == 0
    scan = dataset.open_part(config, "train").scans[0]
    cached = dataset.open_part(config, "train")[0]
    for one, other in zip(cached, dataset.conform_scan(scan, config), strict=True):
        np.testing.assert_array_equal(one, other)


def test_refusals(tmp_path):
    config = configuration(tmp_path, 2)
    config.data.cache = ""
    with pytest.raises(errors.UserError, match="data.cache is empty"):
        conform_cohort.conform_cohort(config)
    config.data.cache = str(tmp_path / "scans/s00.nii.gz/cache")
    with pytest.raises(errors.UserError, match="cannot be written"):
        conform_cohort.conform_cohort(config)
    config.data.cache = str(tmp_path / "cache")
    config.data.split = (20, 1, 1)
    with pytest.raises(errors.UserError, match="data.split"):
        conform_cohort.conform_cohort(config)
    assert not (tmp_path / "cache").exists()


def test_a_killed_worker_is_explained(tmp_path, monkeypatch):
    config = configuration(tmp_path, 2)
    monkeypatch.setattr(conform_cohort, "_conform_one", _kill_oneself)
    with pytest.raises(errors.UserError, match="killed from outside"):
        conform_cohort.conform_cohort(config)


def _kill_oneself(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_full_disk_is_no_bad_file(tmp_path, monkeypatch, caplog):
    config = configuration(tmp_path, 2)
    monkeypatch.setattr(conform_cohort, "_conform_one", _fill_the_disk)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(errors.UserError, match="No space left on device"),
    ):
        conform_cohort.conform_cohort(config)
    assert "Skipped" not in caplog.text


def _fill_the_disk(*_):
    raise OSError(28, "No space left on device")
