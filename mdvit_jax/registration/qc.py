"""A picture of a registration: three planes before and after, edges overlaid.

Whatever the axes of the files, the planes are those of the world through the fixed
foreground's centre (the sagittal one lies to the right of it, as little is seen of the
falx), in the neurological convention: the person's left is on the left, anterior is up
(axial) or right (sagittal), superior is up.
"""

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import ndimage

from mdvit_jax import transforms
from mdvit_jax.io import atomic
from mdvit_jax.io.grid import Grid
from mdvit_jax.io.image import Image
from mdvit_jax.plots import panels
from mdvit_jax.registration.foreground import Foreground
from mdvit_jax.registration.register import Registration

# Name, axis that is cut, letters at the left, right, top and bottom of the picture.
_PLANES = (
    ("Axial", 2, "LRAP"),
    ("Coronal", 1, "LRSI"),
    ("Sagittal, right of the middle", 0, "PASI"),
)
_BESIDE = 0.12  # of the width, by which the sagittal plane misses the falx
_FAINT, _EDGES = "#a2a4ac", "#ff7a45"
_WARM = np.array([1.0, 0.78, 0.48])  # tint of the moving image in the checkerboard
_STATUS_COLOURS = {"ok": "#5fd38d", "check": "#ffc94d", "failed": "#ff5c5c"}
_ACROSS = 220  # pixels along the longest side
_MARGIN = 0.08  # of that side, around the fixed foreground; letters stand in it
_SQUARES = 8  # of the checkerboard, along the longest side
_FLATTEST = 0.6  # shortest side of what is shown, of the longest
_PANEL = 3.0  # inches, the height of a picture
_GAP, _LEFT = 0.05, 0.62  # inches
_MEETING = 0.01  # overlap below which the headers lay the images apart


def figure(result: Registration, *, title: str) -> Figure:
    """Rows: before and after, with the moving image's edges; then a checkerboard.

    Before are the headers alone; where these lay the two foregrounds apart, the
    centres are laid on each other, which the row says.

    Args:
        title: one line, which stands above the verdict and the measures.
    """
    low, high = _box(result.pair.fixed)
    fixed, moving = (_brightness(image) for image in (result.fixed, result.moving))
    before, name = np.eye(4), "Before"
    if result.before.overlap < _MEETING:
        before = result.pair.centres_together()
        name = "Centres laid together\n(headers: far apart)"
    head = _head(result, title, _width(high - low))
    rows = name, "After", "After (moving in orange)"
    drawn, axes = _panels(high - low, rows, head)
    for column, (_, cut, _letters) in enumerate(_PLANES):
        plane = _plane(low, high, result.pair.fixed.centre, cut)
        still = _slice(fixed, result.fixed.affine, np.eye(4), plane)
        slices = [
            _slice(moving, result.moving.affine, matrix, plane)
            for matrix in (before, result.matrix)
        ]
        for row, moved in enumerate(slices):
            panels.show(axes[row][column], still)
            _edges(axes[row][column], moved)
        board = panels.checkerboard(
            still, slices[1], side=_ACROSS // _SQUARES, tint=_WARM
        )
        panels.show(axes[2][column], board)
    return drawn


def save(path: str | Path, result: Registration, *, title: str) -> None:
    """Write the picture as PNG, all at once."""
    drawn = figure(result, title=title)
    with atomic.replacing(path) as beside:
        drawn.savefig(beside, format="png", dpi=120, facecolor=panels.PAPER)


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


def _brightness(image: Image) -> np.ndarray:
    """The image with its own range brought to 0 to 1, and what is outside of it at 0.

    Where many voxels share one value, they are the background, and not part of it.
    """
    data = np.asarray(image.data, np.float32)
    some = data[::2, ::2, ::2].ravel()
    values, counts = np.unique(some, return_counts=True)
    common = values[np.argmax(counts)]
    others = some[some != common] if counts.max() > some.size / 5 else some
    low, high = np.percentile(others if others.size else some, (0.5, 99.5))
    low = min(low, common) if counts.max() > some.size / 5 else low
    return np.clip((data - low) / max(high - low, 1e-12), 0, 1).astype(np.float32)


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


def _slice(data: np.ndarray, affine, fixed_to_moving, plane: Grid) -> np.ndarray:
    """[up, right]."""
    values = transforms.resample(data, affine, fixed_to_moving, plane)
    return values.reshape([n for n in plane.shape if n > 1]).T


# Panels


class _Line(NamedTuple):
    """A line above the panels."""

    text: str
    colour: str
    size: float
    weight: str


