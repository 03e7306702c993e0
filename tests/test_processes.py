"""Several processes: how they find each other, part, and go on as others."""

import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from mdvit_jax import config, errors
from mdvit_jax.training import checkpoint, distributed
from oracle import people
from oracle.run import final_bytes
from recorded_run import ROOT, TINY, Run, environs, free_port, start_together

pytestmark = pytest.mark.usefixtures("quick_compilation")

ADDRESS, COUNT, INDEX = distributed.NAMES
THREE = {ADDRESS: "10.0.0.1:1234", COUNT: "4", INDEX: "3"}
# What Slurm tells a batch script, before srun, and what it tells a task of a step.
BATCH_SCRIPT = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
TASK = BATCH_SCRIPT | {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "2"}
TPU = {"TPU_ML_PLATFORM": "JAX"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        (THREE, ("10.0.0.1:1234", 4, 3, "deactivate")),
        (THREE | {COUNT: "1", INDEX: "0"}, None),
        (BATCH_SCRIPT, None),
        (TASK, (None, 4, 2, "slurm")),
        (TASK | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        (TASK | THREE, ("10.0.0.1:1234", 4, 3, "deactivate")),
        (TPU, (None, None, None, None)),
        (TPU | {"TPU_SKIP_MDS_QUERY": "1"}, None),
        (
            TPU | {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "a,b"},
            (None, None, None, None),
        ),
        ({"TPU_SKIP_MDS_QUERY": "1"}, None),  # JAX without TPUs
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
    ],
)
def test_what_the_environment_says(environ, expected):
    assert distributed.settings(environ) == expected


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({COUNT: "2"}, f"{COUNT} but not {ADDRESS} and {INDEX}; set all three"),
        (THREE | {INDEX: "4"}, f"{INDEX} is 4 and {COUNT} is 4"),
        (THREE | {COUNT: "two"}, f"{COUNT} is 'two'; it is a whole number"),
        (THREE | {ADDRESS: "10.0.0.1"}, "it is HOST:PORT of process 0"),
        (THREE | TASK | {"SLURM_NTASKS": "2"}, "is 4, but srun started 2 tasks"),
    ],
)
def test_what_contradicts_itself_is_refused(environ, sentence):
    with pytest.raises(errors.UserError, match=sentence):
        distributed.settings(environ)


def test_evaluation_is_one_process(monkeypatch):
    distributed.require_one_process("eval.py")
    for name, value in THREE.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(errors.UserError, match="one process, but 4 were started"):
        distributed.require_one_process("eval.py")


@pytest.mark.parametrize("index", [0, 1])
def test_a_meeting_in_vain_is_one_sentence(index):
    """Process 0 whom nobody joins, and another that finds no process 0."""
    environ = environs(2)[index]
    program = "from mdvit_jax.training import distributed as d; d._WAIT = 2; d.join()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 134
    assert done.stderr.startswith("error: The 2 processes of the run did not all meet")
    assert environ[ADDRESS] in done.stderr and done.stderr.count("\n") == 1


def terminate_after(processes_, run: Run, steps: int) -> None:
    """SIGTERM to the second process alone, once the first has written so many rows."""
    record, deadline = run.workdir / "metrics.jsonl", time.monotonic() + 400
    while all(p.poll() is None for p in processes_) and time.monotonic() < deadline:
        if record.exists() and record.read_text().count("\n") >= steps:
            break
        time.sleep(0.02)
    processes_[1].send_signal(signal.SIGTERM)


