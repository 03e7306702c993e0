"""Table 1 of the paper: overlap of the brain masks after each method."""

from mdvit_jax.evaluation import scoring
from mdvit_jax.plots import overlays
from mdvit_jax.studies import cases, tables
from mdvit_jax.studies.case import Case, count_pairs, matrix_of
from mdvit_jax.studies.section import Section


def run(setting: cases.Setting) -> tuple[Section, list[Case]]:
    """All methods on the pairs as they are, and pictures of the worst ones.

    The pictures are of the last network, or of the last method where there is none.
    """
    pictured = setting.methods[-1].name  # a network, where there is one
    pictures = setting.config.evaluation.pictures
    worst: list = []

    def seen(case: Case, pair: scoring.Pair) -> None:
        if case.method == pictured and not case.error:
            worst.append((case.dsc, case.moving, case, pair))
            worst.sort(key=lambda found: found[:2])
            del worst[pictures:]

    found = cases.run(setting, setting.methods, seen=seen)
    drawn = {}
    for rank, (dsc, _, case, pair) in enumerate(worst, start=1):
        warped = scoring.warp(pair.moving, matrix_of(case), threshold=0.5)
        drawn[f"table1_worst_{rank}"] = overlays.overlay_figure(
            pair.fixed.image,
            pair.moving.image,
            warped.image,
            title=f"{case.moving} to {case.fixed}, {pictured}, DSC {dsc:.3f}",
        )
    text = (
        "Overlap of the brain masks (paper, Table 1), mean ± standard deviation over "
        f"{count_pairs(found)}. DSC30: the lowest 30 % of the cases by DSC. Best bold, "
        "second best underlined. Seconds are a method's own time for a pair, from "
        "arrays to a matrix."
    )
    made = [tables.overlap(found, setting.config.evaluation.hausdorff_unit)]
    compared = scoring.regions_of(setting.config)
    if compared:
        made.append(tables.regions(found, tuple(compared)))
    return Section("table1", "Table 1: overlap", text, made, drawn), found
