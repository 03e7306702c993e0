"""Results of single cases on disk, under a key of all that they depend on.

A study that was stopped, or another study of the same pairs, does not compute them
again. `hash_case` makes the key from the contents of both scans, the method's identity
and the settings of the evaluation; names of files do not matter.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

import mdvit_jax
from mdvit_jax import errors
from mdvit_jax.data import conform
from mdvit_jax.evaluation.methods import Method
from mdvit_jax.studies.record import Record


class ResultsFile:
    """A JSON-lines file of results, key → row; `add` appends a line at once."""

    def __init__(self, path: Path):
        """Read the file if there is one.

        Raises:
            UserError: a line other than a last one that was cut short is damaged.
        """
        self.path = path
        self._rows: dict[str, dict[str, Any]] = {}
        if not path.exists():
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                self._rows[row.pop("key")] = row
            except (ValueError, KeyError, AttributeError) as error:
                if number < len(lines) or line.endswith("\n"):
                    raise errors.UserError(
                        f"{path} is damaged: line {number} is not a result; remove "
                        "that line, and the result is computed again."
                    ) from error
                # The last line was cut short when the program was stopped.
                path.write_text("".join(lines[:-1]), encoding="utf-8")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order in which their keys were first added."""
        return list(self._rows.values())

    def get(self, key: str) -> dict[str, Any] | None:
        """The row of a key; None if there is none."""
        return self._rows.get(key)

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Keep a row, on disk too."""
        self._rows[key] = dict(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, **row}) + "\n")


def hash_case(
    fixed: str, moving: str, method: Method, config: ml_collections.ConfigDict
) -> str:
    """The key of a result.

    Args:
        fixed, moving: `hash_scan` of the scans, the moving one as the method gets it.
        method: its identity counts, its name does not.
        config: the settings of the evaluation.
    """
    settings = config.evaluation
    parts = (
        *(fixed, moving, method.identity, config.data.task, config.data.label_scheme),
        *(settings.mask_threshold, settings.hausdorff_unit, mdvit_jax.__version__),
        # Rows of another kind of record cannot be read.
        [field.name for field in dataclasses.fields(Record)],
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def hash_scan(scan: conform.Conformed) -> str:
    """A digest of all arrays of a conformed scan."""
    digest = hashlib.sha256()
    for array in scan:
        if array is not None:
            array = np.ascontiguousarray(array)
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()
