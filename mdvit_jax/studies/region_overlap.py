"""Fig. 5 of the paper: Dice of the 12 regions after each method."""

import numpy as np
import pandas as pd

from mdvit_jax.evaluation import regions, scoring
from mdvit_jax.plots import lines
from mdvit_jax.studies import tables
from mdvit_jax.studies.compute import NotApplicable, Setting, compute_records
from mdvit_jax.studies.record import count_pairs, dice_column
from mdvit_jax.studies.report.section import Section


def compute(setting: Setting) -> pd.DataFrame:
    """The cases of Table 1.

    Raises:
        NotApplicable: the labels of the cohort or of the template name no regions.
    """
    if not scoring.compared_regions(setting.config):
        raise NotApplicable(
            "there are no regions to compare: data.label_scheme names no protocol by "
            "which both scans of a pair are labelled (task "
            f"{setting.config.data.task}); name one, or choose the task reference."
        )
    return compute_records(setting, setting.methods)


def report(setting: Setting, records: pd.DataFrame) -> Section:
    """Dice by region, as table and bars."""
    records = tables.mean_over_seeds(records, setting.families)
    scheme = setting.config.data.label_scheme
    drawn = tuple(scoring.compared_regions(setting.config))
    missing = () if scheme == "tissue" else regions.missing_regions(scheme)
    values = {
        method: [
            *(tables.finite(group[dice_column(region)]) for region in drawn),
            *(np.array([]) for _ in missing),
        ]
        for method, group in tables.with_dice_columns(records, drawn).groupby(
            "method", sort=False
        )
    }
    text = (
        f"Dice of the regions of {count_pairs(records)}, left and right joined (paper, "
        f"Fig. 5), labels warped by nearest voxel; mean ± standard deviation. Labels: "
        f"{scheme}." + (f" It does not draw {', '.join(missing)}." if missing else "")
    )
    table = tables.region_table(records, drawn, missing)
    figure = lines.grouped_bars(
        (*drawn, *missing), values, title="Dice of the regions", y_name="Dice"
    )
    return Section("Fig. 5: regions", text, [table], {"region_overlap": figure})
