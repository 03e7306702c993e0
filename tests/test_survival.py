"""Training survives kills, a closed terminal, a full disk and lost scans.

MDVIT_KILLS=50 kills more often than the suite does.
"""

import contextlib
import gc
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure

from helpers import forked
from helpers.recorded_run import ROOT
from helpers.run import final_bytes
from mdvit_jax import errors
from mdvit_jax.config import load_config
from mdvit_jax.data import cache, cohort, dataset, pairs, pipeline
from mdvit_jax.io import sums
from mdvit_jax.plots import panels
from mdvit_jax.training import checkpoint, loop, metrics_log

pytestmark = pytest.mark.usefixtures("shared_programs")

KILLS = int(os.environ.get("MDVIT_KILLS", "3"))
EVERY = 7  # steps from one validation to the next
SETTINGS = {
    **{"data.label_scheme": "tissue", "data.split": "(2, 2, 0)"},
    **{"model.dilated_form": "none", "model.strides": "(2,)", "optim.batch": "1"},
    **{"optim.steps": str(5 * KILLS), "validation.every": str(EVERY)},
    "checkpoint.every": "3",
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The environment of commands, with a cache of compiled programs."""
    folder = tmp_path_factory.mktemp("compiled")
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@pytest.fixture(scope="module")
def prepared(tiny):
    return tiny | SETTINGS


@pytest.fixture(scope="module")
def short(prepared):
    """A shorter run, which validates after the steps 7 and 10."""
    return prepared | {"optim.steps": "10"}


@pytest.fixture(scope="module")
def unbroken(short, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "unbroken"
    assert loop.train(config(workdir, short)) == 0
    return workdir


def config(workdir, settings):
    overrides = settings | {"workdir": str(workdir)}
    return load_config(ROOT / "configs/default.py", overrides)


def command(workdir, settings):
    overrides = (settings | {"workdir": str(workdir)}).items()
    options = [f"--config.{name}={value}" for name, value in overrides]
    return [sys.executable, "train.py", "--config", "configs/default.py", *options]


def rows(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_at_random(process, record, before, most, random) -> None:
    """SIGKILL a run at a random moment between its resumption and `most` rows later.

    It has resumed when its `record` is another file than the inode `before`.
    """
    wanted, delay = random.integers(0, most), random.uniform(0, 0.5)
    first = moment = None
    while process.poll() is None:
        now = time.monotonic()
        if first is None and record.exists() and record.stat().st_ino != before:
            first = rows(record)
        if first is not None and moment is None and rows(record) >= first + wanted:
            moment = now + delay
        if moment is not None and (now > moment or rows(record) >= first + most):
            break
        time.sleep(0.002)
    process.kill()
    assert process.wait(timeout=100) == -signal.SIGKILL


def validating(record) -> bool:
    """Whether the run is between a step and the row of its validation."""
    last = (record.read_text().splitlines() or ["{}"])[-1]
    row = json.loads(last) if last.endswith("}") else {}
    return "loss" in row and row["step"] % EVERY == 0


@pytest.mark.timeout(600 + 60 * KILLS)
def test_killed_again_and_again_a_run_ends_bit_identical(prepared, compiled, tmp_path):
    """In training, validation and saving: rows and files may be cut anywhere."""
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    # It compiles all programs, so that no kill finds one half written.
    whole = forked.Program(command(unbroken, prepared)[1:], compiled)
    assert whole.wait(timeout=500) == 0, whole.output()

    random, record = np.random.default_rng(0), broken / "metrics.jsonl"
    output, left = "", {"validation": 0, "unfinished save": 0, "no sums": 0}
    total = rows(unbroken / "metrics.jsonl")
    for number in range(KILLS):
        before = record.stat().st_ino if record.exists() else None
        most = max(1, (total - rows(record)) // (KILLS - number))
        workers = {"data.workers": str(int(number % 3 == 2))}
        run = forked.Program(command(broken, prepared | workers)[1:], compiled)
        kill_at_random(run, record, before, most, random)
        output += run.output()
        saved = list((broken / "checkpoints").glob("*"))
        left["unfinished save"] += any(path.suffix for path in saved)
        left["no sums"] += any(
            not (path / "SHA256SUMS").exists() for path in saved if not path.suffix
        )
        left["validation"] += validating(record)
    print(f"{KILLS} kills left {left}")
    # That sums are missing is too rare to count on; `test_resume` deletes them.
    assert KILLS < 50 or (left["validation"] and left["unfinished save"])
    last = forked.Program(command(broken, prepared)[1:], compiled)
    assert last.wait(timeout=500) == 0, last.output()
    assert record.read_text() == (unbroken / "metrics.jsonl").read_text()
    assert final_bytes(broken) == final_bytes(unbroken)
    with (
        checkpoint.Checkpoints(broken, keep=None) as one,
        checkpoint.Checkpoints(unbroken, keep=None) as other,
    ):
        assert one.best == other.best
    output += last.output()
    assert "Traceback" not in output and "damaged" not in output
    assert output.count("removed the unfinished save") <= KILLS


def assert_ends_like(unbroken, workdir):
    record = (workdir / "metrics.jsonl").read_text()
    assert record == (unbroken / "metrics.jsonl").read_text()
    assert final_bytes(workdir) == final_bytes(unbroken)


def wait_for_rows(process, workdir):
    deadline = time.monotonic() + 200
    while not rows(workdir / "metrics.jsonl"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def test_a_closed_terminal_ends_a_run_which_saves_and_goes_on(
    prepared, compiled, tmp_path
):
    """All its processes get the signal; the loading worker ignores it."""
    late = ("optim.steps", "validation.every", "checkpoint.every")
    endless = prepared | dict.fromkeys(late, "100000")
    ours, terminal = pty.openpty()
    run = subprocess.Popen(
        command(tmp_path, endless | {"data.workers": "1"}),
        cwd=ROOT,
        env=compiled,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    wait_for_rows(run, tmp_path)
    os.killpg(run.pid, signal.SIGHUP)
    os.close(ours)  # what the run prints from now on gets lost
    assert run.wait(timeout=200) == 128 + signal.SIGHUP
    with checkpoint.Checkpoints(tmp_path, keep=None) as saved:
        newest = saved.latest
    assert newest == rows(tmp_path / "metrics.jsonl") < 100_000
    further = endless | {"optim.steps": str(newest + 1)}
    assert loop.train(config(tmp_path, further)) == 0
    assert final_bytes(tmp_path)[0] == newest + 1


def test_a_run_with_closed_output_is_completed(short, compiled, tmp_path):
    """As after `| head`; and under nohup, which ignores hangups."""
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the run inherits it
        run = subprocess.Popen(
            command(tmp_path, short),
            cwd=ROOT,
            env=compiled,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    run.stdout.close()
    wait_for_rows(run, tmp_path)
    run.send_signal(signal.SIGHUP)
    assert run.wait(timeout=200) == 0
    assert final_bytes(tmp_path)[0] == 10


@contextlib.contextmanager
def small_disk(folder: Path, size: int):
    """Mount a file system of `size` bytes."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here ({error})")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_a_run_in_a_sentence_and_it_resumes(
    short, compiled, unbroken, tmp_path
):
    disk = tmp_path / "disk"
    train = command(disk / "run", short)
    options = {"cwd": ROOT, "env": compiled, "stderr": subprocess.PIPE, "text": True}
    with small_disk(disk, 1 << 22):
        other = disk / "other"
        other.write_bytes(bytes((1 << 22) - 500_000))  # room for two checkpoints or so
        run = subprocess.run(train, **options)
        assert run.returncode == 2, run.stderr
        assert "Traceback" not in run.stderr
        last = run.stderr.rstrip().splitlines()[-1]
        assert last.startswith("error: ") and last.count("error: ") == 1
        assert str(disk / "run") in last and "No space left" in last
        with checkpoint.Checkpoints(disk / "run", keep=None) as saved:
            newest = saved.latest
        assert 0 < newest < 10
        assert sums.damage(disk / f"run/checkpoints/{newest}") is None
        other.unlink()
        run = forked.Program(train[1:], compiled)
        assert run.wait(timeout=200) == 0, run.output()
        assert f"Going on after step {newest}" in run.output()
        assert_ends_like(unbroken, disk / "run")


