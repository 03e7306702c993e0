"""A training run as a whole: resumed, interrupted, fine-tuned, refused."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from jax.experimental import multihost_utils

from helpers.programs import compiled_programs
from helpers.run import final_bytes, newest_checkpoint
from mdvit_jax import errors
from mdvit_jax.config import differences, load_config, read_config, save_config
from mdvit_jax.data import cache, dataset, pairs
from mdvit_jax.evaluation import scoring
from mdvit_jax.io import lock, sums
from mdvit_jax.models import initial_weights
from mdvit_jax.training import (
    checkpoint,
    distributed,
    loop,
    metrics_log,
    monitor,
    optimizer,
    preemption,
    pretrained,
    progress,
    resume,
    setup,
    step,
)

pytestmark = pytest.mark.usefixtures("shared_programs")

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "data.layout": "synthetic",
    "data.label_scheme": "tissue",
    "data.size": "16",
    "data.split": "(4, 2, 0)",
    "data.workers": "0",
    "data.synthetic.people": "6",
    "model.embedding": "8",
    "model.depth": "1",
    "model.dilations": "(1,)",
    "model.patches": "(3,)",  # one stage is quickest to compile
    "model.strides": "(4,)",
    "loss.stride": "1",
    "loss.levels": "1",
    "optim.steps": "8",
    "optim.lr": "1e-3",
    "validation.every": "4",
    "checkpoint.every": "3",
}


def config(workdir, **changes):
    overrides = TINY | {name.replace("__", "."): v for name, v in changes.items()}
    return load_config(
        ROOT / "configs/default.py", overrides | {"workdir": str(workdir)}
    )


@pytest.fixture(scope="module", autouse=True)
def prepared_people(tiny):
    """Their cache, so that no run makes its people again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TINY, "data.cache", tiny["data.cache"])
        yield


def test_after_the_first_validation_and_save_nothing_is_compiled(
    tmp_path, monkeypatch, shared_programs
):
    """The first test of the file, as the others can use what it compiles."""
    shared_programs.clear()
    write, compiled = metrics_log.MetricsLog.write, {}

    def write_and_count(self, at, values):
        write(self, at, values)
        compiled[at] = list(programs)

    monkeypatch.setattr(metrics_log.MetricsLog, "write", write_and_count)
    with compiled_programs() as programs:
        loop.train(config(tmp_path / "run", optim__steps="12", validation__every="3"))
    assert compiled[1]
    assert compiled[12][len(compiled[4]) :] == []


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "unbroken"
    assert loop.train(config(workdir)) == 0
    return workdir


def test_a_run_learns_from_where_people_lie(tmp_path, tiny):
    """The affines reach the loss, and without them the run is refused."""
    changes = {"loss__people": "True", "loss__known": "0.05", "optim__steps": "1"}
    changes |= {"augment__affine__which": "both", "validation__every": "9"}
    changes["data__cache"] = str(tmp_path / "cache")
    shutil.copytree(tiny["data.cache"], changes["data__cache"])
    chosen = config(tmp_path / "none", **changes)
    with pytest.raises(errors.UserError, match=r"to_template.json, .* missing"):
        loop.train(chosen)
    assert not (tmp_path / "none").exists()
    run_losses = []
    for shift in (0.0, 30.0):
        for scan in dataset.open_part(chosen, "train").scans:
            matrix = np.diag([128.0, 128, 128, 1])
            matrix[0, 3] = shift * int(scan.image.name)
            path = cache.scan_folder(scan, chosen) / "to_template.json"
            path.write_text(json.dumps(matrix.tolist()))
        workdir = tmp_path / f"{shift}"
        loop.train(config(workdir, **changes))
        row = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[0])
        run_losses.append(row["loss"])
    assert run_losses[1] > run_losses[0] + 0.5  # 30 mm weigh 1.5


def test_a_run_leaves_what_it_promises(unbroken):
    rows = [
        json.loads(r) for r in (unbroken / "metrics.jsonl").read_text().splitlines()
    ]
    losses = [row for row in rows if "loss" in row]
    assert [row["step"] for row in losses] == list(range(1, 9))
    scores = [row for row in rows if "dsc" in row]
    assert [row["step"] for row in scores] == [4, 8]
    assert {"validation_loss", "dsc", "dsc30", "hd95", "jaccard"} <= scores[0].keys()
    assert (unbroken / "curves.png").stat().st_size > 10_000
    pictures = sorted(p.name for p in (unbroken / "validation").iterdir())
    assert pictures == ["0000004.png", "0000008.png"]
    with checkpoint.Checkpoints(unbroken, keep=None) as saved:
        assert saved.latest == 8
        best = max(scores, key=lambda row: (row["dsc"], row["step"]))
        assert saved.best == best["step"]
    saved_config = read_config(unbroken)
    assert differences(saved_config, config(unbroken)) == {}
    assert not any(unbroken.glob("stalled*"))


