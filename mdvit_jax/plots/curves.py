"""Curves of a training run, as a matplotlib figure."""

import array
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mdvit_jax import errors
from mdvit_jax.plots import panels

_BLOCKS = 1000  # more than an axis has pixels


def training_curves(path: str | Path) -> Figure:
    """Loss and validation DSC over the steps, from a run's JSON-lines metrics.

    Where a step occurs twice, as after a resumption, the later row counts. A last line
    that was cut short, as by a killed run, is ignored.

    Raises:
        UserError: the file cannot be read, or another line is not JSON.
    """
    series = read_series(Path(path), "loss", "validation_loss", "dsc", "dsc30")
    figure = panels.create_figure(11.0, 4.2)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(0.07, 0.13, 0.98, 0.91, wspace=0.16)
    style_axis(left, "Loss")
    style_axis(right, "Validation overlap of brain masks")
    step, loss = series["loss"]
    smooth = max(1, len(loss) // 40)
    left.plot(
        *_thin(step, loss), color=panels.FAINT, lw=0.8, alpha=0.6, label="training"
    )
    if smooth > 1:
        label = f"training, mean of {smooth} rows"
        mean = _thin(*running_mean(step, loss, smooth))
        left.plot(*mean, color=panels.FIRST, lw=1.8, label=label)
    validation = (
        (left, "validation_loss", "validation", panels.SECOND),
        (right, "dsc", "DSC", panels.FIRST),
        (right, "dsc30", "DSC30 (lowest 30 %)", panels.SECOND),
    )
    for axis, key, label, colour in validation:
        step, value = series[key]
        if len(step):
            axis.plot(step, value, "o-", color=colour, lw=1.6, ms=3.5, label=label)
    for axis in (left, right):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, labelcolor=panels.TEXT, fontsize=9)
    if not right.lines:
        right.text(
            0.5,
            0.5,
            "no validation yet",
            color=panels.FAINT,
            ha="center",
            transform=right.transAxes,
        )
    return figure


def style_axis(axis: Axes, title: str, across: str = "step") -> None:
    """An empty plot over steps, or something else, in the colours of the panels."""
    axis.set_facecolor(panels.PAPER)
    axis.set_title(title, color=panels.TEXT, fontsize=11, loc="left")
    axis.set_xlabel(across, color=panels.TEXT, fontsize=9)
    axis.tick_params(colors=panels.FAINT, labelsize=8)
    axis.grid(color="#2a2c33", lw=0.6)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(panels.FAINT)


def _read_rows(path: Path) -> Iterator[dict]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    row = json.loads(line)
                except ValueError as error:
                    if not file.read(1):
                        return
                    raise errors.UserError(
                        f"{path} is damaged: line {number} is not JSON; remove that "
                        "line."
                    ) from error
                yield row
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be read ({error.strerror}); name the metrics file of a run."
        ) from error


def read_series(path: Path, *keys: str) -> dict[str, tuple[NDArray, NDArray]]:
    """Key → its steps in order and its values, finite or not, [n] each.

    A long run has many rows: only these numbers are kept.
    """
    steps, values = ({key: array.array("d") for key in keys} for _ in range(2))
    for row in _read_rows(path):
        for key in keys:
            if row.get(key) is not None:
                steps[key].append(row["step"])
                values[key].append(row[key])
    return {
        key: _last_rows(np.array(steps[key]), np.array(values[key])) for key in keys
    }


def _last_rows(step: NDArray, value: NDArray) -> tuple[NDArray, NDArray]:
    """Each step once, with the last of its values."""
    once, last = np.unique(step[::-1], return_index=True)
    return once, value[::-1][last]


def _thin(step: NDArray, value: NDArray) -> tuple[NDArray, NDArray]:
    """The lowest and highest of each block of neighbours: the plot looks the same."""
    size = -(-len(step) // _BLOCKS)
    if size <= 2:
        return step, value
    starts = np.arange(0, len(step), size)
    ends = [
        start + extreme(value[start : start + size])
        for extreme in (np.argmin, np.argmax)
        for start in starts
    ]
    kept = np.unique(ends)
    return step[kept], value[kept]


def running_mean(step: NDArray, value: NDArray, size: int) -> tuple[NDArray, NDArray]:
    """The mean of each `size` neighbours, at their mean step: [n] → [n - size + 1]."""
    kernel = np.full(size, 1 / size)
    return np.convolve(step, kernel, "valid"), np.convolve(value, kernel, "valid")
