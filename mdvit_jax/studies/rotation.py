"""Fig. 4 of the paper: the DSC when the moving scan is turned by any angle."""

import numpy as np

from mdvit_jax.plots import lines
from mdvit_jax.studies import cases, changes, tables
from mdvit_jax.studies.case import Case, by, count_pairs
from mdvit_jax.studies.section import Section, Table

DEGREES = tuple(range(0, 361, 30))
AXES = ("x", "y", "z")


def run(setting: cases.Setting) -> tuple[Section, list[Case]]:
    """Networks and `register` on moving scans turned about each axis."""
    methods = *setting.networks, *setting.classical
    turns = {(a, d): changes.rotation(a, d) for a in AXES for d in DEGREES}
    different = list({turn.name: turn for turn in turns.values()}.values())
    found = cases.run(setting, methods, different)
    panels: dict[str, dict] = {f"about {axis}": {} for axis in AXES}
    rows = []
    for (method,), own in by(found, "method"):
        of_change = {change: of for (change,), of in by(own, "change")}
        for axis in AXES:
            of_angles = [
                np.array([case.dsc for case in of_change[turns[axis, d].name]])
                for d in DEGREES
            ]
            mean = np.array([np.nanmean(values) for values in of_angles])
            spread = np.array([np.nanstd(values) for values in of_angles])
            panels[f"about {axis}"][method] = (np.array(DEGREES), mean, spread)
            texts = [f"{value:.3f}" for value in mean]
            rows.append((f"{method}, about {axis}", *texts))
    text = (
        f"Mean DSC of {count_pairs(found)} when the moving scan is turned about the "
        "centre of its grid (paper, Fig. 4); x to the right, y to the front, z up. "
        "Bands: standard deviation over pairs."
    )
    table = Table(
        ("Method, axis", *(f"{degrees}°" for degrees in DEGREES)),
        rows,
        tables.left_out(found),
    )
    figure = lines.rotation_lines(
        panels, title="DSC of turned moving scans", y_name="DSC"
    )
    section = Section(
        "rotation", "Fig. 4: rotation", text, [table], {"rotation": figure}
    )
    return section, found
