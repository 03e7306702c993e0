"""Methods on cases: what each finds, how long it takes, and what goes wrong."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tqdm

from benchmarks.registration import cases, methods, plan, results
from mdvit_jax import errors, transforms
from mdvit_jax.io import image as images

_ROOT = Path(__file__).resolve().parents[2]


def compare(tasks: Sequence[plan.Task], names: Sequence[str], path: Path) -> None:
    """Run methods on tasks and add a row for each to a CSV file.

    What has a row is not computed again. A failure is a row with its error.

    Args:
        tasks: the cases; each is made once, for all methods.
        names: keys of `methods.METHODS`.
        path: the CSV file.
    """
    done = {row.key for row in results.read(path)}
    keys = [(*task.key, name) for task in tasks for name in names]
    warm: set[str] = set()
    with tqdm.tqdm(total=len(keys), initial=len(done & set(keys))) as bar:
        for task in tasks:
            left = [name for name in names if (*task.key, name) not in done]
            case = task.make() if left else None
            for name in left:
                bar.set_description(f"{task.group} {task.name} {task.contrast} {name}")
                assert case is not None  # made for what is left
                row = _row(task, case, name, warm)
                results.append(path, row)
                if row.error:
                    bar.write(f"{bar.desc}: {row.error}")
                bar.update()


def _row(task: plan.Task, case: cases.Case, name: str, warm: set[str]) -> results.Row:
    method = methods.METHODS[name]
    value, error, numbers = np.nan, "", ""
    start = time.perf_counter()
    try:
        if task.group == "command":
            matrix, seconds = _command(name, case)
        else:
            if task.group == "speed" and name not in warm:
                method(case.fixed, case.moving)
                warm.add(name)
                start = time.perf_counter()
            matrix = method(case.fixed, case.moving)
            seconds = time.perf_counter() - start
        value = case.measure(matrix)
        numbers = " ".join(f"{number:.9g}" for number in np.ravel(matrix))
    except Exception as raised:  # whatever a method raises, the others go on
        seconds = time.perf_counter() - start
        error = f"{type(raised).__name__}: {raised}".replace("\n", " ")
    taken = round(seconds, 3), _cores()
    return results.Row(*task.key, name, value, *taken, error, numbers)


def _command(name: str, case: cases.Case) -> tuple[np.ndarray, float]:
    """The matrix from `command`, and the seconds from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n}.nii.gz" for n in ("fixed", "moving")]
        for path, image in zip(paths, (case.fixed, case.moving), strict=True):
            images.save(path, image.data, image.grid, dtype=np.dtype(np.float32))
        found = Path(folder) / "found.txt"
        words = [sys.executable, "-m", "benchmarks.registration.command", name]
        start = time.perf_counter()
        done = subprocess.run(
            [*words, *map(str, (*paths, found))],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            raise errors.UserError(done.stderr.strip().split("\n")[-1])
        return transforms.read(found), seconds


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
