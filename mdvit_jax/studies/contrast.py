"""Fig. 3 of the paper: what a change of the moving image's contrast does to the DSC."""

import numpy as np
from matplotlib.figure import Figure

from mdvit_jax.plots import lines as plots
from mdvit_jax.studies import cases, changes, tables
from mdvit_jax.studies.case import Case, by, count_pairs
from mdvit_jax.studies.section import Section, Table

GAMMAS = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
CHANGES = tuple(changes.gamma(value) for value in GAMMAS)


def run(setting: cases.Setting) -> tuple[Section, list[Case]]:
    """Networks and `register` under gammas of the moving image."""
    methods = *setting.networks, *setting.classical
    found = cases.run(setting, methods, CHANGES)
    lines, rows = {}, []
    for (method,), own in by(found, "method"):
        values = of_gammas(own, "dsc")
        lines[method] = (np.array(GAMMAS), *mean_and_error(values))
        apart = values - values[:, [GAMMAS.index(1.0)]]
        texts = [tables.plus_minus(column, 3) for column in values.T]
        # The mean over the gammas first: an error over people, not over cases.
        deviation = np.abs(np.delete(apart, GAMMAS.index(1.0), axis=1)).mean(axis=1)
        mean, error = mean_and_error(deviation[:, None])
        rows.append((method, *texts, f"{mean[0]:.4f} ± {error[0]:.4f}"))
    heads = ("Method", *(f"γ {value:g}" for value in GAMMAS), "mean |DSC − DSC(γ 1)|")
    text = (
        f"DSC of {count_pairs(found)} when the moving image's brightness is taken to "
        "the power of γ (paper, Fig. 3). The columns give mean ± standard deviation "
        "over pairs; the last one how far the DSC of a pair is from its own at γ 1, "
        "mean ± standard error over pairs. Bands: standard error. A value near the "
        "reference "
        "(dashed: the first method's at γ 1) says that contrast does not matter, not "
        "that the alignment is exact."
    )
    first = next(iter(lines.values()))
    figure = over_gammas(
        lines,
        title="DSC under a change of contrast",
        y_name="DSC",
        reference=float(first[1][GAMMAS.index(1.0)]),
    )
    table = Table(heads, rows, tables.left_out(found))
    section = Section(
        "contrast", "Fig. 3: contrast", text, [table], {"contrast": figure}
    )
    return section, found


def of_gammas(own: list[Case], attribute: str) -> np.ndarray:
    """[pairs, gammas] of one method; pairs with a number for every gamma only."""
    order = {change.name: i for i, change in enumerate(CHANGES)}
    rows = []
    for _, of_pair in by(own, "fixed", "moving"):
        row = np.full(len(CHANGES), np.nan)
        for case in of_pair:
            row[order[case.change]] = getattr(case, attribute)
        rows.append(row)
    values = np.array(rows)
    return values[np.isfinite(values).all(axis=1)]


def over_gammas(lines, *, title: str, y_name: str, reference: float) -> Figure:
    """Lines as of `plots.lines` over gamma."""
    return plots.lines(
        lines,
        title=title,
        x_name="gamma of the moving image",
        y_name=y_name,
        reference=reference,
        x_ticks=GAMMAS,
        log_x=True,
    )


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over the first axis; NaN where there is nothing."""
    if not len(values):
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else 0 * values[0]
    return values.mean(axis=0), spread / np.sqrt(len(values))
