"""Results of single cases, kept on disk by what they were made from.

A study that was stopped, or a second study of the same pairs, finds them there. What a
result is kept under is made from the contents of both scans, the method's identity and
the settings of the evaluation; a file's name does not matter.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

import mdvit_jax
from mdvit_jax import errors
from mdvit_jax.data import conform
from mdvit_jax.evaluation.methods import Method
from mdvit_jax.studies.case import Case


class Results:
    """The results in a JSON-lines file, to which new ones are appended."""

    def __init__(self, path: Path):
        self.path = path
        self._of: dict[str, dict[str, Any]] = {}
        if not path.exists():
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                self._of[row.pop("key")] = row
            except (ValueError, KeyError, AttributeError) as error:
                if number < len(lines) or line.endswith("\n"):
                    raise errors.UserError(
                        f"{path} is damaged: line {number} is no result; remove that "
                        "line, and it is computed again."
                    ) from error
                # The last line was cut short as the program was stopped.
                path.write_text("".join(lines[:-1]), encoding="utf-8")

    def get(self, key: str) -> dict[str, Any] | None:
        """The numbers of a case, as `Case` has them; None if there are none."""
        return self._of.get(key)

    def add(self, key: str, case: Case) -> None:
        """Keep a case, but for `mm`, which is the study's that knows the affine."""
        row = dataclasses.asdict(case)
        del row["mm"]
        self._of[key] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, **row}) + "\n")


def key(
    fixed: str, moving: str, method: Method, config: ml_collections.ConfigDict
) -> str:
    """What a result is kept under.

    Args:
        fixed, moving: `digest` of the scans, the moving one as the method sees it.
    """
    settings = config.evaluation
    told = (
        *(fixed, moving, method.identity, config.data.task, config.data.label_scheme),
        *(settings.mask_threshold, settings.hausdorff_unit, mdvit_jax.__version__),
    )
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def digest(scan: conform.Conformed) -> str:
    """Of everything in a conformed scan."""
    found = hashlib.sha256()
    for array in scan:
        if array is not None:
            array = np.ascontiguousarray(array)
            found.update(f"{array.dtype}{array.shape}".encode())
            found.update(array.tobytes())
    return found.hexdigest()
