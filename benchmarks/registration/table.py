"""The results as a table: a row for each question, a column for each method.

A method that failed on a case counts as infinitely far off (mm), or as without any
overlap (Dice); its cell says how often that was.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from benchmarks.registration import damages
from benchmarks.registration.contrasts import GAMMAS
from mdvit_jax.studies.report.section import Table


def make_table(results: pd.DataFrame, methods: Sequence[str]) -> Table:
    """The table of all questions that have results.

    Args:
        results: as `compare.compare` returns them, of any cases and methods.
        methods: the columns.
    """
    rows = []
    for question, group, contrasts, answer in _QUESTIONS:
        cases = results[(results.group == group) & results.contrast.isin(contrasts)]
        # Their own voxels before others.
        for voxels in sorted(cases.voxels.unique(), reverse=True):
            same_size = cases[cases.voxels == voxels]
            columns = [same_size[same_size.method == method] for method in methods]
            count = max(column.case.nunique() for column in columns)
            size = "" if voxels == "own" or voxels in question else f", at {voxels}"
            cells = [_cell(column, answer) for column in columns]
            rows.append((f"{question}{size} (n = {count})", *cells))
    return Table(("", *methods), rows)


def _cell(rows: pd.DataFrame, answer: Callable[[pd.DataFrame], str]) -> str:
    if rows.empty:
        return "–"
    failed = np.count_nonzero(rows.error)
    return answer(rows) + (f" ({failed} failed)" if failed else "")


def _distances(rows: pd.DataFrame) -> pd.Series:
    return rows.value.where(rows.error == "", np.inf)


def _median(rows: pd.DataFrame) -> str:
    return f"{np.median(_distances(rows)):.2f}"


def _median_and_worst(rows: pd.DataFrame) -> str:
    return f"{_median(rows)} / {_distances(rows).max():.2f}"


def _below_1_mm(rows: pd.DataFrame) -> str:
    return f"{np.count_nonzero(_distances(rows) < 1)} of {len(rows)}"


def _overlap(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "–"
    return f"{rows.value.where(rows.error == '', 0).mean():.3f}"


def _median_and_lowest(rows: pd.DataFrame) -> str:
    values = rows.value.where(rows.error == "", 0)
    return f"{values.median():.3f} / {values.min():.3f}"


def _overlaps(rows: pd.DataFrame) -> str:
    own, *others = (_overlap(rows[rows.contrast == gamma]) for gamma in GAMMAS)
    return f"{own} ({', '.join(others)})"


def _seconds(rows: pd.DataFrame) -> str:
    seconds = rows.seconds[rows.error == ""]
    return f"{seconds.median():.1f}" if len(seconds) else "–"


_ONE = ("gamma 1",)
# Question, group, contrasts, how it is answered.
_QUESTIONS: Sequence[tuple[str, str, Sequence[str], Callable[[pd.DataFrame], str]]] = (
    (
        "known affine, median / worst mm, γ 1",
        *("known-affine", _ONE, _median_and_worst),
    ),
    ("γ 0.5, median / worst", "known-affine", GAMMAS[1:2], _median_and_worst),
    ("γ 2, median / worst", "known-affine", GAMMAS[2:], _median_and_worst),
    ("inverted, median / worst", "known-affine", ("inverted",), _median_and_worst),
    ("T2-like, median / worst", "known-affine", ("T2-like",), _median_and_worst),
    *(
        (f"{damage}, median / worst mm", "damage", (damage,), _median_and_worst)
        for damage in (*damages.OF_SCAN, *damages.OF_IMAGE)
    ),
    *(
        (f"own copy, {change}, median / worst", "copy", (change,), _median_and_worst)
        for change in damages.OF_COPY
    ),
    ("12-region Dice over pairs, γ 1 (0.5, 2)", "regions", GAMMAS, _overlaps),
    ("brain Dice to MNI152", "template", _ONE, _overlap),
    (
        "whole heads to MNI152, Dice of the brains, median / worst",
        *("heads", ("to MNI152",), _median_and_lowest),
    ),
    ("the same heads, stripped", "heads", ("stripped",), _median_and_lowest),
    (
        "whole heads of one person, any contrasts, median / worst mm",
        *("heads", ("to a head",), _median_and_worst),
    ),
    (
        "whole heads to MNI152 and back, median / worst mm apart",
        *("heads", ("both ways",), _median_and_worst),
    ),
    (
        "whole heads to MNI152, turned at random, below 1 mm apart",
        *("heads", ("turned",), _below_1_mm),
    ),
    (
        "T1 to T2 or FLAIR of a session from two starts, median / worst mm apart",
        *("heads", ("two starts",), _median_and_worst),
    ),
    ("any orientation, error below 1 mm", "orientation", _ONE, _below_1_mm),
    ("seconds a pair at 2 mm, warm", "speed", _ONE, _seconds),
    ("seconds of a whole command, 1 mm", "command", _ONE, _seconds),
)
