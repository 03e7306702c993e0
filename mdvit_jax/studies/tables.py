"""Records as the rows of a report's tables: means, deviations, and what is excluded."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mdvit_jax.evaluation import metrics
from mdvit_jax.studies.record import dice_column
from mdvit_jax.studies.report.section import Table, mark_ranks

# What `seed_table` shows.
SEEDS = (
    "One row for the runs of a network that differ by their seed alone: mean ± "
    "standard error over pairs, of each pair the mean over the seeds, and how far the "
    "mean DSC varies with the seed."
)

# Column of the records, head, digits, whether lower is better.
_COLUMNS = (
    ("dsc", "DSC↑", 3, False),
    ("dsc30", "DSC30↑", 3, False),
    ("hd95", "HD95↓ ({unit})", 2, True),
    ("jaccard", "Jaccard↑", 3, False),
)


def overlap_table(
    records: pd.DataFrame, unit: str, *, names: Mapping[str, str] | None = None
) -> Table:
    """The paper's Table 1, a row for each method.

    Args:
        records: of any methods.
        unit: of the Hausdorff distance.
        names: method → name of its row, where that is another.
    """
    groups = dict(iter(records.groupby("method", sort=False)))
    columns = [[(names or {}).get(method, method) for method in groups]]
    for column, _, digits, lower in _COLUMNS:
        if column == "dsc30":
            values = [metrics.lowest30(finite(g["dsc"])) for g in groups.values()]
        else:
            values = [finite(group[column]) for group in groups.values()]
        columns.append(_ranked_means(values, digits=digits, lower_is_better=lower))
    seconds = [finite(group["seconds"]) for group in groups.values()]
    columns.append([f"{v.mean():.2f}" if v.size else "–" for v in seconds])
    heads = [head.format(unit=unit) for _, head, _, _ in _COLUMNS]
    rows = list(zip(*columns, strict=True))
    return Table(("Method", *heads, "Seconds"), rows, note=exclusions(records))


def seed_table(records: pd.DataFrame, unit: str, families: Mapping[str, str]) -> Table:
    """Table 1 with one row for the runs of a network that differ by their seed alone.

    `SEEDS` says what it shows. The last column is what another training may change: the
    standard error, over the seeds, of the mean DSC.

    Args:
        records: of any methods.
        unit: of the Hausdorff distance.
        families: method → what its runs have in common; a method that is not there has
            a row of its own.
    """
    pairs = dict(iter(mean_over_seeds(records, families).groupby("method")))
    scores = [column for column in _COLUMNS if column[0] != "dsc30"]
    rows = []
    names = records["method"].replace(dict(families))
    for family, own in records.groupby(names, sort=False):
        row = [family, str(own["method"].nunique())]
        for column, _, digits, _ in scores:
            by_pair = finite(pairs[family][column])
            mean, error = mean_and_error(by_pair)
            text = f"{mean:.{digits}f} ± {error:.{digits}f}"
            row.append(text if by_pair.size else "–")
        by_run = finite(own.groupby("method")["dsc"].mean())
        _, error = mean_and_error(by_run)
        row.append(f"{error:.4f}" if by_run.size > 1 else "–")
        seconds = finite(own["seconds"])
        row.append(f"{seconds.mean():.2f}" if seconds.size else "–")
        rows.append(tuple(row))
    heads = [head.format(unit=unit) for _, head, _, _ in scores]
    heads = ["Method", "Runs", *heads, "DSC, ± over seeds", "Seconds"]
    return Table(tuple(heads), rows, note=exclusions(records))


def mean_over_seeds(records: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    """The records of networks with the runs that differ by their seed as one method.

    Args:
        records: of any methods.
        families: method → what its runs have in common; another one is alone.

    Returns:
        A row for each case, in the methods' order: the mean over the runs where all of
        them have numbers; one of their errors where one has none.
    """
    if not families:
        return records
    named = records.assign(method=records["method"].replace(dict(families)))
    groups = named.groupby(["method", "fixed", "moving", "perturbation"], sort=False)
    numbers = list(named.select_dtypes("number"))
    means = groups[numbers].agg(lambda values: values.mean(skipna=False))
    means["error"] = groups["error"].max()  # empty where there is none
    return means.reset_index()


def region_table(
    records: pd.DataFrame, regions: Sequence[str], missing: Sequence[str] = ()
) -> Table:
    """Dice of the regions, a row for each, and their mean; a column for each method.

    Args:
        records: of any methods.
        regions: that have numbers.
        missing: regions that the labels do not draw.
    """
    records = with_dice_columns(records, regions)
    groups = dict(iter(records.groupby("method", sort=False)))
    columns = [dice_column(region) for region in regions]

    def row(head: str, values: Sequence[np.ndarray]) -> tuple[str, ...]:
        return head, *_ranked_means(values, digits=3, lower_is_better=False)

    rows = [
        row(region, [finite(group[column]) for group in groups.values()])
        for region, column in zip(regions, columns, strict=True)
    ]
    rows += [(region, *["not drawn"] * len(groups)) for region in missing]
    means = [finite(group[columns].mean(axis=1)) for group in groups.values()]
    rows.append(row("mean of the regions", means))
    return Table(("Region", *groups), rows, note="Dice, left and right joined.")


def with_dice_columns(records: pd.DataFrame, regions: Sequence[str]) -> pd.DataFrame:
    """The records with a column for each region: NaN where no case has a value."""
    names = [*records.columns, *(dice_column(region) for region in regions)]
    return records.reindex(columns=list(dict.fromkeys(names)))


def finite(column: pd.Series) -> np.ndarray:
    """The finite values of a column, [n]."""
    values = column.to_numpy(np.float64)
    return values[np.isfinite(values)]


def mean_std(values: np.ndarray, digits: int) -> str:
    """`mean ± standard deviation` (divisor n) of values [n]; a dash without values."""
    if not values.size:
        return "–"
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over the first axis, [n, *any] → [*any] each.

    Without values they are NaN.
    """
    if not len(values):
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else 0 * values[0]
    return values.mean(axis=0), spread / np.sqrt(len(values))


def exclusions(records: pd.DataFrame) -> str:
    """A sentence for each method and score of which cases are not in the means."""
    sentences = []
    for method, group in records.groupby("method", sort=False):
        failed = group[group["error"] != ""]
        if len(failed):
            sentences.append(
                f"{method} failed in {len(failed)} of {len(group)} cases, which are "
                f"excluded (the first: {failed['error'].iloc[0]})."
            )
        for column, name in (("dsc", "DSC"), ("hd95", "HD95")):
            odd = group[(group["error"] == "") & ~np.isfinite(group[column])]
            if len(odd):
                pairs = [f"{m} to {f}" for m, f in odd[["moving", "fixed"]].to_numpy()]
                names = ", ".join(pairs[:3]) + (", …" if len(pairs) > 3 else "")
                sentences.append(
                    f"{method}: {name} is not a number in {len(odd)} of {len(group)} "
                    f"cases, which are excluded from its mean ({names})."
                )
    return " ".join(sentences)


def _ranked_means(
    values: Sequence[np.ndarray], *, digits: int, lower_is_better: bool
) -> list[str]:
    means = [float(v.mean()) if v.size else None for v in values]
    texts = [mean_std(v, digits) for v in values]
    return mark_ranks(means, texts, lower_is_better=lower_is_better, digits=digits)
