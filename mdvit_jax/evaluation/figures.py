"""Pictures of a registration and curves of a training run, as matplotlib figures.

Volumes are `[x, y, z]` on one RAS+ grid of cubic voxels, as conforming makes them. The
pictures follow the neurological convention: the person's left is on the left, anterior
is up (axial) or right (sagittal), superior is up. Figures are drawn without pyplot, so
that they neither need a display nor leave state behind in a long training run.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from mdvit_jax import atomic, errors

# Name, axis that is cut, letters at the left, right and top of the picture.
_PLANES = (
    ("Axial", 2, "L", "R", "A"),
    ("Coronal", 1, "L", "R", "S"),
    ("Sagittal", 0, "P", "A", "S"),
)
_CONVENTION = "The person's left is on the left (neurological)."
_PAPER, _TEXT, _FAINT = "#101114", "#e8e8ea", "#8b8d94"
_FIXED, _WARPED = "#35d0ff", "#ffb347"  # apart for all common kinds of colour vision
_EDGES = "#ff6a3d"  # for lines within the grey of the brain
_WARM = np.array([1.0, 0.80, 0.52])  # tint of the warped image's checkerboard tiles
_SQUARES = 8  # of the checkerboard, along the longest side of the brain
_PANEL = 2.6  # inches, the width of one picture


def registration_figure(
    fixed: NDArray,
    moving: NDArray,
    warped: NDArray,
    *,
    title: str,
    fixed_mask: NDArray | None = None,
) -> Figure:
    """Three planes (rows) of fixed, moving, warped and their checkerboard (columns).

    Args:
        fixed: [x, y, z], shown with its own brightness, as are the others.
        moving: [x, y, z], before registration.
        warped: [x, y, z], moving after registration, on the fixed grid.
        title: one line above.
        fixed_mask: [x, y, z] whose outline is drawn on the first three columns; without
            it the outline is where the fixed image begins to be brighter than zero.
    """
    mask = _brain(fixed) if fixed_mask is None else fixed_mask != 0
    box = _box([fixed, moving, warped])
    centre = _centre(mask)
    images = [_window(image) for image in (fixed, moving, warped)]
    note = f"{_CONVENTION} Line: outline of the fixed brain."
    columns = ("Fixed", "Moving", "Warped", "Warped (warm) in fixed")
    figure, axes = _panels(box, title=title, names=columns, note=note)
    for row, (_, cut, *_letters) in enumerate(_PLANES):
        outline = _slice(mask, cut, centre, box)
        slices = [_slice(image, cut, centre, box) for image in images]
        for axis, picture in zip(axes[row], slices, strict=False):
            _show(axis, picture)
            _outline(axis, outline)
        longest = max(side.stop - side.start for side in box)
        _show(axes[row][3], _checkerboard(slices[0], slices[2], longest // _SQUARES))
    return figure


def overlay_figure(
    fixed: NDArray, before: NDArray, after: NDArray, *, title: str
) -> Figure:
    """Three planes (rows) of the moving image before and after, with the fixed edges.

    Args:
        fixed: [x, y, z]; its edges are drawn in colour, anatomy and outline alike.
        before: [x, y, z], the moving image on the fixed grid before registration.
        after: [x, y, z], the same after registration.
        title: one line above.
    """
    box = _box([fixed, before, after])
    centre = _centre(_brain(fixed))
    target, *images = [_window(image) for image in (fixed, before, after)]
    note = f"{_CONVENTION} Lines: edges of the fixed image."
    names = ("Before", "After")
    figure, axes = _panels(box, title=title, names=names, note=note)
    for row, (_, cut, *_letters) in enumerate(_PLANES):
        edges = _slice(target, cut, centre, box)
        for axis, image in zip(axes[row], images, strict=True):
            _show(axis, _slice(image, cut, centre, box))
            _edges(axis, edges)
    return figure


def training_curves(path: str | Path) -> Figure:
    """Loss and validation DSC over the steps, from a run's JSON-lines metrics.

    Where a step occurs twice, as after a resumption, the later row counts. A last line
    that was cut short, as by a killed run, is left out. UserError where the file cannot
    be read or another line is not JSON.
    """
    rows = _metrics(Path(path))
    figure = _figure(11.0, 4.2)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(0.07, 0.13, 0.98, 0.91, wspace=0.16)
    _curve_axis(left, "Loss")
    _curve_axis(right, "Validation overlap of brain masks")
    step, loss = _series(rows, "loss")
    smooth = max(1, len(loss) // 40)
    left.plot(step, loss, color=_FAINT, lw=0.8, alpha=0.6, label="training")
    if smooth > 1:
        label = f"training, mean of {smooth} rows"
        left.plot(*_running_mean(step, loss, smooth), color=_FIXED, lw=1.8, label=label)
    checked = (
        (left, "validation_loss", "validation", _WARPED),
        (right, "dsc", "DSC", _FIXED),
        (right, "dsc30", "DSC30 (lowest 30 %)", _WARPED),
    )
    for axis, key, label, colour in checked:
        step, value = _series(rows, key)
        if len(step):
            axis.plot(step, value, "o-", color=colour, lw=1.6, ms=3.5, label=label)
    for axis in (left, right):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, labelcolor=_TEXT, fontsize=9)
    if not right.lines:
        right.text(
            0.5,
            0.5,
            "no validation yet",
            color=_FAINT,
            ha="center",
            transform=right.transAxes,
        )
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure (PNG, PDF, … by the suffix); a reader never sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(
        drawn,
        format=path.suffix[1:] or "png",
        dpi=110,
        facecolor=figure.get_facecolor(),
    )
    with atomic.replacing(path) as beside:
        beside.write_bytes(drawn.getvalue())


# Panels of a registration picture


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor=_PAPER)
    FigureCanvasAgg(figure)
    return figure


def _panels(
    box: tuple[slice, ...], *, title: str, names: Sequence[str], note: str
) -> tuple[Figure, list[list[Axes]]]:
    """A figure whose panels have exactly the shape of their slices, [plane][column]."""
    x, y, z = (side.stop - side.start for side in box)
    heights = [_PANEL * y / x, _PANEL * z / x, _PANEL * z / y]
    gap, top, side, foot = 0.04, 0.62, 0.30, 0.24  # inches
    width = side + len(names) * (_PANEL + gap)
    height = top + sum(heights) + gap * len(heights) + foot
    figure = _figure(width, height)
    left_edge = side / width
    figure.text(
        left_edge,
        1 - 0.20 / height,
        title,
        color=_TEXT,
        # A long title is set smaller; a character is about 0.65 of its size wide.
        fontsize=min(12.0, 72 * (width - 0.4) / (0.65 * max(len(title), 1))),
        va="center",
        weight="bold",
        parse_math=False,  # names may hold a $
    )
    figure.text(left_edge, 0.08 / height, note, color=_FAINT, fontsize=8)
    axes: list[list[Axes]] = []
    upper = height - top
    for (plane, _, left, right, up), tall in zip(_PLANES, heights, strict=True):
        lower = upper - tall
        row = []
        for column, name in enumerate(names):
            begin = side + column * (_PANEL + gap)
            axis = figure.add_axes(
                (begin / width, lower / height, _PANEL / width, tall / height)
            )
            axis.set_facecolor("black")
            axis.set_axis_off()
            if not axes:
                figure.text(
                    (begin + _PANEL / 2) / width,
                    (upper + 0.12) / height,
                    name,
                    color=_TEXT,
                    fontsize=10,
                    ha="center",
                )
            row.append(axis)
        figure.text(
            side / 2 / width,
            (lower + tall / 2) / height,
            plane,
            color=_TEXT,
            fontsize=10,
            rotation=90,
            va="center",
            ha="center",
        )
        for letter, across, along in (
            (left, 0.03, 0.5),
            (right, 0.97, 0.5),
            (up, 0.5, 0.97),
        ):
            row[0].text(
                across,
                along,
                letter,
                color=_FAINT,
                fontsize=8,
                ha="center",
                va="center",
                transform=row[0].transAxes,
            )
        axes.append(row)
        upper = lower - gap
    return figure, axes


def _show(axis: Axes, picture: NDArray) -> None:
    axis.imshow(
        picture,
        cmap="gray",
        vmin=0,
        vmax=1,
        origin="lower",
        aspect="auto",
        interpolation="bilinear" if picture.ndim == 2 else "nearest",
    )


def _outline(axis: Axes, mask: NDArray) -> None:
    if 0 < mask.sum() < mask.size:
        # Blurred by less than a voxel, so that the line does not follow voxel corners.
        soft = ndimage.gaussian_filter(mask.astype(np.float32), 0.8)
        axis.contour(soft, levels=[0.5], colors=_FIXED, linewidths=0.9)


def _edges(axis: Axes, picture: NDArray) -> None:
    """Marr and Hildreth's edges: zero crossings of the Laplacian where it is steep."""
    scale = 0.6 + picture.shape[0] / 128  # voxels: finer grids have finer noise
    curvature = ndimage.gaussian_laplace(picture, scale)
    steepness = ndimage.gaussian_gradient_magnitude(picture, scale)
    steep = steepness > 0.2 * np.percentile(steepness, 99)
    if steep.any():
        shown = np.ma.masked_where(~steep, curvature)
        axis.contour(shown, levels=[0.0], colors=_EDGES, linewidths=0.9)