def signal_when(monkeypatch, module, name, wanted):
    """Send SIGTERM after the first call whose arguments satisfy `wanted`."""
    function = getattr(module, name)

    def call_and_signal(*arguments, **options):
        result = function(*arguments, **options)
        if wanted(*arguments):
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(module, name, call_and_signal)


@pytest.mark.parametrize(
    ("row", "saved"),
    [(2, 3), (7, 8)],  # step 3 needs no validation; step 8 does, and is the last
)
def test_a_signal_saves_first_and_the_run_goes_on(
    unbroken, tmp_path, monkeypatch, row, saved
):
    signal_when(
        monkeypatch, metrics_log.MetricsLog, "write", lambda _, step, __: step == row
    )
    assert_goes_on(unbroken, tmp_path / "stopped", monkeypatch, saved=saved)


def test_a_signal_during_a_validation_saves_and_validates_later(
    unbroken, tmp_path, monkeypatch
):
    signal_when(monkeypatch, scoring, "warp_and_score", lambda *_: True)
    assert_goes_on(unbroken, tmp_path / "stopped", monkeypatch, saved=4)


def assert_goes_on(unbroken, workdir, monkeypatch, *, saved):
    assert loop.train(config(workdir)) == 143
    monkeypatch.undo()
    assert final_bytes(workdir)[0] == saved
    assert not (workdir / f"validation/{saved:07d}.png").exists()
    assert loop.train(config(workdir)) == 0
    rows = (workdir / "metrics.jsonl").read_text()
    assert rows == (unbroken / "metrics.jsonl").read_text()
    assert final_bytes(workdir) == final_bytes(unbroken)
    pictures = [sorted(p.name for p in w.glob("**/*.png")) for w in (workdir, unbroken)]
    assert pictures[0] == pictures[1]
    best = []
    for run in (workdir, unbroken):
        with checkpoint.Checkpoints(run, keep=None) as kept:
            best.append(kept.best)
    assert best[0] == best[1]


def test_a_second_signal_does_not_cut_the_last_save_short(tmp_path, monkeypatch):
    write, handlers = sums.write, []

    def write_slowly(folder):
        time.sleep(1)  # training is over meanwhile
        handlers.append(signal.getsignal(signal.SIGTERM))
        write(folder)

    monkeypatch.setattr(sums, "write", write_slowly)
    assert loop.train(config(tmp_path, optim__steps="1")) == 0
    assert handlers and signal.SIG_DFL not in handlers


def test_all_processes_ask_equally_often(monkeypatch):
    """JAX has them agree on a step number, which must rise with each question."""
    asked = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        multihost_utils,
        "reached_preemption_sync_point",
        lambda number: asked.append(number) or number == 3,
    )
    signals = preemption.Preemption()
    assert [signals.should_stop() for _ in range(3)] == [False, False, True]
    assert asked == [1, 2, 3] and signals.exit_code == 143


