"""Methods on cases: their results, times and failures."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tqdm

from benchmarks.registration import cases, heads, plan
from mdvit_jax import errors, transforms
from mdvit_jax.evaluation import methods
from mdvit_jax.io import image as images
from mdvit_jax.io import processors
from mdvit_jax.studies.results import ResultsFile

_ROOT = Path(__file__).resolve().parents[2]


def compare(
    tasks: Sequence[plan.Task], names: Sequence[str], path: Path
) -> pd.DataFrame:
    """Run methods on tasks, and add a row for each to a file.

    What is in the file is not computed again. A failure is a row with its error.

    Args:
        tasks: the cases; each is made once, for all methods.
        names: of `evaluation.methods.CLASSICAL`.
        path: the JSON-lines file of results.

    Returns:
        All rows of the file, with the columns
        group, case, contrast, voxels, method: which.
        value: what the case measures, in mm or Dice; NaN where the method failed.
        seconds: how long the method took.
        cores: how many it could use.
        error: why it failed, or "".
        matrix: `fixed_to_moving`, world RAS+ mm, 16 numbers row by row; "" if none.
    """
    kept = ResultsFile(path)
    warm: set[str] = set()
    with tqdm.tqdm(total=len(tasks) * len(names)) as bar:
        for task in tasks:
            case = None
            for name in names:
                bar.set_description(f"{task.group} {task.name} {task.contrast} {name}")
                key = ", ".join((*task.key, name))
                if kept.get(key) is None:
                    case = case or task.make()
                    row = _run(task, case, name, warm)
                    kept.add(key, row)
                    if row["error"]:
                        bar.write(f"{bar.desc}: {row['error']}")
                bar.update()
    return pd.DataFrame(kept.rows)


def align_pair(name: str, fixed: images.Image, moving: images.Image) -> np.ndarray:
    """4×4 `fixed_to_moving`, world RAS+ mm, of a classical method."""
    align_images = methods.import_classical(name).align_images
    return align_images(fixed, moving)


def _run(
    task: plan.Task, case: cases.Case | heads.TwoRuns, name: str, warm: set[str]
) -> dict[str, Any]:
    value, error, numbers = np.nan, "", ""
    start = time.perf_counter()
    try:
        if task.group == "command":
            matrix, seconds = _run_command(name, case)
        else:
            if task.group == "speed" and name not in warm:
                align_pair(name, case.fixed, case.moving)
                warm.add(name)
                start = time.perf_counter()
            matrix = align_pair(name, case.fixed, case.moving)
            seconds = time.perf_counter() - start
        if isinstance(case, heads.TwoRuns):
            value = case.measure(matrix, align_pair(name, *case.second))
        else:
            value = case.measure(matrix)
        numbers = " ".join(f"{number:.9g}" for number in np.ravel(matrix))
    except Exception as raised:  # any error: the other methods go on
        seconds = time.perf_counter() - start
        error = f"{type(raised).__name__}: {raised}".replace("\n", " ")
    return {
        **dict(zip(plan.KEY, task.key, strict=True)),
        "method": name,
        "value": value,
        "seconds": round(seconds, 3),
        "cores": processors.count(),
        "error": error,
        "matrix": numbers,
    }


def _run_command(
    name: str, case: cases.Case | heads.TwoRuns
) -> tuple[np.ndarray, float]:
    """The matrix from `command`, and the seconds from its start to its end.

    Of a second run: in the first one `register` may compile its programs.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n}.nii.gz" for n in ("fixed", "moving")]
        for path, image in zip(paths, (case.fixed, case.moving), strict=True):
            images.save(path, image.data, image.grid, dtype=np.dtype(np.float32))
        matrix_path = Path(folder) / "matrix.txt"
        program = [sys.executable, "-m", "benchmarks.registration.command", name]
        for _ in range(2):
            matrix_path.unlink(missing_ok=True)
            start = time.perf_counter()
            done = subprocess.run(
                [*program, *map(str, (*paths, matrix_path))],
                cwd=_ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            seconds = time.perf_counter() - start
            if done.returncode:
                raise errors.UserError(done.stderr.strip().split("\n")[-1])
        return transforms.read(matrix_path), seconds
