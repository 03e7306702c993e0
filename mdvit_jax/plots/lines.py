"""Plots in the paper's form: lines with a band (Figs. 3, 4, 6), grouped bars (Fig. 5).

On white, to be printed. A method has its colour, mark and dashes by its place in the
mapping, so it looks the same in all plots that list the methods in the same order;
marks and dashes distinguish it without colours. A value that is not finite is left out:
a line has a gap there, and a bar shows the mean of the others.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

# Name → x, mean and half the height of the band, [n] each.
Series: TypeAlias = Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]]

_DPI = 192  # two pixels for each of a browser's, so that it is sharp there and in print
# Okabe and Ito's colours, apart for all common kinds of colour vision, without their
# yellow, which is lost on white; greys and a wine red make them nine, as many as the
# methods of the paper.
_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#e69f00", "#56b4e9", "#333333", "#999999", "#882255"),
)
_MARKS = "osD^vPX*<"
_DASHES = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)))  # the next at each round of colours
_HATCHES = ("", "////", "....")
_TEXT, _FAINT, _GRID = "#222222", "#6f6f6f", "#e4e4e4"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.titlepad": 5,
    "axes.edgecolor": _FAINT,
    "axes.linewidth": 0.8,
    "axes.labelcolor": _TEXT,
    "axes.axisbelow": True,
    "text.color": _TEXT,
    "text.parse_math": False,  # names may hold a $
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


@matplotlib.rc_context(_STYLE)
def lines(
    series: Series,
    *,
    title: str,
    x_name: str,
    y_name: str,
    reference: float | None = None,
    x_ticks: Sequence[float] | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """A line with a band for each series.

    Args:
        series: name → x, mean, and what the band spans to either side, [n] each.
        reference: height of a dashed level line.
        x_ticks: where x has its ticks.
        log_x, log_y: whether the axis is logarithmic.
    """
    figure = _figure(6.4, 3.7, title)
    axis = figure.subplots()
    _draw_lines(axis, series)
    if reference is not None:
        look: dict[str, Any] = {"color": _TEXT, "ls": "--", "lw": 1.0, "zorder": 1.5}
        axis.axhline(reference, label="reference", **look)
    for logarithmic, set_scale, ticks in (
        (log_x, axis.set_xscale, axis.xaxis),
        (log_y, axis.set_yscale, axis.yaxis),
    ):
        if logarithmic:
            set_scale("log")
            ticks.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            ticks.set_major_formatter(ticker.FormatStrFormatter("%g"))
            ticks.set_minor_locator(ticker.NullLocator())
    if x_ticks is not None:
        axis.set_xticks(x_ticks, labels=[f"{x:g}" for x in x_ticks])
    axis.set_xlabel(x_name)
    axis.set_ylabel(y_name)
    _legend(figure, axis.lines)
    return figure


@matplotlib.rc_context(_STYLE)
def rotation_lines(panels: Mapping[str, Series], *, title: str, y_name: str) -> Figure:
    """Lines over a full turn in one panel for each axis of rotation, on one scale.

    Args:
        panels: what is above a panel, such as "about x" → its lines over degrees, as in
            `lines`. All have the same series in the same order.
    """
    figure = _figure(3.1 * len(panels) + 0.4, 3.2, title)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, series) in zip(axes, panels.items(), strict=True):
        _draw_lines(axis, series)
        axis.set_title(name)
        axis.set_xlim(-8, 368)
        axis.set_xticks(range(0, 361, 90))
        axis.set_xlabel("rotation (°)")
    axes[0].set_ylabel(y_name)
    _legend(figure, axes[0].lines)
    return figure


@matplotlib.rc_context(_STYLE)
def grouped_bars(
    groups: Sequence[str],
    values: Mapping[str, Sequence[ArrayLike]],
    *,
    title: str,
    y_name: str,
) -> Figure:
    """Bars of the mean with ± standard deviation (divisor n), in groups along x.

    Where a whole group has no values, "no value" stands under its name; where only some
    bars of a group have none, a cross is in their place.

    Args:
        groups: such as regions.
        values: method → the values of each group, [n] with any n.
    """
    slots = len(groups) * (len(values) + 1)
    figure = _figure(float(np.clip(1.4 + 0.11 * slots, 6.4, 11.0)), 3.7, title)
    axis = figure.subplots()
    _style_axis(axis)
    axis.grid(visible=False, axis="x")
    wide = 0.84 / max(len(values), 1)
    has_values = np.zeros(len(groups), bool)
    gaps: list[float] = []
    handles: list[Artist | Container] = []
    for place, (name, own) in enumerate(values.items()):
        finite = [_finite(group) for group in own]
        if len(finite) != len(groups):
            raise ValueError(f"{name} has {len(finite)} groups, not {len(groups)}.")
        has = np.array([group.size > 0 for group in finite], bool)
        has_values |= has
        x = np.arange(len(groups)) + (place - (len(values) - 1) / 2) * wide
        gaps += x[~has].tolist()
        means = [group.mean() if group.size else np.nan for group in finite]
        deviations = [group.std() if group.size else np.nan for group in finite]
        bars = axis.bar(
            x,
            means,
            wide,
            yerr=deviations,
            color=_COLOURS[place % len(_COLOURS)],
            edgecolor="white",
            linewidth=0.4,
            hatch=_HATCHES[place // len(_COLOURS) % len(_HATCHES)],
            error_kw={"elinewidth": 0.8, "ecolor": _TEXT, "capsize": min(2, 9 * wide)},
            label=name,
        )
        handles.append(bars)
    below = ["" if has_value else "\nno value" for has_value in has_values]
    # A word a line: names of three words would run into each other.
    names = [group.replace(" ", "\n") for group in groups]
    labels = [name + note for name, note in zip(names, below, strict=True)]
    axis.set_xticks(range(len(groups)), labels=labels)
    axis.tick_params(axis="x", length=0)
    axis.set_xlim(-0.6, len(groups) - 0.4)
    axis.set_ylabel(y_name)
    # A cross on the axis, so that a missing bar is not read as a zero.
    crosses = [x for x in gaps if has_values[round(x)]]
    if crosses:
        low = np.full(len(crosses), 0.02)
        level = axis.get_xaxis_transform()
        look: dict[str, Any] = {"color": _TEXT, "markersize": 3.5, "label": "no value"}
        handles += axis.plot(crosses, low, "x", transform=level, **look)
    _legend(figure, handles)
    return figure


def _figure(width: float, height: float, title: str) -> Figure:
    """An empty figure, in inches, without pyplot and its state."""
    margins = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.07)
    figure = Figure((width, height), dpi=_DPI, facecolor="white", layout=margins)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10, weight="bold")
    return figure


def _style_axis(axis: Axes) -> None:
    axis.set_facecolor("white")
    axis.grid(color=_GRID, linewidth=0.6)
    axis.tick_params(color=_FAINT, labelcolor=_TEXT, labelsize=8.5)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_lines(axis: Axes, series: Series) -> None:
    _style_axis(axis)
    for place, (name, curve) in enumerate(series.items()):
        x, mean, band = (np.asarray(values, float) for values in curve)
        colour = _COLOURS[place % len(_COLOURS)]
        axis.plot(
            x,
            mean,
            color=colour,
            linewidth=1.4,
            linestyle=_DASHES[place // len(_COLOURS) % len(_DASHES)],
            marker=_MARKS[place % len(_MARKS)],
            markersize=4,
            markevery=max(1, len(x) // 12),  # a mark on each of many points hides them
            label=name,
        )
        low, high = mean - band, mean + band
        axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _legend(figure: Figure, handles: Sequence[Artist | Container]) -> None:
    """All names below the axes, where they hide no data."""
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        # Inches of a mark and its gaps, and about those of a letter.
        columns = int(figure.get_figwidth() / (0.65 + 0.075 * longest))
        columns = min(max(columns, 1), len(handles))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _finite(values: ArrayLike) -> np.ndarray:
    array = np.ravel(np.asarray(values, float))
    return array[np.isfinite(array)]
