"""Pictures of a registration: three planes before and after, edges overlaid.

The planes are those of `plots.planes` through the fixed foreground's centre.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mdvit_jax.plots import panels, planes, strips
from mdvit_jax.registration.foreground import Foreground
from mdvit_jax.registration.register import Registration

_COLUMNS = ("Axial", "Coronal", "Sagittal, right of the middle")
_STATUS_COLOURS = {"ok": "#5fd38d", "check": "#ffc94d", "failed": "#ff5c5c"}
_MARGIN = 0.08  # of that side, around the fixed foreground; letters stand in it
_FLATTEST = 0.6  # shortest side of what is shown, of the longest
_PANEL = 3.0  # inches, the height of a picture
_MEETING = 0.01  # overlap below which the headers lay the images apart


def figure(result: Registration, *, title: str) -> Figure:
    """Rows: before and after, with the moving image's edges; then a checkerboard.

    Before are the headers alone; where these lay the two foregrounds apart, the
    centres are laid on each other, which the row says.

    Args:
        title: one line, which stands above the status and the measures.
    """
    box = _box(result.pair.fixed)
    before, name = np.eye(4), "Before"
    if result.before.overlap < _MEETING:
        before = result.pair.centres_together()
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
    """Write the picture as PNG, all at once."""
    panels.save_figure(figure(result, title=title), path)


def encode_strips(result: Registration) -> bytes:
    """The small picture of a result for a page of many; see `plots.strips`."""
    box = _box(result.pair.fixed)
    fixed = planes.sample_slices(result.fixed, box)
    return strips.encode(fixed, planes.sample_slices(result.moving, box, result.matrix))


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


def _box(foreground: Foreground) -> planes.Box:
    """The world around a foreground, with a margin."""
    # The farthest voxel along any direction is the first or the last of its line.
    inside = foreground.inside
    first, last = inside.argmax(2), inside.shape[2] - 1 - inside[:, :, ::-1].argmax(2)
    x, y = np.nonzero(inside.any(2))
    ends = np.concatenate([np.stack([x, y, z[x, y]], 1) for z in (first, last)])
    points = ends @ foreground.affine[:3, :3].T + foreground.affine[:3, 3]
    low, high = points.min(0), points.max(0)
    longest = (high - low).max()
    half = np.maximum((high - low) / 2, _FLATTEST * longest / 2) + _MARGIN * longest
    middle = (low + high) / 2
    return planes.Box(middle - half, middle + half, foreground.centre)
