"""Pairs of a batch by several processes: none lost, none twice, whoever dies."""

import contextlib
import csv
import os
import runpy
import subprocess
import sys
import time
import types
from pathlib import Path

import distributed
import nibabel as nib
import numpy as np
import pytest

from helpers import unaligned
from mdvit_jax import __main__, errors
from mdvit_jax.cli import main
from mdvit_jax.cli.batch import (
    pair_engine,
    pair_outputs,
    pair_task,
    pairs_csv,
    part_tables,
    results_csv,
)
from mdvit_jax.io import lock

LAUNCH = Path(__file__).resolve().parents[1] / "launch"


@pytest.fixture(scope="module")
def cluster():
    """The address of a scheduler with two processes."""
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.register_plugin(unaligned.Unaligned())
        yield cluster.scheduler_address


@pytest.fixture
def scans(tmp_path):
    """A folder with an image, and a function that makes another of any name."""
    values = np.random.default_rng(0).uniform(0, 200, (12, 14, 11)).astype(np.float32)

    def save(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, np.diag([9.0, 9, 9, 1])), path)

    save("fixed.nii")
    return tmp_path, save


def run(folder, *words):
    words = ["--pairs", str(folder / "p.csv"), "--output", str(folder / "r"), *words]
    return __main__.main(["batch", *words])


def write_pairs(scans, names):
    folder, save = scans
    for name in names:
        save(f"{name}.nii")
    lines = "".join(f"fixed.nii,{name}.nii\n" for name in names)
    (folder / "p.csv").write_text("fixed,moving\n" + lines)
    return folder


def table(folder, name="results.csv"):
    with (folder / "r" / name).open(newline="") as file:
        return [(row["name"], row["status"]) for row in csv.DictReader(file)]


def test_all_pairs_come_back_in_the_order_of_the_file(scans, cluster, capsys):
    names = [f"m{number}" for number in range(9)]
    folder = write_pairs(scans, names)
    assert run(folder, "--scheduler", cluster) == 0
    assert table(folder) == [(name, "ok") for name in names]
    for name in names:
        assert (folder / f"r/{name}.tfm").is_file()
        assert (folder / f"r/{name}_warped.nii.gz").is_file()
    progress = capsys.readouterr().err.splitlines()
    assert len([line for line in progress if ": ok, " in line]) == len(names)
    assert run(folder, "--scheduler", cluster) == 0
    assert "not changed: 9" in capsys.readouterr().out


def test_a_process_that_dies_has_its_pair_tried_again(scans, cluster, capsys):
    names = ["a", "dies", "b", "dies_once", "c", "d"]
    folder = write_pairs(scans, names)
    assert run(folder, "--scheduler", cluster) == 1
    expected = [(name, "error" if name == "dies" else "ok") for name in names]
    assert table(folder) == expected
    assert "2 processes that registered it died" in capsys.readouterr().out
    assert not list((folder / "r").glob("dies.*"))


def test_what_is_recorded_is_not_kept_by_a_worker_that_may_die(scans, cluster):
    folder = write_pairs(scans, ["a"])
    options = pair_outputs.Options()
    row = pairs_csv.read(folder / "p.csv")[0]
    outputs = pair_outputs.name_outputs(row, folder, options)
    task = pair_task.PairTask(row, outputs, options)
    with (
        distributed.Client(cluster) as client,
        contextlib.closing(pair_engine._register_on(client, [task])) as outcomes,
    ):
        assert next(outcomes)[1].result["status"] == "ok"
        for _ in range(100):  # the client's own thread removes it
            if not client.futures:
                break
            time.sleep(0.05)
        assert not client.futures


def test_errors_are_tried_again_when_asked_for(scans, cluster, capsys):
    folder = write_pairs(scans, ["a", "b"])
    (folder / "a.nii").unlink()
    assert run(folder, "--scheduler", cluster) == 1
    assert run(folder, "--scheduler", cluster) == 1
    assert "not changed: 2" in capsys.readouterr().out
    assert run(folder, "--scheduler", cluster, "--retry-errors") == 1
    assert "not changed: 1" in capsys.readouterr().out
    scans[1]("a.nii")
    assert run(folder, "--scheduler", cluster) == 0, "its image has changed"


def test_parts_have_tables_of_their_own_and_are_merged(scans, cluster, capsys):
    names = [f"m{number}" for number in range(5)]
    folder = write_pairs(scans, names)
    output = str(folder / "r")
    for part in ("1/2", "2/2"):
        assert run(folder, "--part", part, "--scheduler", cluster) == 0
    assert table(folder, "results_part-1-of-2.csv") == [(n, "ok") for n in names[::2]]
    assert table(folder, "results_part-2-of-2.csv") == [(n, "ok") for n in names[1::2]]
    assert run(folder, "--scheduler", cluster) == 2
    assert run(folder, "--part", "1/3", "--scheduler", cluster) == 2
    assert capsys.readouterr().err.count("run mdvit batch --merge") == 2
    assert __main__.main(["batch", "--merge", "--output", output]) == 0
    assert table(folder) == [(name, "ok") for name in names]
    assert not list((folder / "r").glob("results_part-*"))
    # What is merged is known to all: to no parts, and to other parts.
    capsys.readouterr()
    assert run(folder, "--scheduler", cluster) == 0
    assert "not changed: 5" in capsys.readouterr().out
    (folder / "r/m0.tfm").unlink()
    assert run(folder, "--part", "1/4", "--scheduler", cluster) == 0
    assert "Registered now: 1" in capsys.readouterr().out
    assert __main__.main(["batch", "--merge", "--output", output]) == 1
    captured = capsys.readouterr()
    assert "results_part-2-of-4.csv" in captured.err, "it never began"
    assert captured.out.startswith("5 pairs: 5 ok.")


