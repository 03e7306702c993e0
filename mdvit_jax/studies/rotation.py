"""Fig. 4 of the paper: the DSC when the moving scan is rotated by any angle."""

import numpy as np
import pandas as pd

from mdvit_jax.plots import lines
from mdvit_jax.studies import perturbations, tables
from mdvit_jax.studies.compute import Setting, compute_records
from mdvit_jax.studies.record import count_pairs
from mdvit_jax.studies.report.section import Section, Table

DEGREES = tuple(range(0, 361, 30))
AXES = ("x", "y", "z")


def compute(setting: Setting) -> pd.DataFrame:
    """Networks and `register` on moving scans rotated about each axis."""
    methods = *setting.networks, *setting.classical
    rotations = [perturbations.rotation(a, d) for a in AXES for d in DEGREES]
    once = list({rotation.name: rotation for rotation in rotations}.values())
    return compute_records(setting, methods, once)


def report(setting: Setting, records: pd.DataFrame) -> Section:
    """Mean DSC over the angle, for each axis."""
    records = tables.mean_over_seeds(records, setting.families)
    panels: dict[str, dict] = {f"about {axis}": {} for axis in AXES}
    rows = []
    for method, own in records.groupby("method", sort=False):
        groups = own.groupby("perturbation")["dsc"]
        means, spreads = groups.mean(), groups.std(ddof=0)
        for axis in AXES:
            names = [perturbations.rotation(axis, d).name for d in DEGREES]
            mean, spread = means[names].to_numpy(), spreads[names].to_numpy()
            panels[f"about {axis}"][method] = (np.array(DEGREES), mean, spread)
            rows.append((f"{method}, about {axis}", *(f"{v:.3f}" for v in mean)))
    text = (
        f"Mean DSC of {count_pairs(records)} when the moving scan is rotated about the "
        "centre of its grid (paper, Fig. 4); x to the right, y to the front, z up. "
        "Bands: standard deviation over pairs."
    )
    heads = ("Method, axis", *(f"{degrees}°" for degrees in DEGREES))
    table = Table(heads, rows, note=tables.exclusions(records))
    figure = lines.rotation_lines(
        panels, title="DSC of rotated moving scans", y_name="DSC"
    )
    return Section("Fig. 4: rotation", text, [table], {"rotation": figure})
