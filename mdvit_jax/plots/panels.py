"""Parts of all pictures of scans: dark panels in a grid, edges, a checkerboard.

A panel shows a slice `[up, right]` of one of `planes.PLANES`. Figures are made without
pyplot, so they need no display and leave no state behind in a long run.
"""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mdvit_jax.io import atomic
from mdvit_jax.plots import edges

PAPER, TEXT, FAINT = "#101114", "#e8e8ea", "#a2a4ac"
FIRST, SECOND = "#35d0ff", "#ffb347"  # apart for all common kinds of colour vision
_WARM = np.array([1.0, 0.79, 0.50])  # tint of the second image in a checkerboard
_SQUARES = 8  # of the checkerboard, along the longest side
_GAP, _FOOT, _LINE = 0.05, 0.30, 0.24  # inches


class Line(NamedTuple):
    """A line of text below the title; wrapped where the figure is too narrow."""

    text: str
    colour: str = FAINT
    size: float = 9.0
    weight: str = "normal"


def create_figure(width: float, height: float) -> Figure:
    """An empty figure; width and height in inches."""
    figure = Figure(figsize=(width, height), dpi=110, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write the figure (PNG, PDF, … by the suffix), whole or not at all."""
    path = Path(path) if isinstance(path, str) else path  # it may be one of a bucket
    path.parent.mkdir(parents=True, exist_ok=True)
    written = io.BytesIO()
    figure.savefig(
        written,
        format=path.suffix[1:] or "png",
        dpi="figure",
        facecolor=figure.get_facecolor(),
    )
    atomic.write_bytes(path, written.getvalue())


def panel_grid(
    widths: Sequence[float],
    heights: Sequence[float],
    *,
    title: str,
    columns: Sequence[str],
    rows: Sequence[str],
    note: str,
    lines: Sequence[Line] = (),
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of black panels, `[row][column]`.

    Args:
        widths, heights: of the columns and rows, in inches.
        title: set smaller where it is too long.
        columns, rows: names above and beside the panels.
        note: below the panels.
        lines: between the title and the panels.
    """
    left = 0.34 + 0.18 * max(name.count("\n") for name in rows)
    width = left + sum(widths) + _GAP * len(widths)
    # A letter is about 0.65 of its size wide.
    points = 72 * (width - 0.3) / 0.65
    head = [Line(title, TEXT, min(12.0, points / max(len(title), 1)), "bold")]
    for line in lines:
        wrapped = textwrap.wrap(line.text, int(points / line.size))
        head += [line._replace(text=part) for part in wrapped]
    top = _LINE * len(head) + 0.40
    height = top + sum(heights) + _GAP * len(heights) + _FOOT
    figure = create_figure(width, height)

    def write(x: float, y: float, text: str, **style) -> None:
        # Names may hold a $, which is not a formula.
        figure.text(x / width, y / height, text, va="center", parse_math=False, **style)

    for number, line in enumerate(head):
        style = {"color": line.colour, "fontsize": line.size, "weight": line.weight}
        write(0.15, height - 0.22 - _LINE * number, line.text, **style)
    write(0.15, 0.14, note, color=FAINT, fontsize=8)
    begins = left + np.cumsum([0.0, *(wide + _GAP for wide in widths)])
    for begin, wide, name in zip(begins, widths, columns, strict=False):
        style = {"color": TEXT, "fontsize": 10, "ha": "center"}
        write(begin + wide / 2, height - top + 0.14, name, **style)
    axes, upper = [], height - top
    for tall, name in zip(heights, rows, strict=True):
        lower = upper - tall
        style = {"color": TEXT, "fontsize": 10, "ha": "center", "rotation": 90}
        write(left / 2, (lower + upper) / 2, name, **style)
        axes.append(
            [
                figure.add_axes(
                    (begin / width, lower / height, wide / width, tall / height),
                    facecolor="black",
                )
                for begin, wide in zip(begins, widths, strict=False)
            ]
        )
        upper = lower - _GAP
    for axis in figure.axes:
        axis.set_axis_off()
    return figure, axes


def show_slice(axis: Axes, picture: NDArray) -> None:
    """Show a slice [up, right] in [0, 1] in grey, or [up, right, RGB]."""
    axis.imshow(
        picture,
        cmap="gray",
        vmin=0,
        vmax=1,
        origin="lower",
        aspect="auto",
        interpolation="bilinear" if picture.ndim == 2 else "nearest",
    )


def show_checkerboard(axis: Axes, fixed: NDArray, moved: NDArray) -> None:
    """Show squares of the fixed slice in grey and of the moved one in orange.

    Args:
        fixed, moved: [up, right], in [0, 1].
    """
    side = max(max(fixed.shape) // _SQUARES, 1)
    up, right = np.indices(fixed.shape) // side
    odd = ((up + right) % 2 == 1)[..., None]
    board = np.where(odd, moved[..., None] * _WARM, fixed[..., None] * np.ones(3))
    show_slice(axis, board)


def draw_letters(axis: Axes, letters: str) -> None:
    """Letters of directions at the left, right, top and bottom of a panel."""
    places = (0.03, 0.5), (0.97, 0.5), (0.5, 0.965), (0.5, 0.035)
    for letter, (x, y) in zip(letters, places, strict=True):
        axis.text(
            *(x, y, letter),
            color=TEXT,
            fontsize=9,
            weight="bold",
            ha="center",
            va="center",
            transform=axis.transAxes,
            path_effects=[patheffects.withStroke(linewidth=2, foreground="black")],
        )


def draw_edges(axis: Axes, picture: NDArray) -> None:
    """Draw the edges of a slice [up, right]; see `edges`."""
    curvature, steep = edges.edge_field(picture)
    if steep.any() and curvature.min() < 0 < curvature.max():
        shown = np.ma.masked_where(~steep, curvature)
        axis.contour(shown, levels=[0.0], colors=edges.COLOUR, linewidths=0.9)