def test_a_hangup_of_one_of_several_processes_is_passed_on_to_all(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    passed_on = []
    before = signal.signal(signal.SIGTERM, lambda *_: passed_on.append(True))
    try:
        with preemption.Preemption() as signals:
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert passed_on == [True] and signals.exit_code == 0


def test_the_first_of_two_signals_is_remembered():
    with preemption.Preemption() as signals:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
    assert signals.should_stop() and signals.exit_code == 129


def test_processes_that_would_not_train_the_same_network_are_refused(
    tmp_path, monkeypatch
):
    one = config(tmp_path, data__root="here", data__workers="2")
    parts = [dataset.open_part(one, part) for part in ("train", "validation")]
    gathered: list = []

    def gather(digests):  # this process, as number 2, after two others of its kind
        gathered.append(digests)
        return np.stack([gathered[0], gathered[0], digests])

    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(multihost_utils, "process_allgather", gather)
    setup.check_processes_agree(one, parts)
    setup.check_processes_agree(config(tmp_path / "x", data__root="there"), parts)
    with pytest.raises(errors.UserError, match="number 2 has another configuration"):
        setup.check_processes_agree(config(tmp_path, optim__lr="2e-3"), parts)
    with pytest.raises(errors.UserError, match="number 2 finds other scans than num"):
        setup.check_processes_agree(one, parts[::-1])


def test_a_signal_that_comes_late_in_a_step_ends_the_next_one(
    tmp_path, monkeypatch, capsys
):
    """While the first step is saved, after the loop has asked whether to stop."""
    save = checkpoint.Checkpoints.save

    def save_and_signal(self, step, state):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        save(self, step, state)

    monkeypatch.setattr(checkpoint.Checkpoints, "save", save_and_signal)
    workdir = tmp_path / "late"
    assert loop.train(config(workdir, checkpoint__every="1")) == 143
    assert final_bytes(workdir)[0] == 2
    assert "Saved step 2 in" in capsys.readouterr().err


def test_a_signal_before_the_first_step_leaves_without_one(
    tmp_path, monkeypatch, capsys
):
    signal_when(monkeypatch, setup, "create", lambda *_: True)
    assert loop.train(config(tmp_path / "run")) == 143
    assert "No step was made yet in" in capsys.readouterr().err


def test_a_signal_during_the_last_save_finds_the_run_complete(
    unbroken, tmp_path, monkeypatch
):
    save = checkpoint.Checkpoints.save

    def save_and_signal(self, step, state):
        save(self, step, state)
        if step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(checkpoint.Checkpoints, "save", save_and_signal)
    workdir = tmp_path / "complete"
    assert loop.train(config(workdir)) == 0
    assert final_bytes(workdir) == final_bytes(unbroken)


def test_reading_a_run_leaves_the_save_of_another_process_alone(unbroken, tmp_path):
    _, state = newest_checkpoint(unbroken)
    workdir = tmp_path / "saving"
    shutil.copytree(unbroken, workdir)
    under_way = workdir / "checkpoints" / "9.orbax-checkpoint-tmp"
    under_way.mkdir()
    with checkpoint.Checkpoints(workdir, keep=None) as saved:
        assert saved.latest == 8
    pretrained.trained_network(workdir)
    assert under_way.exists()
    # The run itself removes the remains of a killed save before it saves.
    with checkpoint.Checkpoints(workdir, keep=2) as saved:
        saved.save(10, state)
    assert not under_way.exists()


def test_a_finished_run_is_left_alone(unbroken, capsys):
    before = (unbroken / "metrics.jsonl").read_bytes()
    assert loop.train(config(unbroken)) == 0
    assert "nothing to train" in capsys.readouterr().out
    assert (unbroken / "metrics.jsonl").read_bytes() == before


def test_a_second_run_in_the_folder_is_refused_and_touches_nothing(unbroken, tmp_path):
    shutil.copytree(unbroken, tmp_path / "run")
    half = tmp_path / "run/checkpoints/9.orbax-checkpoint-tmp"  # the first is saving
    half.mkdir()
    settings = config(tmp_path / "run", optim__steps="9")
    with (
        lock.hold(tmp_path / "run", ""),
        pytest.raises(lock.Taken, match="another run is training in .*/run; "),
    ):
        loop.train(settings)
    assert half.exists()
    assert sorted(p.name for p in half.parent.iterdir()) == sorted(
        [half.name, *(p.name for p in (unbroken / "checkpoints").iterdir())]
    )


@pytest.mark.parametrize("taken", [False, True])
def test_all_processes_are_refused_with_the_first(tmp_path, monkeypatch, taken):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(distributed, "broadcast", lambda mine: int(taken))
    refused = pytest.raises(lock.Taken) if taken else contextlib.nullcontext()
    with refused, resume.hold_folder(epath.Path(tmp_path / "run")):
        assert not taken
    assert not any((tmp_path / "run").iterdir())  # the lock is the first one's


def test_a_run_that_began_and_ended_meanwhile_is_noticed(tmp_path, monkeypatch):
    """Between the first check of the folder and its lock."""
    hold = lock.hold

    def hold_later(folder, message):
        save_config(config(folder, optim__lr="1e-2"), folder)
        return hold(folder, message)

    monkeypatch.setattr(lock, "hold", hold_later)
    with pytest.raises(errors.UserError, match=r"holds a run with optim.lr 0.01"):
        loop.train(config(tmp_path / "run"))


def test_another_configuration_does_not_touch_a_run(unbroken):
    with pytest.raises(errors.UserError, match=r"optim.lr 0.001 \(now 0.01\)"):
        loop.train(config(unbroken, optim__lr="1e-2"))


def test_fine_tuning_starts_from_a_run_and_keeps_what_is_frozen(
    unbroken, tmp_path, capsys
):
    workdir = tmp_path / "finetuned"
    changes = {"optim__start_from": str(unbroken), "optim__steps": "2"}
    changes["optim__trained"] = "('patch_embedding', 'msda', 'head')"
    assert loop.train(config(workdir, **changes)) == 0
    assert "devices waited for scans before" in capsys.readouterr().err
    old, new = (pretrained.trained_network(run) for run in (unbroken, workdir))
    mask = optimizer.trained_mask(old.params, ("patch_embedding", "msda", "head"))
    changed = 0
    for before, after, trained in zip(
        *map(jax.tree.leaves, (old.params, new.params, mask)), strict=True
    ):
        same = np.array_equal(before, after)
        assert same or trained
        changed += not same
    assert changed > 5
    with pytest.raises(errors.UserError, match="not the folder of a run"):
        loop.train(config(tmp_path / "x", optim__start_from=str(tmp_path / "none")))


@pytest.mark.parametrize("unreadable", [(), (0, 3)])
def test_a_loss_that_is_not_finite_stops_and_names_step_and_pair(
    tmp_path, monkeypatch, unreadable
):
    workdir = tmp_path / "diverged"
    read = dataset.open_part

    def poisoned(configuration, part):
        opened = read(configuration, part)
        if part != "train":
            return opened
        images = [opened[i] for i in range(len(opened))]
        images[1] = images[1]._replace(image=np.full_like(images[1].image, np.nan))

        class Poisoned:
            scans, subjects, persons = opened.scans, opened.subjects, opened.persons

            def __len__(self):
                return len(images)

            def __getitem__(self, index):
                if index in unreadable:
                    raise errors.UserError(f"scan {index} cannot be read.")
                return images[index]

        return Poisoned()

    monkeypatch.setattr(dataset, "open_part", poisoned)
    changes = {"optim__steps": "30", "checkpoint__every": "1"}
    changes["data__skip_unreadable"] = str(bool(unreadable))
    with pytest.raises(errors.UserError, match="not finite at step") as caught:
        loop.train(config(workdir, **changes))
    subjects = read(config(workdir), "train").subjects
    assert subjects[1] in str(caught.value)
    if unreadable:  # a pair that was drawn has been replaced
        assert 0 in pairs.draw(0, 0, 1, subjects, "reference")
        name = f"{subjects[2]} to {subjects[1]}"
        assert f"not finite at step 1, pair {name};" in str(caught.value)
    with checkpoint.Checkpoints(workdir, keep=None) as saved:
        if saved.latest is not None:
            params = saved.load_params(
                saved.latest, pretrained.trained_network(workdir).params
            )
            for leaf in jax.tree.leaves(params):
                assert jnp.isfinite(leaf).all()


def test_a_network_whose_heads_fall_silent_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(initial_weights, "LINEAR_DEVIATION", 0.0)
    monkeypatch.setattr(monitor, "_SILENT", 3)
    with pytest.raises(errors.UserError, match="zero in all of the 3 steps up to step"):
        loop.train(config(tmp_path, checkpoint__every="1"))
    records = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(r)["gradient_norm"] for r in records] == [0.0] * 2
    with checkpoint.Checkpoints(tmp_path, keep=None) as saved:
        assert saved.latest == 2