@pytest.mark.parametrize("name", ["", "checkpoints", "metrics.jsonl", "validation"])
def test_a_file_in_place_of_a_folder_is_one_sentence(short, tmp_path, name):
    """Like a folder without write permission, which root could not be tested with."""
    workdir = tmp_path / "run"
    way = workdir / name
    way.parent.mkdir(exist_ok=True)
    if name == "metrics.jsonl":
        way.mkdir()
    else:
        way.write_text("")
    match = f"^{workdir} cannot be written to"
    with pytest.raises(errors.UserError, match=match) as refusal:
        loop.train(config(workdir, short))
    assert "\n" not in str(refusal.value)


@contextlib.contextmanager
def lost_after(step, image):
    """Lose a file when the record of a run reaches a step; restore it at the end."""
    write, content = metrics_log.MetricsLog.write, image.read_bytes()

    def write_and_lose(self, at, values):
        write(self, at, values)
        if at == step:
            image.unlink(missing_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics_log.MetricsLog, "write", write_and_lose)
        yield
    image.write_bytes(content)


@pytest.mark.parametrize(
    ("part", "row", "saved"), [("train", 4, 5), ("validation", 5, 7)]
)
def test_a_scan_that_vanishes_stops_a_run_which_saves_and_goes_on(
    short, unbroken, tmp_path, part, row, saved
):
    settings = config(tmp_path / "run", short)
    scan = dataset.open_part(settings, part).scans[0]
    image = cache.scan_folder(scan, settings) / "image.npy"
    with (
        lost_after(row, image),
        pytest.raises(errors.UserError, match=r"Step \d+ is saved") as refusal,
    ):
        loop.train(settings)
    assert str(image.parent) in str(refusal.value)
    assert ("data.skip_unreadable=True" in str(refusal.value)) == (part == "train")
    with checkpoint.Checkpoints(tmp_path / "run", keep=None) as kept:
        assert f"Step {kept.latest} is saved" in str(refusal.value)
        assert kept.latest == saved
    assert loop.train(settings) == 0
    assert_ends_like(unbroken, tmp_path / "run")


