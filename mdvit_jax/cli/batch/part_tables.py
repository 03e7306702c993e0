"""Parts of a batch for job arrays: each has a table of its own, and a merge joins them.

Part I of N has every Nth pair from the Ith on, and writes results_part-I-of-N.csv. What
results.csv holds already it leaves alone. Nothing else writes the folder's table while
there are tables of parts, and they go when they are merged.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mdvit_jax import errors
from mdvit_jax.cli.batch import results_csv
from mdvit_jax.io import lock

WHOLE = "results.csv"
_WAIT = 60.0  # seconds; as many parts as an array has may begin at once


class Part(NamedTuple):
    """Part `number` of `total`, from 1."""

    number: int
    total: int

    @property
    def table(self) -> str:
        """The name of its table."""
        digits = len(str(self.total))
        return f"results_part-{self.number:0{digits}}-of-{self.total}.csv"

    @property
    def lock(self) -> str:
        """The name of the file that it locks."""
        return f".lock_{self.table}"


def parse(word: str) -> Part:
    """The part that a word such as 3/100 names.

    Raises:
        UserError: it names none.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", word)
    part = Part(*map(int, match.groups())) if match else Part(0, 0)
    if not 1 <= part.number <= part.total:
        raise errors.UserError(
            f'--part is "{word}"; write I/N, such as 3/100, with I from 1 to N.'
        )
    return part


@contextlib.contextmanager
def hold_folder(folder: Path, part: Part | None = None) -> Iterator[None]:
    """Make the folder, and keep others out of it, or of a part, while the block runs.

    Raises:
        UserError: nothing can be written to it, another batch is there (`Taken`), or
            there are tables of parts, of another number of them if `part`.
    """
    _make(folder)
    in_use = (
        f"another mdvit batch is writing to {folder}; wait for it, or name another "
        "--output."
    )
    with contextlib.ExitStack() as stack:
        if part is None:
            stack.enter_context(lock.hold(folder, in_use))
            _refuse_unmerged(folder, None)
        else:
            with lock.hold(folder, in_use, wait=_WAIT):
                _refuse_unmerged(folder, part.total)
                stack.enter_context(lock.hold(folder, in_use, name=part.lock))
        yield


def _make(folder: Path) -> None:
    reason = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
    if not reason and not os.access(folder, os.W_OK):
        reason = "nothing can be written to it"
    if reason:
        raise errors.UserError(
            f"the folder {folder} cannot be used ({reason}); name another --output."
        )


def _refuse_unmerged(folder: Path, total: int | None) -> None:
    for part in _parts(folder):
        if part.total != total:
            raise errors.UserError(
                f"{folder} has tables of parts, such as {part.table}; run mdvit batch "
                f"--merge --output {folder} first."
            )


def merge(folder: Path) -> tuple[list[results_csv.Result], list[str]]:
    """Join the tables of parts, and what results.csv has already, in order of names.

    Returns:
        The results, and the tables that are missing, of parts that never began.

    Raises:
        Taken: a part is at work.
        UserError: there are no tables of parts, or they cannot be read or written.
    """
    parts = _parts(folder)
    if not parts:
        raise errors.UserError(
            f"{folder} has no tables of parts; run mdvit batch with --part first."
        )
    with contextlib.ExitStack() as stack:
        for name in (lock.NAME, *(part.lock for part in parts)):
            message = f"a mdvit batch is still writing to {folder}; wait for it."
            stack.enter_context(lock.hold(folder, message, name=name))
        results = results_csv.read(folder / WHOLE)
        for part in parts:
            results |= results_csv.read(folder / part.table)
        ordered = [results[name] for name in sorted(results)]
        results_csv.write(folder / WHOLE, ordered)
        for part in parts:
            for name in (part.table, part.lock):
                (folder / name).unlink(missing_ok=True)
    expected = {Part(n, p.total) for p in parts for n in range(1, p.total + 1)}
    return ordered, sorted(part.table for part in expected - set(parts))


def _parts(folder: Path) -> list[Part]:
    """Those that have a table."""
    matches = (
        re.fullmatch(r"results_part-(\d+)-of-(\d+)\.csv", path.name)
        for path in folder.glob("results_part-*.csv")
    )
    return sorted(Part(int(m[1]), int(m[2])) for m in matches if m)
