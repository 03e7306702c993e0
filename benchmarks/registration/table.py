"""The results as a Markdown table: a row for each question, a column for each method.

A method that failed on a case counts as one that was infinitely far off (mm), or
without any overlap (Dice); its cell says how often that was.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from benchmarks.registration import results
from benchmarks.registration.contrasts import GAMMAS

Rows = list[results.Row]


def markdown(rows: Iterable[results.Row], methods: Sequence[str]) -> str:
    """The table of all questions that have results.

    Args:
        rows: of any cases and methods.
        methods: the columns.
    """
    rows = list(rows)
    lines = [f"| | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for question, group, contrasts, answer in _QUESTIONS:
        asked = [r for r in rows if r.group == group and r.contrast in contrasts]
        # Their own voxels before others.
        for voxels in sorted({r.voxels for r in asked}, reverse=True):
            alike = [r for r in asked if r.voxels == voxels]
            columns = [[r for r in alike if r.method == method] for method in methods]
            cells = [_cell(column, answer) for column in columns]
            count = max(len({r.case for r in column}) for column in columns)
            size = "" if voxels == "own" or voxels in question else f", at {voxels}"
            lines.append(f"| {question}{size} (n = {count}) | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(rows: Rows, answer: Callable[[Rows], str]) -> str:
    if not rows:
        return "–"
    failed = sum(bool(r.error) for r in rows)
    return answer(rows) + (f" ({failed} failed)" if failed else "")


def _distances(rows: Rows) -> np.ndarray:
    return np.array([np.inf if r.error else r.value for r in rows])


def _median(rows: Rows) -> str:
    return f"{np.median(_distances(rows)):.2f}"


def _median_and_worst(rows: Rows) -> str:
    return f"{_median(rows)} / {_distances(rows).max():.2f}"


def _below_1_mm(rows: Rows) -> str:
    return f"{np.count_nonzero(_distances(rows) < 1)} of {len(rows)}"


def _overlap(rows: Rows) -> str:
    return f"{np.mean([0 if r.error else r.value for r in rows]):.3f}" if rows else "–"


def _overlaps(rows: Rows) -> str:
    of = {c: _overlap([r for r in rows if r.contrast == c]) for c in GAMMAS}
    return f"{of['gamma 1']} ({of['gamma 0.5']}, {of['gamma 2']})"


def _seconds(rows: Rows) -> str:
    taken = [r.seconds for r in rows if not r.error]
    return f"{np.median(taken):.1f}" if taken else "–"


_ONE = ("gamma 1",)
# Question, group, contrasts, what answers it.
_QUESTIONS: Sequence[tuple[str, str, Sequence[str], Callable[[Rows], str]]] = (
    (
        "known affine, median / worst mm, γ 1",
        *("known-affine", _ONE, _median_and_worst),
    ),
    ("γ 0.5 and γ 2, median", "known-affine", GAMMAS[1:], _median),
    ("inverted contrast, median", "known-affine", ("inverted",), _median),
    ("T2-like, median", "known-affine", ("T2-like",), _median),
    ("12-region Dice over pairs, γ 1 (0.5, 2)", "regions", GAMMAS, _overlaps),
    ("brain Dice to MNI152", "template", _ONE, _overlap),
    ("any orientation, error below 1 mm", "orientation", _ONE, _below_1_mm),
    ("seconds a pair at 2 mm, warm", "speed", _ONE, _seconds),
    ("seconds of a whole command, 1 mm", "command", _ONE, _seconds),
)
