"""The rows of a campaign as tables: which kinds come right, what a verdict is worth."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from mdvit_jax.studies.report.section import Table

RIGHT, WRONG = 1.0, 3.0  # mm, of one person
OTHER_RIGHT, OTHER_WRONG = 2.0, 6.0  # mm, of two, from the answer for clean scans
_QUANTILES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


def summarise(rows: pd.DataFrame) -> str:
    """The tables as Markdown.

    Args:
        rows: as `campaign.run_pairs` returns them.
    """
    rows = judge(rows)
    parts = [
        f"{len(rows)} pairs, {rows.seconds.median():.1f} s each in the median. Of one "
        f"person a pair is right within {RIGHT:g} mm and wrong beyond {WRONG:g} mm; of "
        f"two, where the truth is the answer for clean scans of them, within "
        f"{OTHER_RIGHT:g} and beyond {OTHER_WRONG:g} mm."
    ]
    heads = ("pairs", "median mm (one person)", "right", "wrong", "wrong and ok",
             "right and not ok")  # fmt: skip
    for title, kinds in _kinds(rows).items():
        lines = [(str(kind), *_counts(part)) for kind, part in rows.groupby(kinds)]
        parts.append(Table((title, *heads), lines).to_markdown())
    parts.append(_verdicts(rows))
    parts += [
        _curve(rows, name)
        for name in ("score", "correlation", "overlap")
        if name in rows
    ]
    return "\n\n".join(parts) + "\n"


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with columns right and wrong, by the limits above.

    A pair that was refused is wrong.
    """
    one = rows.people == 1
    right = rows.error <= np.where(one, RIGHT, OTHER_RIGHT)
    wrong = ~(rows.error <= np.where(one, WRONG, OTHER_WRONG))
    return rows.assign(right=right, wrong=wrong)


def count_verdicts(rows: pd.DataFrame) -> tuple[str, str, str]:
    """Of judged rows how many are wrong, wrong and `ok`, right and not `ok`."""
    ok = rows.status == "ok"
    counts = rows.wrong, rows.wrong & ok, rows.right & ~ok
    wrong, wrong_and_ok, right_and_not_ok = (str(which.sum()) for which in counts)
    return wrong, wrong_and_ok, right_and_not_ok


def _kinds(rows: pd.DataFrame) -> Mapping[str, pd.Series]:
    """Title → the group of each row."""
    either = {
        name: rows[f"fixed_{name}"] | rows[f"moving_{name}"]
        for name in ("defaced", "holes", "oblique", "inverted")
    }
    lesions = (rows.fixed_lesions + rows.moving_lesions) > 0
    contrasts = rows.fixed_contrast.where(
        rows.fixed_contrast == rows.moving_contrast, "two contrasts"
    )
    fields = ["slab", "top cut", "neck cut", "whole"]
    field = np.minimum(
        rows.fixed_field.map(fields.index), rows.moving_field.map(fields.index)
    ).map(dict(enumerate(fields)))
    ct = (rows.fixed_contrast == "CT") | (rows.moving_contrast == "CT")
    return {
        "all": pd.Series("all", rows.index),
        "people": rows.people,
        "fixed ← moving": rows.fixed_object + " ← " + rows.moving_object,
        "contrasts": contrasts,
        "CT": ct.map({True: "with CT", False: "without"}),
        "smaller field": field,
        "brain shown by both": pd.cut(
            rows.shared, [-0.01, 0.25, 0.5, 0.75, 0.9, 1], labels=None
        ).astype(str),
        "fixed acquisition": rows.fixed_acquisition,
        "moving acquisition": rows.moving_acquisition,
        "axes": pd.Series(
            np.where(rows.fixed_axes == rows.moving_axes, "the same", "different"),
            rows.index,
        ),
        **{f"either {name}": values for name, values in either.items()},
        "either with lesions": lesions,
    }


def _counts(rows: pd.DataFrame) -> tuple[str, ...]:
    return (
        str(len(rows)),
        f"{rows[rows.people == 1].error.median():.2f}",
        f"{rows.right.mean():.0%}",
        *count_verdicts(rows),
    )


def _verdicts(rows: pd.DataFrame) -> str:
    """How far off the pairs of each verdict are, of one person."""
    one = rows[rows.people == 1]
    limits = [0, 0.1, 0.3, 1, 3, 10, np.inf]
    names = [f"{low:g} to {high:g} mm" for low, high in itertools.pairwise(limits)]
    bins = pd.cut(one.error, limits, labels=names).astype(object).fillna("refused")
    counts = pd.crosstab(one.status, bins)
    counts = counts.reindex(columns=[n for n in (*names, "refused") if n in counts])
    lines = [(str(status), *map(str, row)) for status, *row in counts.itertuples()]
    return Table(("verdict, of one person", *counts), lines).to_markdown()


def _curve(rows: pd.DataFrame, measure: str) -> str:
    """What a limit on one measure would do: each at a quantile of the right ones."""
    right, wrong = rows[rows.right], rows[rows.wrong & rows[measure].notna()]
    lines = []
    for quantile in _QUANTILES:
        limit = right[measure].quantile(quantile)
        above, below = (wrong[measure] >= limit).sum(), (right[measure] < limit).sum()
        lines.append((f"{limit:.3f}", str(above), str(below)))
    heads = (
        f"limit of {measure}",
        f"of {len(wrong)} wrong ones not below",
        f"of {len(right)} right ones below",
    )
    return Table(heads, lines).to_markdown()