def _checkerboard(fixed: NDArray, warped: NDArray, side: int) -> NDArray:
    """[rows, columns, RGB]: squares of fixed in grey and of warped in a warm tint."""
    rows, columns = np.indices(fixed.shape) // max(side, 1)
    odd = ((rows + columns) % 2 == 1)[..., None]
    return np.where(odd, warped[..., None] * _WARM, fixed[..., None] * np.ones(3))


# Slices of a volume


def _brain(image: NDArray) -> NDArray:
    """Where an image is brighter than a hundredth of its bright voxels."""
    return _window(image) > 0.01


def _window(image: NDArray) -> NDArray:
    """The image with 0 … 99.5th percentile of its positive voxels brought to [0, 1]."""
    image = np.nan_to_num(np.asarray(image, np.float32))
    positive = image[image > 0]
    return (
        np.clip(image / np.percentile(positive, 99.5), 0, 1)
        if positive.size
        else image * 0
    )


def _box(images: Sequence[NDArray]) -> tuple[slice, ...]:
    """The box of every brain with a margin; the whole volume where none is seen."""
    seen = np.any([_brain(image) for image in images], axis=0)
    found = ndimage.find_objects(seen.astype(np.int8))
    if not found:
        return tuple(slice(0, size) for size in seen.shape)
    margin = max(1, max(seen.shape) // 64)
    return tuple(
        slice(max(side.start - margin, 0), min(side.stop + margin, size))
        for side, size in zip(found[0], seen.shape, strict=True)
    )


def _centre(mask: NDArray) -> tuple[int, ...]:
    """The voxel at the centre of mass, through which all slices go."""
    if not mask.any():
        return tuple(size // 2 for size in mask.shape)
    return tuple(int(place) for place in np.argwhere(mask).mean(axis=0).round())


def _slice(
    volume: NDArray, cut: int, centre: tuple[int, ...], box: tuple[slice, ...]
) -> NDArray:
    """The slice across the axis `cut`, [up, right], within the box."""
    plane = tuple(centre[i] if i == cut else box[i] for i in range(3))
    return np.asarray(volume)[plane].T


# Training curves


def _curve_axis(axis: Axes, title: str) -> None:
    axis.set_facecolor(_PAPER)
    axis.set_title(title, color=_TEXT, fontsize=11, loc="left")
    axis.set_xlabel("step", color=_TEXT, fontsize=9)
    axis.tick_params(colors=_FAINT, labelsize=8)
    axis.grid(color="#2a2c33", lw=0.6)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_FAINT)


def _metrics(path: Path) -> list[dict]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be read ({error.strerror}); name the metrics file of a run."
        ) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise errors.UserError(
                f"{path} is damaged: line {number} is not JSON; remove that line."
            ) from error
    return rows


def _series(rows: Sequence[dict], key: str) -> tuple[NDArray, NDArray]:
    """Steps in order and the finite or not finite values of one key, [n] each."""
    found = {row["step"]: row[key] for row in rows if row.get(key) is not None}
    steps = sorted(found)
    return np.array(steps, float), np.array([found[step] for step in steps], float)


def _running_mean(step: NDArray, value: NDArray, size: int) -> tuple[NDArray, NDArray]:
    """The mean of each `size` neighbours, at their mean step."""
    kernel = np.full(size, 1 / size)
    return np.convolve(step, kernel, "valid"), np.convolve(value, kernel, "valid")
