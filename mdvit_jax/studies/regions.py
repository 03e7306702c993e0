"""Fig. 5 of the paper: Dice of the 12 regions after each method."""

import numpy as np

from mdvit_jax.evaluation import regions, scoring
from mdvit_jax.plots import lines
from mdvit_jax.studies import cases, tables
from mdvit_jax.studies.case import Case, by, count_pairs
from mdvit_jax.studies.section import Section


def run(setting: cases.Setting) -> tuple[Section, list[Case]]:
    """The cases of Table 1, by region.

    Raises:
        Lacking: the labels of the cohort are not named, or the template has no such.
    """
    config = setting.config
    compared = scoring.regions_of(config)
    if not compared:
        raise cases.Lacking(
            "there are no regions to compare: data.label_scheme names no protocol that "
            f"both scans of a pair have labels of (task {config.data.task}); name one, "
            "or take the task reference."
        )
    found = cases.run(setting, setting.methods)
    scheme = config.data.label_scheme
    lacking = [] if scheme == "tissue" else list(regions.missing(scheme))
    names = [*compared, *lacking]
    values = {
        method: [
            np.array([case.regions[name] for case in rows if name in case.regions])
            for name in names
        ]
        for (method,), rows in by(found, "method")
    }
    text = (
        f"Dice of the regions of {count_pairs(found)}, left and right joined (paper, "
        f"Fig. 5), labels carried by nearest voxel; mean ± standard deviation. Labels: "
        f"{scheme}." + (f" It does not draw {', '.join(lacking)}." if lacking else "")
    )
    table = tables.regions(found, tuple(compared), lacking)
    figure = lines.grouped_bars(
        names, values, title="Dice of the regions", y_name="Dice"
    )
    section = Section("regions", "Fig. 5: regions", text, [table], {"regions": figure})
    return section, found
