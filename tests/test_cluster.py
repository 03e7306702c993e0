"""The place of a process among those of a run, and the launch scripts."""

import os
import subprocess
import sys

import pytest
import yaml

from helpers.recorded_run import JOIN, ROOT, free_port
from mdvit_jax import errors
from mdvit_jax.cli import cluster

ADDRESS, COUNT, INDEX = cluster.NAMES
THREE = {ADDRESS: "10.0.0.1:1234", COUNT: "4", INDEX: "3"}
# The variables that Slurm sets for a batch script, and those for a task of srun.
BATCH_SCRIPT = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
TASK = BATCH_SCRIPT | {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "2"}
TPU = {"TPU_ML_PLATFORM": "JAX"}
# Arguments of jax.distributed.initialize.
NAMED = {
    "coordinator_address": "10.0.0.1:1234",
    "num_processes": 4,
    "process_id": 3,
    "cluster_detection_method": "deactivate",
}
SLURM, CLOUD_TPU = ({"cluster_detection_method": method} for method in ("slurm", None))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        (THREE, NAMED),
        (THREE | {COUNT: "1", INDEX: "0"}, None),
        (BATCH_SCRIPT, None),
        (TASK, {**SLURM, "num_processes": 4, "process_id": 2}),
        (TASK | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        (TASK | THREE, NAMED),
        (TPU, CLOUD_TPU),
        (TPU | {"TPU_SKIP_MDS_QUERY": "1"}, None),
        (TPU | {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "a,b"}, CLOUD_TPU),
        ({"TPU_SKIP_MDS_QUERY": "1"}, None),  # JAX without TPUs
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
    ],
)
def test_the_environment_gives_the_place_of_a_process(environ, expected):
    assert cluster.find_place(environ) == expected


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
def test_contradicting_variables_are_refused(environ, sentence):
    with pytest.raises(errors.UserError, match=sentence):
        cluster.find_place(environ)


def test_evaluation_is_one_process(monkeypatch):
    cluster.require_one_process("eval.py")
    for name, value in THREE.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(errors.UserError, match="one process, but 4 were started"):
        cluster.require_one_process("eval.py")


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
# They stand for train.py at its end: the first as one of two processes that have met.
TASK_PROGRAM = """#!{python}
import sys; sys.path.insert(0, {root!r})
from mdvit_jax.cli import startup
startup.start()
{join}
import jax
if jax.process_index() == 0:
    print(jax.process_count(), *sys.argv[1:], flush=True)
distributed.leave({code})
"""
QUICK_TASK = """#!/bin/sh
[ "$SLURM_PROCID" != 0 ] || echo "$SLURM_NTASKS" "$@"
exit {code}
"""


@pytest.mark.parametrize(
    ("code", "restarts", "requeued", "task"),
    [
        (0, 0, False, TASK_PROGRAM),
        (143, 99, True, TASK_PROGRAM),
        (143, 100, False, QUICK_TASK),
        (134, 0, True, QUICK_TASK),
        (75, 0, True, QUICK_TASK),
        (2, 0, False, QUICK_TASK),
    ],
)
def test_the_slurm_script_starts_the_tasks_and_requeues_what_was_stopped(
    tmp_path, code, restarts, requeued, task
):
    programs = {
        "srun": SRUN.format(python=sys.executable),
        "task": task.format(
            python=sys.executable, root=str(ROOT), join=JOIN, code=code
        ),
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
    jobset = yaml.safe_load((ROOT / "launch/jobset.yaml").read_text())
    (job,) = jobset["spec"]["replicatedJobs"]
    pods = job["template"]["spec"]
    (container,) = pods["template"]["spec"]["containers"]
    environ = {entry["name"]: entry for entry in container["env"]}
    settings = {"JAX_COMPILATION_CACHE_DIR", "MALLOC_ARENA_MAX"}
    assert set(environ) == {*cluster.NAMES, *settings}
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
