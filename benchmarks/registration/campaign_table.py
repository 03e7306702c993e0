"""The rows of a campaign as tables: which kinds come right, what a verdict is worth."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

RIGHT, WRONG = 1.0, 3.0  # mm, of one person
OTHER_RIGHT, OTHER_WRONG = 6.0, 12.0  # mm, of two, whom no affine lays on each other
_QUANTILES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


def summarise(rows: pd.DataFrame) -> str:
    """The tables as Markdown.

    Args:
        rows: as `campaign.run_pairs` returns them.
    """
    rows = rows.assign(right=_is_right(rows), wrong=_is_wrong(rows))
    parts = [
        f"{len(rows)} pairs, {rows.seconds.median():.1f} s each in the median. Of one "
        f"person a pair is right within {RIGHT:g} mm and wrong beyond {WRONG:g} mm; of "
        f"two, where the truth is that of landmarks, within {OTHER_RIGHT:g} and beyond "
        f"{OTHER_WRONG:g} mm."
    ]
    for title, kinds in _kinds(rows).items():
        groups = rows.groupby(kinds, observed=True)
        counts = pd.DataFrame(
            {
                "pairs": groups.size(),
                "median mm (one person)": groups.apply(_median, include_groups=False),
                "right": groups.right.mean().map("{:.0%}".format),
                "wrong": groups.wrong.sum(),
                "wrong and ok": groups.apply(_ok_of("wrong"), include_groups=False),
                "right and not ok": groups.apply(
                    _not_ok_of("right"), include_groups=False
                ),
            }
        )
        parts.append(counts.rename_axis(title).to_markdown())
    parts.append(_verdicts(rows))
    parts += [
        _curve(rows, name)
        for name in ("score", "correlation", "overlap")
        if name in rows
    ]
    return "\n\n".join(parts) + "\n"


def _is_right(rows: pd.DataFrame) -> pd.Series:
    return rows.error <= np.where(rows.people == 1, RIGHT, OTHER_RIGHT)


def _is_wrong(rows: pd.DataFrame) -> pd.Series:
    limit = np.where(rows.people == 1, WRONG, OTHER_WRONG)
    return ~(rows.error <= limit)


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


def _median(rows: pd.DataFrame) -> str:
    one = rows[rows.people == 1]
    return f"{one.error.median():.2f}" if len(one) else "–"


def _ok_of(column: str):
    return lambda rows: int((rows[column] & (rows.status == "ok")).sum())


def _not_ok_of(column: str):
    return lambda rows: int((rows[column] & (rows.status != "ok")).sum())


def _verdicts(rows: pd.DataFrame) -> str:
    """How far off the pairs of each verdict are, of one person."""
    one = rows[rows.people == 1]
    limits = [0, 0.1, 0.3, 1, 3, 10, np.inf]
    names = [f"{low:g} to {high:g} mm" for low, high in itertools.pairwise(limits)]
    bins = pd.cut(one.error, limits, labels=names).astype(object).fillna("refused")
    return (
        pd.crosstab(one.status, bins)
        .reindex(columns=[n for n in (*names, "refused") if (bins == n).any()])
        .rename_axis("verdict, of one person")
        .to_markdown()
    )


def _curve(rows: pd.DataFrame, measure: str) -> str:
    """What a limit on one measure would do: each at a quantile of the right ones."""
    right, wrong = rows[rows.right], rows[rows.wrong & rows[measure].notna()]
    lines = []
    for quantile in _QUANTILES:
        limit = right[measure].quantile(quantile)
        lines.append(
            {
                f"limit of {measure}": f"{limit:.3f}",
                f"of {len(wrong)} wrong, above": (wrong[measure] >= limit).sum(),
                f"of {len(right)} right, below": (right[measure] < limit).sum(),
            }
        )
    return pd.DataFrame(lines).to_markdown(index=False)
