"""The pairs of a campaign as points: how far off, how alike, and the verdict."""

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.registration import campaign_table
from mdvit_jax.plots import curves, panels
from mdvit_jax.registration import quality

_COLOURS = {
    quality.FAILED: "#8b8e98",
    quality.CHECK: panels.SECOND,
    quality.OK: panels.FIRST,
}
_LEAST = 0.01  # mm; what is nearer is drawn there


def draw(rows: pd.DataFrame) -> Figure:
    """Error over local correlation, of one person and of two, coloured by the verdict.

    Args:
        rows: as `campaign.run_pairs` returns them; refused pairs have no point.
    """
    figure = panels.create_figure(11.0, 4.4)
    figure.subplots_adjust(0.07, 0.13, 0.98, 0.91, 0.16)
    kinds = (
        ("Of one person", 1, campaign_table.WRONG, "error (mm)"),
        (
            "Of two people",
            2,
            campaign_table.OTHER_WRONG,
            "distance from the answer for clean scans (mm)",
        ),
    )
    for axis, (title, people, wrong, label) in zip(
        figure.subplots(1, 2), kinds, strict=True
    ):
        some = rows[(rows.people == people) & rows.error.notna()]
        curves.style_axis(axis, f"{title}: {len(some)} pairs", "local correlation")
        for status, colour in _COLOURS.items():
            part = some[some.status == status]
            axis.scatter(
                part.correlation,
                part.error.clip(lower=_LEAST),
                s=9,
                color=colour,
                alpha=0.75,
                linewidths=0,
                label=f"{status} ({len(part)})",
            )
        axis.axhline(wrong, color=panels.TEXT, lw=0.8, ls="--")
        axis.set_yscale("log")
        axis.set_ylabel(label, color=panels.TEXT, fontsize=9)
        axis.legend(frameon=False, labelcolor=panels.TEXT, fontsize=9)
    return figure
