"""A picture of a registration: three planes before and after, edges overlaid.

Whatever the axes of the files, the planes are those of the world through the centre of
the fixed foreground (the sagittal one to the right of it, since the falx shows little),
in the neurological convention of `plots.panels`.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mdvit_jax import transforms
from mdvit_jax.io.grid import Grid
from mdvit_jax.io.image import Image
from mdvit_jax.plots import panels
from mdvit_jax.registration.foreground import Foreground
from mdvit_jax.registration.register import Registration

_COLUMNS = ("Axial", "Coronal", "Sagittal, right of the middle")
_BESIDE = 0.12  # of the width, by which the sagittal plane misses the falx
_STATUS_COLOURS = {"ok": "#5fd38d", "check": "#ffc94d", "failed": "#ff5c5c"}
_ACROSS = 220  # pixels along the longest side
_MARGIN = 0.08  # of that side, around the fixed foreground; it holds the letters
_SAMPLED = 1 << 20  # voxels from which the range of brightness is estimated
_FLATTEST = 0.6  # shortest side of the box shown, of its longest
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
    low, high = _box(result.pair.fixed)
    fixed, moving = result.fixed, result.moving
    fixed_range, moving_range = (_brightness_range(i) for i in (fixed, moving))
    before, name = np.eye(4), "Before"
    if result.before.overlap < _MEETING:
        before = result.pair.centres_together()
        name = "Centres laid together\n(headers: far apart)"
    x, y, z = high - low
    drawn, axes = panels.panel_grid(
        [_PANEL * x / y, _PANEL * x / z, _PANEL * y / z],
        [_PANEL] * 3,
        title=title,
        columns=_COLUMNS,
        rows=(name, "After", "After (moving in orange)"),
        note=f"Fixed image in grey; lines are edges of the moving image. "
        f"{panels.CONVENTION}",
        lines=_head(result),
    )
    for column, (_, cut, letters) in enumerate(panels.PLANES):
        plane = _plane(low, high, result.pair.fixed.centre, cut)
        still = _slice(fixed, fixed_range, np.eye(4), plane)
        slices = [
            _slice(moving, moving_range, matrix, plane)
            for matrix in (before, result.matrix)
        ]
        for row, moved in enumerate(slices):
            panels.show_slice(axes[row][column], still)
            panels.draw_edges(axes[row][column], moved)
        panels.show_checkerboard(axes[2][column], still, slices[1])
        for row_of_axes in axes:
            panels.draw_letters(row_of_axes[column], letters)
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


# Slices of an image


def _box(foreground: Foreground) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest corner of a foreground in the world, with a margin."""
    points = (
        np.argwhere(foreground.inside) @ foreground.affine[:3, :3].T
        + foreground.affine[:3, 3]
    )
    low, high = points.min(0), points.max(0)
    longest = (high - low).max()
    half = np.maximum((high - low) / 2, _FLATTEST * longest / 2) + _MARGIN * longest
    middle = (low + high) / 2
    return middle - half, middle + half


def _brightness_range(image: Image) -> tuple[float, float]:
    """The values drawn as black and as white.

    A value that many voxels share is the background, which the percentiles leave out.
    """
    step = max(2, round((image.data.size / _SAMPLED) ** (1 / 3)))
    some = image.data[::step, ::step, ::step].astype(np.float32).ravel()
    values, counts = np.unique(some, return_counts=True)
    common = values[np.argmax(counts)]
    has_background = counts.max() > some.size / 5
    others = some[some != common] if has_background else some
    low, high = np.percentile(others if others.size else some, (0.5, 99.5))
    low = min(low, common) if has_background else low
    return float(low), float(high)


def _plane(low: np.ndarray, high: np.ndarray, centre: np.ndarray, cut: int) -> Grid:
    """A grid of one voxel along the axis that is cut."""
    step = (high - low).max() / _ACROSS
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = low
    affine[cut, 3] = centre[cut] + (_BESIDE * (high - low)[0] if cut == 0 else 0)
    x, y, z = (
        1 if axis == cut else int(np.ceil(side / step)) + 1
        for axis, side in enumerate(high - low)
    )
    return Grid((x, y, z), affine)


def _slice(
    image: Image, limits: tuple[float, float], fixed_to_moving: np.ndarray, plane: Grid
) -> np.ndarray:
    """[up, right], 0 to 1 between the limits, 0 outside the image."""
    low, high = limits
    values = transforms.resample(
        image.data,
        image.affine,
        fixed_to_moving,
        plane,
        fill=low,
        dtype=np.dtype(np.float32),
    )
    values = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return values.reshape([n for n in plane.shape if n > 1]).T
