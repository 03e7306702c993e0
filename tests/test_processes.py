"""Several processes: how they join, how they end, and how others go on."""

import json
import os
import re
import shutil
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


def newest(run: Run) -> int:
    """The newest step that is saved; 0 if none is."""
    names = [path.name for path in run.workdir.glob("checkpoints/*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def forget(run: Run, after: int) -> None:
    """Remove what was saved after a step, so that the run repeats what followed."""
    while (step := newest(run)) > after:
        shutil.rmtree(run.workdir / "checkpoints" / str(step))


def start_two(run: Run, until: int):
    """Start two processes, and wait until a step from `until` on is saved."""
    both, deadline = run.start(100_000, processes=2), time.monotonic() + 400
    while newest(run) < until:
        if time.monotonic() > deadline or any(p.poll() is not None for p in both):
            for process in both:
                process.kill()
            raise AssertionError([process.communicate()[0] for process in both])
        time.sleep(0.01)
    return both


def lose(run: Run, victim: int, until: int) -> None:
    """Stop one of two processes; kill it once the other has stalled, which ends."""
    both = start_two(run, until)
    lost, other = both[victim], both[1 - victim]
    try:
        lost.send_signal(signal.SIGSTOP)
        stopped, dumps = time.time(), f"stalled-*-{1 - victim}.txt"
        deadline = time.monotonic() + 400
        while not any(p.stat().st_mtime > stopped for p in run.workdir.glob(dumps)):
            assert other.poll() is None, other.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        lost.kill()
        output, _ = other.communicate(timeout=400)
    finally:
        for process in both:
            process.kill()
    # Its step fails, or JAX aborts it earlier, as when process 0 is gone.
    code = other.returncode
    assert code in (134, -signal.SIGABRT), output  # JAX ends it by the latter
    if code == 134:
        goes_on = "What was saved before is intact; the same command goes on from there"
        sentence = rf"error: Process {1 - victim} of 2 cannot go on \(.*{goes_on}\."
        assert re.fullmatch(sentence, output.rstrip().splitlines()[-1]), output
        assert "Traceback" not in output
    assert sums.damage(run.workdir / "checkpoints" / str(newest(run))) is None


@pytest.mark.timeout(1800)  # several programs, one after the other
def test_a_run_goes_on_when_a_process_is_lost_or_gets_a_signal(tmp_path, tiny):
    """Two processes repeat steps bit for bit, and one alone the same but rounding."""
    settings = tiny | {"model.dilated_form": "none", "optim.batch": "2"}
    settings |= {"checkpoint.every": "10", "checkpoint.keep": "99", "stall_after": "1"}
    run = Run(tmp_path, settings)
    lose(run, 1, until=20)
    step = newest(run)
    losses, saved = run.losses()[:step], final_bytes(run.workdir)
    forget(run, step - 1)
    lose(run, 0, until=step + 1)
    forget(run, step)
    assert run.losses()[:step] == losses
    assert final_bytes(run.workdir) == saved

    # A signal to one of two: both save the same step and leave.
    both = start_two(run, until=step + 1)
    both[1].send_signal(signal.SIGTERM)
    output = [process.communicate(timeout=400)[0] for process in both]
    assert [process.returncode for process in both] == [143, 143], output
    assert "damaged" not in output[0] + output[1]
    steps, losses, pairs = newest(run), run.losses(), run.pairs()
    assert len(losses) == steps > step
    assert f"Saved step {steps} in" in output[0] and "Saved step" not in output[1]
    assert "pair/s" in output[0] and "pair/s" not in output[1]  # the progress bar

    forget(run, steps - 1)
    step = newest(run)
    run.train(steps)
    last = max(run.records.iterdir()).read_text()
    assert json.loads(last.splitlines()[0])["step"] == step, "it goes on from there"
    np.testing.assert_allclose(run.losses(), losses, rtol=1e-5)
    assert run.pairs() == pairs


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