def test_a_step_is_read_while_the_next_one_is_under_way(tmp_path):
    slow = jax.jit(lambda x: jax.lax.fori_loop(0, 300, lambda _, y: y @ x, x)[0, :1])
    busy = jnp.eye(400)
    slow(busy).block_until_ready()
    bar = progress.Progress(0, config(tmp_path))
    with metrics_log.MetricsLog(tmp_path, from_step=0) as record:
        metrics = monitor.MetricsMonitor(None, (), None, record, bar)
        for done in (1, 2, 3):
            loss = slow(busy)
            measured = step.Measurements(loss, loss[0] + 1, loss[0] * 0.5)
            # Reading must not put anything on the devices, beside their step.
            with jax.transfer_guard_host_to_device("disallow"):
                metrics.push(done, measured, np.zeros((1, 2)))
            assert not metrics.pending_loss.is_ready()
        metrics.flush()
    rows = [json.loads(line) for line in record.path.read_text().splitlines()]
    assert rows == [
        {"step": done, "loss": 1.0, "gradient_norm": 2.0, "lr": 0.5}
        for done in (1, 2, 3)
    ]


def test_whether_the_devices_wait_for_scans(tmp_path, capsys):
    settings = config(tmp_path)
    settings.data.workers = 2
    bar = progress.Progress(0, settings)
    slow = jax.jit(lambda x: jax.lax.fori_loop(0, 300, lambda _, y: y @ x, x))
    busy = jnp.eye(400)
    slow(busy).block_until_ready()
    bar.batch_arrived(time.monotonic(), None)  # after a validation
    assert bar.summarise_loading() == ""
    bar.batch_arrived(time.monotonic(), slow(busy))
    assert bar.summarise_loading() == (
        "The devices waited for scans before 0 of 1 steps, with 0.0 batches ready on "
        "average."
    )
    bar.batch_arrived(time.monotonic(), slow(busy).block_until_ready())
    text = bar.summarise_loading()
    assert "before 1 of 2 steps" in text and "a prepared data.cache" in text
    bar.show_step(np.array([0.5]))
    bar.show_validation(0.75)
    bar.close()
    shown = capsys.readouterr().err
    assert "loss 0.5000" in shown
    assert "DSC 0.750, late scans 50%, 0.0 batches ready" in shown


