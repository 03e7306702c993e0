"""Per-case results as a table for people, CSV for analysis and JSON for programs.

Means and standard deviations are over the cases of one method, the latter of the
population (divisor n). A value that is not a number, or infinite, cannot be averaged:
it is left out of mean and deviation, counted in the summary, and the table names the
case.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mdvit_jax import atomic
from mdvit_jax.evaluation import metrics

_METRICS = ("dsc", "hd95", "jaccard", "seconds")
_NAMED = 5  # cases that a note under the table names before it counts the others


@dataclasses.dataclass(frozen=True)
class Case:
    """What one method made of one pair of scans.

    Attributes:
        method: the row of the table, such as "Initial (CoM)".
        fixed: subject.
        moving: subject.
        dsc: Dice of the brain masks.
        hd95: 95th percentile of the surface distance, in the report's unit.
        jaccard: of the brain masks.
        seconds: time for this pair; NaN where it was not taken.
        regions: region → Dice; NaN where neither scan has it.
    """

    method: str
    fixed: str
    moving: str
    dsc: float
    hd95: float
    jaccard: float
    seconds: float = math.nan
    regions: Mapping[str, float] = dataclasses.field(default_factory=dict)


def write(
    folder: str | Path,
    cases: Sequence[Case],
    *,
    config: Mapping[str, object],
    hd95_unit: str,
    regions: Sequence[str],
) -> str:
    """Write cases.csv, summary.json and table.md into the folder; return the table.

    Args:
        folder: made if need be; files of the same name are replaced, each as a whole.
        cases: in any order; methods are listed in the order of their first case.
        config: what was evaluated and how, as name → value; printed above the table.
        hd95_unit: "mm" or "voxels".
        regions: names in the order of the table; a case may lack some of them.

    Returns:
        Markdown: the paper's Table 1 for these methods, then Dice of the regions.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarise(cases, config=config, hd95_unit=hd95_unit, regions=regions)
    table = _markdown(summary, cases, regions)
    atomic.write_text(folder / "cases.csv", _csv(cases, regions))
    # Strict JSON knows no NaN: an average of nothing is null.
    atomic.write_text(
        folder / "summary.json",
        json.dumps(summary, indent=2, allow_nan=False, default=str) + "\n",
    )
    atomic.write_text(folder / "table.md", table)
    return table


def summarise(
    cases: Sequence[Case],
    *,
    config: Mapping[str, object],
    hd95_unit: str,
    regions: Sequence[str],
) -> dict:
    """The content of summary.json: mean, std, n and what was left out, per method."""
    methods: dict[str, dict] = {}
    for method in dict.fromkeys(case.method for case in cases):
        own = [case for case in cases if case.method == method]
        row: dict = {"cases": len(own)}
        for name in _METRICS:
            row[name] = _statistics([getattr(case, name) for case in own])
        row["dsc30"] = _statistics(metrics.lowest30([case.dsc for case in own]))
        row["regions"] = {
            region: _statistics([c.regions[region] for c in own if region in c.regions])
            for region in regions
        }
        row["mean_of_regions"] = _statistics(
            [_mean_region(c, regions) for c in own if c.regions]
        )
        methods[method] = row
    return {
        "description": dict(config),
        "hd95_unit": hd95_unit,
        "standard_deviation": "of the population (divisor n)",
        "methods": methods,
    }


def _statistics(values: Sequence[float] | np.ndarray) -> dict:
    """Mean and std of the finite values, and how many there were of each kind."""
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    return {
        "mean": float(finite.mean()) if finite.size else None,
        "std": float(finite.std()) if finite.size else None,
        "n": int(finite.size),
        "nan": int(np.isnan(array).sum()),
        "infinite": int(np.isinf(array).sum()),
    }


def _mean_region(case: Case, regions: Sequence[str]) -> float:
    values = [case.regions[name] for name in regions if name in case.regions]
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _csv(cases: Sequence[Case], regions: Sequence[str]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    dice = [f"dice_{region.replace(' ', '_')}" for region in regions]
    rows.writerow(["method", "fixed", "moving", *_METRICS, *dice])
    for case in cases:
        values = [getattr(case, name) for name in _METRICS]
        values += [case.regions.get(region, math.nan) for region in regions]
        rows.writerow(
            [
                case.method,
                case.fixed,
                case.moving,
                *(f"{value:.6g}" for value in values),
            ]
        )
    return text.getvalue()


def _markdown(summary: dict, cases: Sequence[Case], regions: Sequence[str]) -> str:
    methods = summary["methods"]
    unit = summary["hd95_unit"]
    parts = ["# Evaluation\n"]
    if summary["description"]:
        parts += [
            f"- {name}: {value}" for name, value in summary["description"].items()
        ]
        parts.append("")
    heads = ["Method", "DSC↑", "DSC30↑", f"HD95↓ ({unit})", "Jaccard↑"]
    parts += _rows(
        heads,
        [
            [
                name,
                _cell(row["dsc"], 3),
                _cell(row["dsc30"], 3),
                _cell(row["hd95"], 2),
                _cell(row["jaccard"], 3),
            ]
            for name, row in methods.items()
        ],
    )
    if regions:
        parts.append("\nDice of the regions, left and right joined:\n")
        body = [
            [region, *(_cell(row["regions"][region], 3) for row in methods.values())]
            for region in regions
        ]
        means = [_cell(row["mean_of_regions"], 3) for row in methods.values()]
        parts += _rows(["Region", *methods], [*body, ["mean of the regions", *means]])
    counts = ", ".join(f"{name} {row['cases']}" for name, row in methods.items())
    parts += [
        "\nMean ± standard deviation over the cases. DSC30: the lowest 30 % of the "
        f"cases by DSC. Cases: {counts}."
    ]
    parts += [f"\n{note}" for note in [*_times(methods), *_left_out(cases)]]
    return "\n".join(parts) + "\n"


def _rows(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *body]
    return [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
        for line in lines
    ]


def _cell(statistics: dict, digits: int) -> str:
    """`mean ± std`, marked * where values were left out; a dash where none was left."""
    if statistics["mean"] is None:
        return "–"
    mark = "*" if statistics["nan"] or statistics["infinite"] else ""
    return f"{statistics['mean']:.{digits}f} ± {statistics['std']:.{digits}f}{mark}"


def _times(methods: Mapping[str, dict]) -> list[str]:
    timed = [
        f"{name} {row['seconds']['mean']:.2f}"
        for name, row in methods.items()
        if row["seconds"]["mean"] is not None
    ]
    return [f"Seconds for a pair: {', '.join(timed)}."] if timed else []


def _left_out(cases: Sequence[Case]) -> list[str]:
    """One sentence for each metric of each method that could not be averaged as is."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for case in cases:
        values = {"DSC": case.dsc, "HD95": case.hd95, "Jaccard": case.jaccard}
        values |= {f"Dice of {name}": value for name, value in case.regions.items()}
        for metric, value in values.items():
            if not math.isfinite(value):
                kind = "not a number" if math.isnan(value) else "infinite"
                pair = f"{case.moving} to {case.fixed}"
                found.setdefault((case.method, metric, kind), []).append(pair)
    notes = []
    for (method, metric, kind), pairs in found.items():
        named = [
            *pairs[:_NAMED],
            *[f"{len(pairs) - _NAMED} more"] * (len(pairs) > _NAMED),
        ]
        notes.append(
            f"\\* {method}: {metric} is {kind}, and left out, in {len(pairs)} of "
            f"{sum(case.method == method for case in cases)} cases: "
            f"{', '.join(named)}."
        )
    return notes