@pytest.mark.timeout(1200)  # several programs, one after the other
def test_a_run_goes_on_in_other_processes_and_after_a_signal(tmp_path):
    unbroken, moved = Run(tmp_path / "unbroken"), Run(tmp_path / "moved")
    moved.train(2)
    # A signal to one of two: both save the same step and leave.
    both = moved.start(5000, processes=2)
    terminate_after(both, moved, 6)
    said = [process.communicate(timeout=400)[0] for process in both]
    assert [process.returncode for process in both] == [143, 143], said
    saved = max(int(p.name) for p in (moved.workdir / "checkpoints").glob("[0-9]*"))
    assert len(moved.losses()) == saved > 6
    assert f"Saved step {saved} in" in said[0] and "Saved step" not in said[1]
    assert "pair/s" in said[0] and "pair/s" not in said[1]  # the progress bar
    # The same command goes on, and then one process does.
    moved.train(saved + 2, processes=2)
    moved.train(saved + 4)
    unbroken.train(saved + 4)
    assert len(moved.losses()) == saved + 4
    np.testing.assert_allclose(moved.losses(), unbroken.losses(), rtol=1e-5)
    pairs = moved.pairs()
    assert {step: pairs[step] for step in range(saved + 4)} == unbroken.pairs()


# Asks as the training loop does; the step that it saves is none of its questions.
SAVES_BEFORE_A_SIGNAL = """
import os, signal, sys, time
from mdvit_jax.training import distributed
distributed.join()
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
        said, _ = process.communicate(timeout=400)
        assert re.search(r"left at question [12]$", said, re.MULTILINE), said


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
def test_what_says_that_another_is_lost(monkeypatch, error, expected):
    assert not distributed.lost(error)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert distributed.lost(error) == expected


def lose(run: Run, victim: int) -> tuple[int, str]:
    """Stop one of two processes after a save; kill it once the other has stalled.

    Returns:
        The exit code of the other, and all that it said.
    """
    before, deadline = newest(run), time.monotonic() + 400
    both = run.start(100_000, processes=2)
    lost, other = both[victim], both[1 - victim]
    try:
        while newest(run) == before and time.monotonic() < deadline:
            assert lost.poll() is None and other.poll() is None, lost.communicate()[0]
            time.sleep(0.01)
        lost.send_signal(signal.SIGSTOP)
        stopped = time.time()
        while not stalled_since(run, 1 - victim, stopped):
            assert other.poll() is None, other.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        lost.kill()
        said, _ = other.communicate(timeout=400)
    finally:
        for process in both:
            process.kill()
    return other.returncode, said


def stalled_since(run: Run, process: int, moment: float) -> bool:
    """Whether a process has written since then where it stands."""
    dumps = [path.stat() for path in run.workdir.glob(f"stalled-*-{process}.txt")]
    return any(dump.st_size and dump.st_mtime > moment for dump in dumps)


def newest(run: Run) -> int:
    """The newest step that is saved; 0 if none is."""
    names = [path.name for path in run.workdir.glob("checkpoints/*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


@pytest.mark.timeout(1800)  # several programs, one after the other
def test_a_process_is_lost_and_the_other_says_so_and_ends(tmp_path):
    """Its step fails, or JAX aborts it before that, as when process 0 is gone."""
    settings = {
        **{"data.split": "(2, 1, 0)", "data.synthetic.people": "3"},
        **{"data.cache": str(tmp_path / "cache"), "model.dilated_form": "none"},
        **{"optim.batch": "2", "checkpoint.every": "10", "stall_after": "3"},
    }
    people.fill(config.load(ROOT / "configs/default.py", TINY | settings))
    unbroken = Run(tmp_path / "unbroken", **settings)
    broken = Run(tmp_path / "broken", **settings)
    goes_on = "What was saved before is intact; the same command goes on from there."
    steps = 0
    for victim in (1, 0):
        code, said = lose(broken, victim)
        assert code in (134, -signal.SIGABRT), said  # JAX ends it by the latter
        if code == 134:
            sentence = rf"error: Process {1 - victim} of 2 cannot go on \(.*{goes_on}"
            assert re.fullmatch(sentence, said.rstrip().splitlines()[-1]), said
            assert "Traceback" not in said
        assert newest(broken) > steps
        steps = newest(broken)
        assert checkpoint.damage(broken.workdir / "checkpoints" / str(steps)) is None
    for process in broken.start(steps + 2, processes=2):
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0 and "damaged" not in said, said
    unbroken.train(steps + 2, processes=2)
    assert len(broken.losses()) == steps + 2
    assert broken.losses() == unbroken.losses()
    assert final_bytes(broken.workdir) == final_bytes(unbroken.workdir)


def test_processes_with_other_options_are_refused(tmp_path):
    runs = [Run(tmp_path / n, **{"optim.lr": n}) for n in ("1e-3", "1e-2")]
    started = [
        run.start(2, **environ)[0]
        for run, environ in zip(runs, environs(2), strict=True)
    ]
    for process in started:
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 2, said
        assert "number 1 has another configuration than number 0" in said
    assert not any(run.workdir.exists() for run in runs)


SRUN = """#!{python}
import os, subprocess, sys
options, program = sys.argv[1:3], sys.argv[3:]
assert options == ["--kill-on-bad-exit=0", "--cpus-per-task=8"]
tasks = [
    subprocess.Popen(program, env=dict(os.environ, SLURM_STEP_NODELIST="localhost",
        SLURM_NTASKS="2", SLURM_PROCID=index, SLURM_LOCALID=index))
    for index in "01"
]
sys.exit(max(task.wait() for task in tasks))
"""
# Stands for train.py at its end.
TASK_PROGRAM = """#!{python}
import sys; sys.path.insert(0, {root!r})
from mdvit_jax.cli import startup
from mdvit_jax.training import distributed
startup.start()
distributed.join()
import jax
if jax.process_index() == 0:
    print(jax.process_count(), *sys.argv[1:], flush=True)
