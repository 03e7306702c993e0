"""Fig. 6 of the paper: what contrast does to the two measures themselves."""

import numpy as np

from mdvit_jax.studies import cases, contrast, tables
from mdvit_jax.studies.case import Case, by, count_pairs
from mdvit_jax.studies.section import Section, Table


def run(setting: cases.Setting) -> tuple[Section, list[Case]]:
    """Relative change of NTG and NCC of the registered pair, over gamma.

    The cases are those of `contrast`, so that after it nothing is left to compute.
    """
    methods = *setting.networks, *setting.classical
    found = cases.run(setting, methods, contrast.CHANGES)
    one = contrast.GAMMAS.index(1.0)
    lines: dict[str, dict] = {"NTG": {}, "NCC": {}}
    rows = []
    for (method,), own in by(found, "method"):
        # NTG is a distance; NCC is the mean squared correlation, not its loss.
        measures = {
            "NTG": contrast.of_gammas(own, "ntg"),
            "NCC": 1 - contrast.of_gammas(own, "ncc"),
        }
        for measure, values in measures.items():
            change = 100 * (values / values[:, [one]] - 1)
            mean, error = contrast.mean_and_error(change)
            lines[measure][method] = (np.array(contrast.GAMMAS), mean, error)
            texts = [f"{m:+.1f} ± {e:.1f}" for m, e in zip(mean, error, strict=True)]
            rows.append((f"{measure}, {method}", *texts))
    text = (
        f"Relative change in percent of NTG (Eq. 2) and of NCC (mean squared local "
        f"correlation) between the fixed and the registered image of "
        f"{count_pairs(found)}, against those without a change of contrast (paper, "
        "Fig. 6). Mean ± standard error over pairs. NTG falls towards 0 with likeness, "
        "NCC rises towards 1."
    )
    heads = ("Measure, method", *(f"γ {value:g}" for value in contrast.GAMMAS))
    figures = {
        f"similarity_{measure.lower()}": contrast.over_gammas(
            of_measure,
            title=f"Change of {measure} after registration",
            y_name="relative change (%)",
            reference=0.0,
        )
        for measure, of_measure in lines.items()
    }
    table = Table(heads, rows, tables.left_out(found))
    section = Section("similarity", "Fig. 6: similarity", text, [table], figures)
    return section, found
