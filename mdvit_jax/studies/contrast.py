"""Fig. 3 of the paper: what a change of the moving image's contrast does to the DSC."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mdvit_jax.plots import lines
from mdvit_jax.studies import perturbations, tables
from mdvit_jax.studies.compute import Setting, compute_records
from mdvit_jax.studies.record import count_pairs
from mdvit_jax.studies.report.section import Section, Table

GAMMAS = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
REFERENCE = GAMMAS.index(1.0)
GAMMA_HEADS = tuple(f"γ {gamma:g}" for gamma in GAMMAS)
_CONTRASTS = {gamma: perturbations.contrast(gamma) for gamma in GAMMAS}


def compute(setting: Setting) -> pd.DataFrame:
    """Networks and `register` under gammas of the moving image."""
    methods = *setting.networks, *setting.classical
    return compute_records(setting, methods, tuple(_CONTRASTS.values()))


def report(setting: Setting, records: pd.DataFrame) -> Section:
    """DSC over gamma, and how far it is from that of gamma 1."""
    records = tables.mean_over_seeds(records, setting.families)
    curves, rows = {}, []
    for method, own in records.groupby("method", sort=False):
        values = by_gamma(own, "dsc")
        curves[method] = (np.array(GAMMAS), *tables.mean_and_error(values))
        texts = [tables.mean_std(column, 3) for column in values.T]
        # The mean over the gammas first: an error over pairs, not over cases.
        change = np.abs(values - values[:, [REFERENCE]])
        change = np.delete(change, REFERENCE, axis=1).mean(axis=1)
        mean, error = tables.mean_and_error(change)
        rows.append((method, *texts, f"{mean:.4f} ± {error:.4f}"))
    text = (
        f"DSC of {count_pairs(records)} when the moving image's brightness is taken to "
        "the power of γ (paper, Fig. 3). The columns give mean ± standard deviation "
        "over pairs; the last one how far the DSC of a pair is from its own at γ 1, "
        "mean ± standard error over pairs. Bands: standard error. A value near the "
        "reference (dashed: the first method's at γ 1) says that contrast does not "
        "matter, not that the alignment is exact."
    )
    _, first_means, _ = next(iter(curves.values()))
    figure = plot_over_gamma(
        curves,
        title="DSC under a change of contrast",
        y_name="DSC",
        reference=float(first_means[REFERENCE]),
    )
    heads = ("Method", *GAMMA_HEADS, "mean |DSC − DSC(γ 1)|")
    table = Table(heads, rows, note=tables.exclusions(records))
    return Section("Fig. 3: contrast", text, [table], {"contrast": figure})


def by_gamma(records: pd.DataFrame, column: str) -> np.ndarray:
    """[pairs, gammas] of one method; only pairs with a number for every gamma."""
    wide = records.pivot(
        index=["fixed", "moving"], columns="perturbation", values=column
    )
    values = wide[[one.name for one in _CONTRASTS.values()]].to_numpy(np.float64)
    return values[np.isfinite(values).all(axis=1)]


def plot_over_gamma(
    curves: Mapping, *, title: str, y_name: str, reference: float
) -> Figure:
    """Lines over gamma; `curves` and `reference` as in `lines.lines`."""
    return lines.lines(
        curves,
        title=title,
        x_name="gamma of the moving image",
        y_name=y_name,
        reference=reference,
        x_ticks=GAMMAS,
        log_x=True,
    )
