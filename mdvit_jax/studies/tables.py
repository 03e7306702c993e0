"""Cases as the rows of a table: means, deviations, and what was left out."""

import math
from collections.abc import Sequence

import numpy as np

from mdvit_jax.evaluation import metrics
from mdvit_jax.studies.case import Case, by
from mdvit_jax.studies.section import Table, ranked

# Attribute of a case, head of the column, digits, whether lower is better.
_COLUMNS = (
    ("dsc", "DSC↑", 3, False),
    ("dsc30", "DSC30↑", 3, False),
    ("hd95", "HD95↓ ({unit})", 2, True),
    ("jaccard", "Jaccard↑", 3, False),
)


def overlap(
    found: Sequence[Case], unit: str, *, names: dict[str, str] | None = None
) -> Table:
    """The paper's Table 1, a row for each method.

    Args:
        found: cases of the methods.
        unit: of the Hausdorff distance.
        names: method → name of its row, where that is another.
    """
    groups = [(method, rows) for (method,), rows in by(found, "method")]
    columns = [[(names or {}).get(method, method) for method, _ in groups]]
    for attribute, _, digits, lower in _COLUMNS:
        of_rows = [_values(rows, attribute) for _, rows in groups]
        means = [float(np.mean(v)) if v.size else None for v in of_rows]
        texts = [plus_minus(values, digits) for values in of_rows]
        columns.append(ranked(means, texts, lower_is_better=lower, digits=digits))
    seconds = [_values(rows, "seconds") for _, rows in groups]
    columns.append([f"{np.mean(v):.2f}" if v.size else "–" for v in seconds])
    heads = [head.format(unit=unit) for _, head, _, _ in _COLUMNS]
    rows = list(zip(*columns, strict=True))
    return Table(("Method", *heads, "Seconds"), rows, left_out(found))


def regions(
    found: Sequence[Case], compared: Sequence[str], lacking: Sequence[str] = ()
) -> Table:
    """Dice of the regions, a row for each, and their mean.

    Args:
        found: cases of the methods.
        compared: names of the regions that have numbers.
        lacking: names of those that the labels do not draw.
    """
    groups = [(method, rows) for (method,), rows in by(found, "method")]

    def row(head: str, of_case) -> tuple[str, ...]:
        values = [np.array([of_case(c) for c in rows], float) for _, rows in groups]
        values = [v[np.isfinite(v)] for v in values]
        means = [float(v.mean()) if v.size else None for v in values]
        texts = [plus_minus(v, 3) for v in values]
        return head, *ranked(means, texts, lower_is_better=False, digits=3)

    body = [row(name, lambda c, n=name: c.regions.get(n, np.nan)) for name in compared]
    body += [(name, *["lacking"] * len(groups)) for name in lacking]
    body.append(row("mean of the regions", _mean_region))
    heads = "Region", *(method for method, _ in groups)
    return Table(heads, body, "Dice, left and right joined.")


def _mean_region(case: Case) -> float:
    finite = [value for value in case.regions.values() if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def plus_minus(values: np.ndarray, digits: int) -> str:
    """`mean ± std`, or a dash of nothing."""
    if not values.size:
        return "–"
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


def left_out(found: Sequence[Case]) -> str:
    """A sentence for each method and each number that could not be averaged."""
    notes = []
    for (method,), rows in by(found, "method"):
        failed = [case for case in rows if case.error]
        if failed:
            notes.append(
                f"{method} failed in {len(failed)} of {len(rows)} cases, which are "
                f"left out (the first: {failed[0].error})."
            )
        for attribute, name in (("dsc", "DSC"), ("hd95", "HD95")):
            strange = [
                case
                for case in rows
                if not case.error and not math.isfinite(getattr(case, attribute))
            ]
            if strange:
                pairs = ", ".join(f"{c.moving} to {c.fixed}" for c in strange[:3])
                notes.append(
                    f"{method}: {name} is no number in {len(strange)} of {len(rows)} "
                    f"cases, which are left out of its mean ({pairs}"
                    f"{', …' if len(strange) > 3 else ''})."
                )
    return " ".join(notes)


def _values(rows: Sequence[Case], attribute: str) -> np.ndarray:
    if attribute == "dsc30":
        return metrics.lowest30(_values(rows, "dsc"))
    values = np.array([getattr(case, attribute) for case in rows], np.float64)
    return values[np.isfinite(values)]
