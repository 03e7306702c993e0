"""Table 1 of the paper: overlap of the brain masks after each method."""

import pandas as pd
from matplotlib.figure import Figure

from mdvit_jax.data import pairs
from mdvit_jax.evaluation import scoring
from mdvit_jax.plots import overlays
from mdvit_jax.studies import tables
from mdvit_jax.studies.compute import Setting, compute_records
from mdvit_jax.studies.record import count_pairs, parse_matrix
from mdvit_jax.studies.report.section import Section


def compute(setting: Setting) -> pd.DataFrame:
    """All methods on the unperturbed pairs."""
    return compute_records(setting, setting.methods)


def report(setting: Setting, records: pd.DataFrame) -> Section:
    """Overlap and regions, and pictures of the worst pairs of the last method.

    The last method is a network where there is one.
    """
    text = (
        "Overlap of the brain masks (paper, Table 1), mean ± standard deviation over "
        f"{count_pairs(records)}. DSC30: the lowest 30 % of the cases by DSC. Best "
        "bold, second best underlined. Seconds are a method's own time for a pair, "
        "from arrays to a matrix."
    )
    unit = setting.config.evaluation.hausdorff_unit
    made = [tables.overlap_table(records, unit)]
    if setting.families:
        text += f" First: {tables.SEEDS}"
        made.insert(0, tables.seed_table(records, unit, setting.families))
    regions = scoring.compared_regions(setting.config)
    if regions:
        made.append(tables.region_table(records, tuple(regions)))
    return Section("Table 1: overlap", text, made, _worst_pairs(setting, records))


def _worst_pairs(setting: Setting, records: pd.DataFrame) -> dict[str, Figure]:
    """Pictures of the pairs on which the last method has the lowest DSC."""
    method = setting.methods[-1].name
    own = records[(records["method"] == method) & records["dsc"].notna()]
    worst = own.sort_values(["dsc", "moving"]).head(setting.config.evaluation.pictures)
    index = {name: number for number, name in enumerate(setting.scans.subjects)}
    index["template"] = pairs.TEMPLATE
    rows = list(worst.itertuples())
    indices = [(index[row.fixed], index[row.moving]) for row in rows]
    loaded = scoring.load_pairs(indices, setting.scans, setting.template)
    figures = {}
    for rank, (row, pair) in enumerate(zip(rows, loaded, strict=True), start=1):
        matrix = parse_matrix(row.matrix).astype("float32")
        warped = scoring.warp_scan(pair.moving, matrix, threshold=0.5)
        figures[f"table1_worst_{rank}"] = overlays.overlay_figure(
            pair.fixed.image,
            pair.moving.image,
            warped.image,
            title=f"{row.moving} to {row.fixed}, {method}, DSC {row.dsc:.3f}",
        )
    return figures
