"""A picture of a registration: three planes before and after, edges overlaid.

The planes are those of `plots.planes` through the fixed foreground's centre.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mdvit_jax.plots import panels, planes
from mdvit_jax.registration import levels, thumbnail
from mdvit_jax.registration.registration_result import Registration

_COLUMNS = ("Axial", "Coronal", "Sagittal, right of the middle")
_STATUS_COLOURS = {"ok": "#5fd38d", "check": "#ffc94d", "failed": "#ff5c5c"}
_PANEL = 3.0  # inches, the height of a picture
_MEETING = 0.01  # overlap below which the headers place the images apart


def figure(result: Registration, *, title: str) -> Figure:
    """Rows: before and after, with the moving image's edges; then a checkerboard.

    "Before" is by the headers alone; where these place the two foregrounds apart, by
    their centres, and the name of the row says so.

    Args:
        result: of `register`.
        title: one line above the status and the measures.
    """
    box = thumbnail.frame(result.pair.fixed)
    before, name = np.eye(4), "Before"
    if result.before.overlap < _MEETING:
        before = levels.centres_together(result.pair.fixed, result.pair.moving)
        name = "Centres laid together\n(headers: far apart)"
    x, y, z = box.high - box.low
    drawn, axes = panels.panel_grid(
        [_PANEL * x / y, _PANEL * x / z, _PANEL * y / z],
        [_PANEL] * 3,
        title=title,
        columns=_COLUMNS,
        rows=(name, "After", "After (moving in orange)"),
        note=f"Fixed image in grey; lines are edges of the moving image. "
        f"{planes.CONVENTION}",
        lines=_head(result),
    )
    still = planes.sample_slices(result.fixed, box)
    moved = [
        planes.sample_slices(result.moving, box, matrix)
        for matrix in (before, result.matrix)
    ]
    for column, plane in enumerate(planes.PLANES):
        for row, slices in enumerate(moved):
            panels.show_slice(axes[row][column], still[column])
            panels.draw_edges(axes[row][column], slices[column])
        panels.show_checkerboard(axes[2][column], still[column], moved[1][column])
        for row_of_axes in axes:
            panels.draw_letters(row_of_axes[column], plane.letters)
    return drawn


def save(path: str | Path, result: Registration, *, title: str) -> None:
    """Write `figure` as a PNG file, whole or not at all."""
    panels.save_figure(figure(result, title=title), path)


def _head(result: Registration) -> list[panels.Line]:
    """Verdict with its reasons, and measures."""
    before, after, status = result.before, result.after, result.quality.status
    sentence = ": ".join(filter(None, [status, "; ".join(result.quality.reasons)]))
    measured = (
        f"local correlation {before.correlation:.2f} → {after.correlation:.2f}    "
        f"overlap {before.overlap:.2f} → {after.overlap:.2f}    "
        f"NTG {before.ntg:.2f} → {after.ntg:.2f}"
    )
    return [
        panels.Line(sentence, _STATUS_COLOURS[status], 10.0, "bold"),
        panels.Line(measured),
    ]
