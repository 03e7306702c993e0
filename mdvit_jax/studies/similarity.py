"""Fig. 6 of the paper: how contrast changes the two measures themselves."""

import numpy as np
import pandas as pd

from mdvit_jax.studies import contrast, tables
from mdvit_jax.studies.compute import Setting
from mdvit_jax.studies.record import count_pairs
from mdvit_jax.studies.report.section import Section, Table


def compute(setting: Setting) -> pd.DataFrame:
    """The cases of the contrast study, which are computed once for both."""
    return contrast.compute(setting)


def report(setting: Setting, records: pd.DataFrame) -> Section:
    """Relative change of NTG and NCC of the registered pair, over gamma."""
    records = tables.mean_over_seeds(records, setting.families)
    curves: dict[str, dict] = {"NTG": {}, "NCC": {}}
    rows = []
    for method, own in records.groupby("method", sort=False):
        # NTG is a distance; NCC is the mean squared correlation, not its loss.
        measures = {
            "NTG": contrast.by_gamma(own, "ntg"),
            "NCC": 1 - contrast.by_gamma(own, "ncc"),
        }
        for measure, values in measures.items():
            change = 100 * (values / values[:, [contrast.REFERENCE]] - 1)
            mean, error = tables.mean_and_error(change)
            curves[measure][method] = (np.array(contrast.GAMMAS), mean, error)
            texts = [f"{m:+.1f} ± {e:.1f}" for m, e in zip(mean, error, strict=True)]
            rows.append((f"{measure}, {method}", *texts))
    text = (
        "Relative change in percent of NTG (Eq. 2) and of NCC (mean squared local "
        "correlation) between the fixed and the registered image of "
        f"{count_pairs(records)}, against those without a change of contrast (paper, "
        "Fig. 6). Mean ± standard error over pairs. NTG falls towards 0 with "
        "similarity, NCC rises towards 1."
    )
    figures = {
        f"similarity_{measure.lower()}": contrast.plot_over_gamma(
            method_curves,
            title=f"Change of {measure} after registration",
            y_name="relative change (%)",
            reference=0.0,
        )
        for measure, method_curves in curves.items()
    }
    heads = ("Measure, method", *contrast.GAMMA_HEADS)
    table = Table(heads, rows, note=tables.exclusions(records))
    return Section("Fig. 6: similarity", text, [table], figures)