def test_figures_are_freed_before_the_next_validation(short, tmp_path, monkeypatch):
    often = {"optim.steps": "6", "validation.every": "2"}
    settings = config(tmp_path, short | often)
    save, alive = panels.save_figure, []

    def save_and_count(*arguments):
        save(*arguments)
        alive.append(sum(type(one) is Figure for one in gc.get_objects()))

    monkeypatch.setattr(panels, "save_figure", save_and_count)
    gc.collect()
    gc.disable()  # it comes rarely by itself among the many objects of a real run
    try:
        assert loop.train(settings) == 0
    finally:
        gc.enable()
    assert len(alive) == 6
    assert max(alive) == 2  # the worst pair and the curves


@pytest.fixture(scope="module")
def skipping(prepared, tmp_path_factory):
    """The settings of a run that leaves out unreadable scans and has no cache."""
    folder = tmp_path_factory.mktemp("scans")
    synthetic = config("unused", prepared)
    for scan in cohort.read(synthetic):
        made = dataset.conform_scan(scan, synthetic)
        image = nib.Nifti1Image(made.image, made.to_world)
        image.to_filename(folder / f"{scan.subject}.nii.gz")
    files = {"data.layout": "folder", "data.root": str(folder), "data.cache": ""}
    files |= {"data.label_scheme": "", "data.split": "(4, 2, 0)", "optim.steps": "10"}
    return prepared | files | {"data.skip_unreadable": "true"}


@contextlib.contextmanager
def recorded(pairs):
    """Fill a dictionary with step → the pair of each batch of a run."""
    load = pipeline.batches

    def batches(*arguments, **options):
        with contextlib.closing(load(*arguments, **options)) as stream:
            for batch in stream:
                pair = batch["fixed_index"].item(), batch["moving_index"].item()
                pairs[batch["step"]] = pair
                yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "batches", batches)
        yield


def list_warnings(scan, caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.endswith("skipped_scans") and scan.subject in record.getMessage()
    ]


def test_a_run_goes_on_without_a_lost_scan_and_resumes_as_if_unbroken(
    skipping, tmp_path, caplog
):
    settings = config(tmp_path / "unbroken", skipping)
    scans = dataset.open_part(settings, "train")
    lost = scans.scans[3]  # which is drawn again and again from step 6 on
    drawn = [pairs.draw(0, s, 1, scans.persons, "reference")[0] for s in range(10)]
    assert [step for step in range(4, 10) if 3 in drawn[step]] == [6, 7, 8, 9]
    used, resumed = {}, {}

    with lost_after(3, lost.image), recorded(used):
        assert loop.train(settings) == 0
    (warning,) = list_warnings(lost, caplog)
    start = f"{lost.subject} cannot be read and is left out, 1 of 4 scans so far: "
    assert warning.startswith(start) and str(lost.image) in warning
    assert all(used[step] == tuple(drawn[step]) for step in range(6))
    assert not any(3 in used[step] for step in range(6, 10))

    # Stopped by the loss, and allowed to go on without the scan, now with a worker.
    caplog.clear()
    stopping = skipping | {"data.skip_unreadable": "false"}
    with lost_after(3, lost.image):
        with pytest.raises(errors.UserError, match="Step 6 is saved"):
            loop.train(config(tmp_path / "stopped", stopping))
        assert not list_warnings(lost, caplog)
        settings = config(tmp_path / "stopped", skipping | {"data.workers": "1"})
        with recorded(resumed):
            assert loop.train(settings) == 0
    assert resumed == {step: used[step] for step in range(6, 10)}
    assert_ends_like(tmp_path / "unbroken", tmp_path / "stopped")
    assert len(list_warnings(lost, caplog)) == 1
