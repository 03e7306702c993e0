"""Several processes: how they join, how they end, and how others go on."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from helpers.recorded_run import JOIN, ROOT, Run, environs, start_together
from helpers.run import final_bytes
from mdvit_jax import errors
from mdvit_jax.cli import cluster
from mdvit_jax.io import sums
from mdvit_jax.training import distributed

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("index", [0, 1])
def test_processes_that_do_not_meet_get_one_sentence(index):
    """Process 0 that nobody joins, and another that finds no process 0."""
    environ = environs(2)[index]
    program = JOIN.replace(
        "distributed.join", "distributed._WAIT = 2; distributed.join"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 134
    assert done.stderr.startswith("error: The 2 processes of the run did not all meet")
    assert environ[cluster.NAMES[0]] in done.stderr and done.stderr.count("\n") == 1


def terminate_after(processes_, run: Run, steps: int) -> None:
    """SIGTERM to the second process alone, once the first has written so many rows."""
    record, deadline = run.workdir / "metrics.jsonl", time.monotonic() + 400
    while all(p.poll() is None for p in processes_) and time.monotonic() < deadline:
        if record.exists() and record.read_text().count("\n") >= steps:
            break
        time.sleep(0.02)
    processes_[1].send_signal(signal.SIGTERM)


@pytest.mark.timeout(1200)  # several programs, one after the other
def test_a_run_continues_in_other_processes_and_after_a_signal(tmp_path, tiny):
    unbroken, moved = Run(tmp_path / "unbroken", tiny), Run(tmp_path / "moved", tiny)
    moved.train(2)
    # A signal to one of two: both save the same step and leave.
    both = moved.start(5000, processes=2)
    terminate_after(both, moved, 6)
    output = [process.communicate(timeout=400)[0] for process in both]
    assert [process.returncode for process in both] == [143, 143], output
    saved = newest(moved)
    assert len(moved.losses()) == saved > 6
    assert f"Saved step {saved} in" in output[0] and "Saved step" not in output[1]
    assert "pair/s" in output[0] and "pair/s" not in output[1]  # the progress bar
    # One process goes on.
    moved.train(saved + 2)
    unbroken.train(saved + 2)
    assert len(moved.losses()) == saved + 2
    np.testing.assert_allclose(moved.losses(), unbroken.losses(), rtol=1e-5)
    pairs = moved.pairs()
    assert {step: pairs[step] for step in range(saved + 2)} == unbroken.pairs()


# Asks like the training loop; the step that it saves is not one that it asked at.
SAVES_BEFORE_A_SIGNAL = """
import os, signal, sys, time
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from mdvit_jax.training import checkpoint, preemption, step
everywhere = NamedSharding(jax.make_mesh((2,), ("data",)), PartitionSpec())
arrays = {"kernel": jnp.ones((3, 4))}
state = step.TrainState(*jax.device_put((jnp.int32(0), arrays, ()), everywhere))
with (
    preemption.Preemption() as signals,
    checkpoint.Checkpoints(sys.argv[1], keep=2) as saved,
):
    assert not any(signals.should_stop() for _ in range(5))
    saved.save(1000, state)
    saved.wait()
    if jax.process_index() == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(2)
    asked = next((n for n in range(1, 100) if signals.should_stop()), None)
    print("left at question", asked, flush=True)
"""


def test_a_signal_after_a_save_is_heard(tmp_path):
    for process in start_together(SAVES_BEFORE_A_SIGNAL, str(tmp_path)):
        output, _ = process.communicate(timeout=400)
        assert re.search(r"left at question [12]$", output, re.MULTILINE), output


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection reset by peer"), True),
        (RuntimeError("UNAVAILABLE: The following tasks are unhealthy"), True),
        (TimeoutError("Timed out while waiting for the barrier."), True),
        (TimeoutError(110, "Connection timed out"), False),  # of a file system
        (ValueError("cannot reshape"), False),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), False),
        (errors.UserError("FAILED: whatever"), False),
        (None, False),
    ],
)
def test_errors_that_mean_a_lost_process(monkeypatch, error, expected):
    assert not distributed.lost(error)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert distributed.lost(error) == expected


def lose(run: Run, victim: int) -> tuple[int, str]:
    """Stop one of two processes after a save; kill it once the other has stalled.

    Returns:
        The exit code of the other, and its output.
    """
    before, deadline = newest(run), time.monotonic() + 400
    both = run.start(100_000, processes=2)
    lost, other = both[victim], both[1 - victim]
    try:
        while newest(run) == before and time.monotonic() < deadline:
            assert lost.poll() is None and other.poll() is None, lost.communicate()[0]
            time.sleep(0.01)
        lost.send_signal(signal.SIGSTOP)
        stopped, dumps = time.time(), f"stalled-*-{1 - victim}.txt"
        while not any(p.stat().st_mtime > stopped for p in run.workdir.glob(dumps)):
            assert other.poll() is None, other.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        lost.kill()
        output, _ = other.communicate(timeout=400)
    finally:
        for process in both:
            process.kill()
    return other.returncode, output


def newest(run: Run) -> int:
    """The newest step that is saved; 0 if none is."""
    names = [path.name for path in run.workdir.glob("checkpoints/*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


@pytest.mark.timeout(1800)  # several programs, one after the other
def test_when_a_process_is_lost_the_other_reports_it_and_ends(tmp_path, tiny):
    """Its step fails, or JAX aborts it earlier, as when process 0 is gone."""
    settings = tiny | {"model.dilated_form": "none", "optim.batch": "2"}
    settings |= {"checkpoint.every": "10", "stall_after": "1"}
    unbroken = Run(tmp_path / "unbroken", settings)
    broken = Run(tmp_path / "broken", settings)
    goes_on = "What was saved before is intact; the same command goes on from there."
    steps = 0
    for victim in (1, 0):
        code, output = lose(broken, victim)
        assert code in (134, -signal.SIGABRT), output  # JAX ends it by the latter
        if code == 134:
            sentence = rf"error: Process {1 - victim} of 2 cannot go on \(.*{goes_on}"
            assert re.fullmatch(sentence, output.rstrip().splitlines()[-1]), output
            assert "Traceback" not in output
        assert newest(broken) > steps
        steps = newest(broken)
        assert sums.damage(broken.workdir / "checkpoints" / str(steps)) is None
    for process in broken.start(steps + 2, processes=2):
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0 and "damaged" not in output, output
    assert len(broken.losses()) == steps + 2
    last = max(broken.records.iterdir()).read_text()
    assert json.loads(last.splitlines()[0])["step"] == steps, "it goes on from there"
    unbroken.train(steps + 2, processes=2)
    assert broken.losses() == unbroken.losses()
    assert final_bytes(broken.workdir) == final_bytes(unbroken.workdir)


def test_processes_with_other_options_are_refused(tmp_path, tiny):
    runs = [Run(tmp_path / n, tiny | {"optim.lr": n}) for n in ("1e-3", "1e-2")]
    started = [
        run.start(2, **environ)[0]
        for run, environ in zip(runs, environs(2), strict=True)
    ]
    for process in started:
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 2, output
        assert "number 1 has another configuration than number 0" in output
    assert not any(run.workdir.exists() for run in runs)