def test_late_batches_that_lay_ready_give_no_advice(tmp_path):
    settings = config(tmp_path)
    settings.data.workers = 1
    bar = progress.Progress(0, settings)
    idle, made = jnp.zeros(1).block_until_ready(), time.monotonic()
    for _ in range(4):  # of 3, 2, 1, 0 batches behind them
        bar.batch_arrived(made, idle)
    text = bar.summarise_loading()
    assert "before 4 of 4 steps, with 1.5 batches ready on average: it is" in text
    assert "data.workers=0" in text and "data.cache" not in text
    bar.close()


def test_the_bar_shows_how_loading_is_now(tmp_path, capsys):
    bar = progress.Progress(0, config(tmp_path))
    late = jnp.zeros(1).block_until_ready()

    class Busy:
        def is_ready(self):
            return False

    for number in range(1000):
        bar.batch_arrived(time.monotonic(), late if number >= 900 else Busy())
    bar.show_step(np.array([0.5]))
    bar.close()
    assert "late scans 100%" in capsys.readouterr().err
    assert "before 100 of 1000 steps" in bar.summarise_loading()


def test_the_queue_of_ready_batches_is_counted(tmp_path):
    """Three loaded at once and taken later; then two, one taken before the other."""
    settings = config(tmp_path)
    settings.data.workers = 1
    bar = progress.Progress(0, settings)
    idle = jnp.zeros(1).block_until_ready()
    made = time.monotonic()
    for _ in range(3):  # behind the first two lie ready, behind the second one
        bar.batch_arrived(made, idle)
    bar.batch_arrived(time.monotonic(), idle)  # nobody had waited for it: none behind
    before = time.monotonic()
    bar.batch_arrived(before, idle)
    bar.batch_arrived(before, idle)  # one behind the one before
    assert (
        "with 0.7 batches ready on average" in bar.summarise_loading()
    )  # (2 + 1 + 1) / 6
    bar.close()


def test_a_missing_folder_is_one_sentence(tmp_path):
    command = [sys.executable, "train.py", "--config", "configs/adni.py"]
    run = subprocess.run(
        [*command, f"--config.workdir={tmp_path / 'run'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1
    assert "data/adni" in run.stderr
    assert not any(tmp_path.iterdir())


def test_a_stall_is_written_down_with_the_line_and_progress_is_not(tmp_path):
    workdir = epath.Path(tmp_path)
    with progress.dump_when_stalled(workdir, 60) as progressed:
        progressed()
    assert not any(tmp_path.iterdir())
    with progress.dump_when_stalled(workdir, 0.05):
        wait_until_written(tmp_path)
    (dump,) = tmp_path.glob("stalled-*-0.txt")
    assert "in wait_until_written" in dump.read_text()


def wait_until_written(folder):
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in folder.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