def _widths(sides: np.ndarray) -> tuple[float, float, float]:
    """Of the three panels, in inches."""
    x, y, z = sides
    return _PANEL * x / y, _PANEL * x / z, _PANEL * y / z


def _width(sides: np.ndarray) -> float:
    """Of the whole figure, in inches."""
    return _LEFT + sum(_widths(sides)) + 3 * _GAP


def _panels(
    sides: np.ndarray, rows: tuple[str, ...], head: list[_Line]
) -> tuple[Figure, list[list[Axes]]]:
    """A figure whose panels have exactly the shape of their slices, [row][plane]."""
    widths, width = _widths(sides), _width(sides)
    top, foot = 0.24 * len(head) + 0.4, 0.34
    height = top + len(rows) * (_PANEL + _GAP) + foot
    drawn = panels.figure(width, height)
    for number, line in enumerate(head):
        drawn.text(
            0.15 / width,
            1 - (0.22 + 0.24 * number) / height,
            line.text,
            color=line.colour,
            fontsize=line.size,
            weight=line.weight,
            va="center",
            parse_math=False,  # names may hold a $
        )
    axes: list[list[Axes]] = []
    for row, name in enumerate(rows):
        middle = height - top - row * (_PANEL + _GAP) - _PANEL / 2
        style: Any = {"color": panels.TEXT, "ha": "center", "va": "center"}
        drawn.text(
            0.28 / width, middle / height, name, fontsize=10, rotation=90, **style
        )
        begin, row_axes = _LEFT, []
        for (plane, _, letters), wide in zip(_PLANES, widths, strict=True):
            place = begin / width, (middle - _PANEL / 2) / height, wide / width
            axis = drawn.add_axes((*place, _PANEL / height))
            axis.set_facecolor("black")
            axis.set_axis_off()
            if row == 0:
                at = (begin + wide / 2) / width, (height - top + 0.14) / height
                drawn.text(*at, plane, fontsize=10, **style)
            _letter(axis, letters)
            row_axes.append(axis)
            begin += wide + _GAP
        axes.append(row_axes)
    note = (
        "Fixed image in grey; lines are edges of the moving image. The person's left "
        "is on the left (neurological)."
    )
    drawn.text(0.02, 0.14 / height, note, color=_FAINT, fontsize=8, va="center")
    return drawn, axes


def _letter(axis: Axes, letters: str) -> None:
    places = (0.03, 0.5), (0.97, 0.5), (0.5, 0.965), (0.5, 0.035)
    for letter, (x, y) in zip(letters, places, strict=True):
        style: Any = {"size": 9, "weight": "bold", "ha": "center", "va": "center"}
        axis.text(x, y, letter, color=panels.TEXT, transform=axis.transAxes, **style)


def _head(result: Registration, title: str, width: float) -> list[_Line]:
    """Title, verdict with its reasons, and measures."""
    before, after, status = result.before, result.after, result.quality.status
    # A character is about 0.62 of its size wide.
    points = 72 * (width - 0.3) / 0.62
    sentence = ": ".join(filter(None, [status, "; ".join(result.quality.reasons)]))
    measured = (
        f"local correlation {before.correlation:.2f} → {after.correlation:.2f}    "
        f"overlap {before.overlap:.2f} → {after.overlap:.2f}    "
        f"NTG {before.ntg:.2f} → {after.ntg:.2f}"
    )
    return [
        _Line(title, panels.TEXT, min(12.0, points / max(len(title), 1)), "bold"),
        *(
            _Line(line, _STATUS_COLOURS[status], 10.0, "bold")
            for line in textwrap.wrap(sentence, int(points / 10.0))
        ),
        _Line(measured, _FAINT, 9.0, "normal"),
    ]


def _edges(axis: Axes, picture: np.ndarray) -> None:
    """Marr and Hildreth's edges: zero crossings of the Laplacian where it is steep."""
    scale = 0.011 * _ACROSS
    curvature = ndimage.gaussian_laplace(picture, scale)
    steepness = ndimage.gaussian_gradient_magnitude(picture, scale)
    # The background is flat; left in, the outline would decide alone.
    seen = steepness[steepness > 0.02 * steepness.max()]
    steep = steepness > (0.6 * np.median(seen) if seen.size else np.inf)
    if steep.any() and curvature.min() < 0 < curvature.max():
        shown = np.ma.masked_where(~steep, curvature)
        axis.contour(shown, levels=[0.0], colors=_EDGES, linewidths=0.8)
