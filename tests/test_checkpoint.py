"""Checkpoints that are damaged, incomplete or still being written."""

import contextlib
import logging
import resource
import shutil
import subprocess
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdvit_jax import errors
from mdvit_jax.io import sums
from mdvit_jax.training import checkpoint, metrics_log
from mdvit_jax.training.step import TrainState


def state(step: int) -> TrainState:
    """A state of the form that training saves, as small as possible."""
    params = {"params": {"kernel": jnp.full((3, 4), step, jnp.float32)}}
    return TrainState(jnp.int32(step), params, (jax.tree.map(jnp.ones_like, params),))


def save(workdir, *steps: int, keep: int = 3) -> None:
    with checkpoint.Checkpoints(workdir, keep=keep) as saved:
        for step in steps:
            saved.save(step, state(step))


def resume(workdir) -> int | None:
    """Restore; return the step, whose state it must be."""
    with checkpoint.Checkpoints(workdir, keep=3) as saved:
        restored = saved.restore(state(0))
    if restored is None:
        return None
    result, step = restored
    jax.tree.map(np.testing.assert_array_equal, result, state(step))
    return step


def files(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def content(folder):
    return {name: (folder / name).read_bytes() for name in files(folder)}


def warnings(caplog) -> list[str]:
    """The warnings since the last call."""
    texts = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    caplog.clear()
    return texts


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run with the steps 1, 2 and 3."""
    workdir = tmp_path_factory.mktemp("original")
    save(workdir, 1, 2, 3)
    return workdir


@pytest.fixture
def run(original, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(original, workdir)
    return workdir


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(flipped)


def remove(path):
    path.unlink()


def test_the_sums_are_those_of_sha256sum(original):
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    for step in "123":
        folder = original / "checkpoints" / step
        check = ["sha256sum", "--check", "--strict", sums.NAME]
        done = subprocess.run(check, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(": OK") == len(files(folder)) - 1  # not of itself


@pytest.mark.parametrize("damage", [truncate, flip, remove])
def test_if_any_file_is_damaged_the_checkpoint_before_is_used(
    original, run, caplog, damage
):
    newest = run / "checkpoints" / "3"
    names = files(newest)
    assert len(names) > 15
    for name in names:
        shutil.rmtree(run)
        shutil.copytree(original, run)
        if damage is not remove and not (newest / name).stat().st_size:
            continue
        damage(newest / name)
        if damage is remove and name.name == sums.NAME:  # as of a run killed before it
            assert resume(run) == 3 and not warnings(caplog)
            continue
        left = content(newest)
        assert resume(run) == 2, name
        (warning,) = warnings(caplog)
        assert f"{newest} is damaged" in warning and "3.damaged" in warning
        assert name.name in warning or name.name == sums.NAME
        assert content(run / "checkpoints" / "3.damaged") == left
        assert not newest.exists()
        assert resume(run) == 2 and not warnings(caplog)


def test_each_damaged_one_is_named(run, caplog):
    for step in "32":
        truncate(run / "checkpoints" / step / "_CHECKPOINT_METADATA")
    assert resume(run) == 1
    texts = warnings(caplog)
    assert len(texts) == 2 and "3.damaged" in texts[0] and "2.damaged" in texts[1]


def test_without_a_sound_checkpoint_it_is_an_error_and_none_is_renamed(run, caplog):
    for step in "123":
        flip(run / "checkpoints" / step / "params/_METADATA")
    before = content(run)
    with pytest.raises(errors.UserError, match=r"None of the .*3: params/_METADATA"):
        resume(run)
    assert content(run) == before and not warnings(caplog)


def test_a_checkpoint_without_sums_is_tried_by_loading(run, caplog):
    remove(run / "checkpoints" / "3" / sums.NAME)
    truncate(run / "checkpoints" / "3" / "params/_METADATA")
    assert resume(run) == 2
    assert len(warnings(caplog)) == 1


def test_a_step_set_aside_can_be_saved_repeatedly(run, caplog):
    (run / "checkpoints" / "3.damaged").write_text("in its place")
    for _ in range(2):
        truncate(run / "checkpoints" / "3" / "params/_METADATA")
        assert resume(run) == 2
        assert len(warnings(caplog)) == 1
        assert (run / "checkpoints" / "3.damaged").is_dir()
        save(run, 3)
        assert resume(run) == 3


def test_folders_with_other_names_stay(run, caplog):
    others = ["0004", "4.0", "４", "latest", "4 (copy)"]
    for name in others:
        (run / "checkpoints" / name).mkdir()
    assert resume(run) == 3 and not warnings(caplog)
    save(run, 4)
    assert resume(run) == 4 and not warnings(caplog)
    assert all((run / "checkpoints" / name).is_dir() for name in others)


def test_the_remains_of_a_killed_save_are_removed_with_a_warning(run, caplog):
    unfinished = run / "checkpoints" / "4.orbax-checkpoint-tmp"
    shutil.copytree(run / "checkpoints" / "3", unfinished)
    assert resume(run) == 3
    (warning,) = warnings(caplog)
    assert unfinished.name in warning and not unfinished.exists()


def write_scores(workdir, **scores: float) -> None:
    with metrics_log.MetricsLog(workdir, from_step=0) as record:
        for step, dsc in scores.items():
            record.write(int(step[1:]), {"dsc": dsc})


def test_the_newest_and_the_best_are_kept(tmp_path):
    write_scores(tmp_path, s2=0.8, s4=0.7, s6=float("nan"))
    save(tmp_path, *range(1, 8), keep=2)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["2", "6", "7"]
    with checkpoint.Checkpoints(tmp_path, keep=None) as saved:
        assert (saved.best, saved.latest) == (2, 7)


def test_reading_refuses_a_damaged_best_and_renames_nothing(run, caplog):
    write_scores(run, s2=0.6, s3=0.7)
    save(run, 4)
    unfinished = run / "checkpoints" / "5.orbax-checkpoint-tmp"
    unfinished.mkdir()
    truncate(run / "checkpoints" / "3" / "params/manifest.ocdbt")
    before = content(run)
    with (
        checkpoint.Checkpoints(run, keep=None) as saved,
        pytest.raises(errors.UserError, match=r"checkpoints/3 .*params/manifest.ocdbt"),
    ):
        saved.load_params(saved.best, state(0).params)
    assert content(run) == before and unfinished.exists()
    assert not warnings(caplog)


def test_training_does_not_wait_for_the_sums(tmp_path, monkeypatch):
    go_on, write = threading.Event(), sums.write

    def wait_and_write(folder):
        assert go_on.wait(60)
        write(folder)

    monkeypatch.setattr(sums, "write", wait_and_write)
    with checkpoint.Checkpoints(tmp_path, keep=3) as saved:
        saved.save(1, state(1))
        assert not (tmp_path / "checkpoints/1" / sums.NAME).exists()
        go_on.set()
        saved.save(2, state(2))
        assert (tmp_path / "checkpoints/1" / sums.NAME).exists()
    assert (tmp_path / "checkpoints/2" / sums.NAME).exists()


def test_a_failed_sum_is_an_error_when_the_run_ends(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sums, "write", fail)
    with pytest.raises(OSError, match="No space left on device"):
        save(tmp_path, 1)


@contextlib.contextmanager
def files_limited_to(size: int):
    """Let writing more than so many bytes to a file fail, for TensorStore too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("steps", [(4,), (4, 5)])  # an error at the end, or the next
def test_a_save_that_does_not_fit_leaves_the_one_before_intact(run, steps):
    before = content(run / "checkpoints" / "3")
    noise = np.random.default_rng(0).random(100_000)  # which is not compressed
    large = state(4)._replace(params={"params": {"kernel": jnp.asarray(noise)}})

    def save_large():
        with checkpoint.Checkpoints(run, keep=3) as saved:
            for step in steps:
                saved.save(step, large)

    with files_limited_to(100_000), pytest.raises(OSError, match="File too large"):
        save_large()
    assert content(run / "checkpoints" / "3") == before
    # Other threads of Orbax may still write to the rest of step 4, so only read.
    with checkpoint.Checkpoints(run, keep=None) as saved:
        restored, step = saved.restore(state(0))
    assert int(restored.step) == step == 3