distributed.leave({code})
"""


@pytest.mark.parametrize(
    ("code", "restarts", "requeued"),
    [
        *[(0, 0, False), (143, 99, True), (143, 100, False)],
        *[(134, 0, True), (75, 0, True), (2, 0, False)],
    ],
)
def test_the_slurm_script_starts_the_tasks_and_requeues_what_was_stopped(
    tmp_path, code, restarts, requeued
):
    programs = {
        "srun": SRUN.format(python=sys.executable),
        "task": TASK_PROGRAM.format(python=sys.executable, root=str(ROOT), code=code),
        "scontrol": '#!/bin/sh\necho scontrol "$@"\n',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environ = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHON": str(tmp_path / "task"),
        "CONFIG": "configs/oasis.py",
        "SLURM_JOB_ID": "7012",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_RESTART_COUNT": str(restarts),
        "JAX_COORDINATOR_PORT": str(free_port()),
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        ["bash", "launch/slurm.sh", "--config.optim.batch=4"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    expected = ["2 train.py --config configs/oasis.py --config.optim.batch=4"]
    assert done.stdout.splitlines() == expected + ["scontrol requeue 7012"] * requeued


def test_the_jobset_names_as_many_processes_as_it_starts():
    yaml = pytest.importorskip("yaml")
    jobset = yaml.safe_load((ROOT / "launch/jobset.yaml").read_text())
    (job,) = jobset["spec"]["replicatedJobs"]
    pods = job["template"]["spec"]
    (container,) = pods["template"]["spec"]["containers"]
    environ = {entry["name"]: entry for entry in container["env"]}
    settings = {"JAX_COMPILATION_CACHE_DIR", "MALLOC_ARENA_MAX"}
    assert set(environ) == {*distributed.NAMES, *settings}
    count = int(environ[COUNT]["value"])
    assert job["replicas"] == 1 and pods["parallelism"] == pods["completions"] == count
    names = jobset["metadata"]["name"], job["name"]
    first = f"{names[0]}-{names[1]}-0-0.{names[0]}"
    assert environ[ADDRESS]["value"].partition(":")[0] == first
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {v["name"] for v in pods["template"]["spec"]["volumes"]}
    assert container["command"][:2] == ["python", "train.py"]
    (rule,) = pods["podFailurePolicy"]["rules"]  # a mistake is not tried again
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert rule["onExitCodes"]["values"] == [errors.UserError.exit_code]
    assert pods["template"]["spec"]["restartPolicy"] == "Never"  # else no such policy
    (rule,) = jobset["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "FailJobSet"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