def test_a_part_at_work_is_neither_run_twice_nor_merged(tmp_path, capsys):
    part = part_tables.Part(1, 2)
    with part_tables.hold_folder(tmp_path, part):
        results_csv.write(tmp_path / part.table, [])
        with part_tables.hold_folder(tmp_path, part_tables.Part(2, 2)):
            pass
        with pytest.raises(lock.Taken), part_tables.hold_folder(tmp_path, part):
            pass
        with pytest.raises(lock.Taken, match="still writing"):
            part_tables.merge(tmp_path)


def test_a_line_that_was_not_written_whole_is_left_out(scans, cluster, capsys):
    folder = write_pairs(scans, ["a", "b"])
    assert run(folder, "--scheduler", cluster) == 0
    path = folder / "r/results.csv"
    whole = path.read_bytes()
    for cut in (1, 10, len(whole.splitlines()[-1])):
        path.write_bytes(whole[:-cut])
        assert run(folder, "--scheduler", cluster) == 0
        assert "Registered now: 1" in capsys.readouterr().out
        assert table(folder) == [("a", "ok"), ("b", "ok")]


def test_several_jobs_stop_at_ctrl_c_and_one_goes_on(scans, capsys):
    """As by Ctrl-C, which every process of the terminal gets."""
    folder = write_pairs(scans, [f"m{number}" for number in range(40)])
    program = f"""
import os, signal, sys, threading
from mdvit_jax import __main__
from mdvit_jax.cli.batch import results_csv
append = results_csv.append
def append_and_interrupt(path, result):
    append(path, result)
    os.killpg(0, signal.SIGINT)
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not inherited
    results_csv.append = append_and_interrupt
    words = ["--pairs", {str(folder / "p.csv")!r}, "--output", {str(folder / "r")!r}]
    sys.exit(__main__.main(["batch", "--jobs", "2", *words]))
"""
    (folder / "script.py").write_text(program)
    for path in folder.glob("m*.nii"):
        path.write_bytes(b"no image")
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, str(folder / "script.py")],
        capture_output=True,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": root},
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert "goes on from here" in done.stderr and "Traceback" not in done.stderr
    assert "Dashboard: http://127.0.0.1:" in done.stderr
    assert len(table(folder)) == 1
    assert run(folder) == 1
    assert table(folder) == [(f"m{number}", "error") for number in range(40)]
    assert "not changed: 1" in capsys.readouterr().out


def test_processes_share_the_cores_and_try_a_pair_again_twice():
    import dask

    with pair_engine._start_processes(2) as client:
        threads = client.run(os.getenv, "NPROC")
        failures = client.run_on_scheduler(
            lambda dask_scheduler: dask_scheduler.allowed_failures
        )
    assert list(threads.values()) == 2 * [str(max(dask.system.CPU_COUNT // 2, 1))]
    assert failures == 2


def test_a_job_of_an_array_takes_its_part(tmp_path):
    (tmp_path / "mdvit").write_text('#!/bin/sh\necho "$NPROC" "$@"\n')
    (tmp_path / "mdvit").chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environ |= {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "100"}
    script = [str(LAUNCH / "batch_array.sh"), "--pairs", "p.csv", "--output", "r"]
    done = subprocess.run(
        ["bash", *script], env=environ, capture_output=True, text=True, check=True
    )
    threads, *words = done.stdout.split()
    assert threads == "1"
    assert main.create_parser().parse_args(words).part == "3/100"


def test_the_slurm_launcher_hands_the_pairs_to_its_jobs(monkeypatch):
    class SLURMCluster(contextlib.nullcontext):
        scheduler_address = "tcp://login1:8786"

        def __init__(self, *, cores, processes, **options):
            super().__init__(self)
            assert cores == processes, "one core a pair"

        def scale(self, *, jobs):
            self.jobs = jobs

    called = []
    jobqueue = types.SimpleNamespace(SLURMCluster=SLURMCluster)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", jobqueue)
    monkeypatch.setattr(main, "main", lambda words: called.extend(words))
    monkeypatch.setattr(sys, "argv", ["it", "--pairs", "p.csv", "--output", "r"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(LAUNCH / "batch_slurm.py"), run_name="__main__")
    options = main.create_parser().parse_args(called)
    assert (options.scheduler, options.pairs) == ("tcp://login1:8786", "p.csv")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--part", "3"], "write I/N"),
        (["--part", "3/2"], "write I/N"),
        (["--part", "0/2"], "write I/N"),
        (["--jobs", "0"], "not a whole number"),
        (["--jobs", "2", "--scheduler", "tcp://127.0.0.1:1"], "leave one out"),
        (["--to", "mni152"], "--to means nothing with --pairs"),
        (["--participant-label", "1"], "--participant-label means nothing"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(scans, capsys, words, why):
    folder = write_pairs(scans, ["a"])
    assert run(folder, *words) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and why in message and message.count("\n") == 1
    assert not (folder / "r").exists()


def test_a_scheduler_that_is_not_there(monkeypatch):
    monkeypatch.setattr(pair_engine, "_SECONDS", 0.1)
    tasks = pair_engine.register_all([], scheduler="tcp://127.0.0.1:1")
    with pytest.raises(errors.UserError, match="cannot be reached"):
        list(tasks)


def test_without_distributed_one_process_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert list(pair_engine.register_all([], jobs=1)) == []
    with pytest.raises(errors.UserError, match="mdvit-jax\\[cluster\\]"):
        list(pair_engine.register_all([], jobs=2))
