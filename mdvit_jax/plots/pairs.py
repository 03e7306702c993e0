"""Pictures of a registration on the network's grid, as matplotlib figures.

Volumes are `[x, y, z]` on one RAS+ grid of cubic voxels, as conforming makes them. The
pictures follow the neurological convention: the person's left is on the left, anterior
is up (axial) or right (sagittal), superior is up.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from mdvit_jax.io import atomic
from mdvit_jax.plots import panels

# Name, axis that is cut, letters at the left, right and top of the picture.
_PLANES = (
    ("Axial", 2, "L", "R", "A"),
    ("Coronal", 1, "L", "R", "S"),
    ("Sagittal", 0, "P", "A", "S"),
)
_CONVENTION = "The person's left is on the left (neurological)."
_FAINT = "#8b8d94"
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
            panels.show(axis, picture)
            _outline(axis, outline)
        longest = max(side.stop - side.start for side in box)
        board = panels.checkerboard(
            slices[0], slices[2], side=longest // _SQUARES, tint=_WARM
        )
        panels.show(axes[row][3], board)
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
            panels.show(axis, _slice(image, cut, centre, box))
            _edges(axis, edges)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure (PNG, PDF, … by the suffix); a reader never sees half a file."""
    path = Path(path) if isinstance(path, str) else path  # it may be one of a bucket
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(
        drawn,
        format=path.suffix[1:] or "png",
        dpi="figure",
        facecolor=figure.get_facecolor(),
    )
    atomic.write_bytes(path, drawn.getvalue())


# Panels of a registration picture


def _panels(
    box: tuple[slice, ...], *, title: str, names: Sequence[str], note: str
) -> tuple[Figure, list[list[Axes]]]:
    """A figure whose panels have exactly the shape of their slices, [plane][column]."""
    x, y, z = (side.stop - side.start for side in box)
    heights = [_PANEL * y / x, _PANEL * z / x, _PANEL * z / y]
    gap, top, side, foot = 0.04, 0.62, 0.30, 0.24  # inches
    width = side + len(names) * (_PANEL + gap)
    height = top + sum(heights) + gap * len(heights) + foot
    figure = panels.figure(width, height)
    left_edge = side / width
    figure.text(
        left_edge,
        1 - 0.20 / height,
        title,
        color=panels.TEXT,
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
                    color=panels.TEXT,
                    fontsize=10,
                    ha="center",
                )
            row.append(axis)
        figure.text(
            side / 2 / width,
            (lower + tall / 2) / height,
            plane,
            color=panels.TEXT,
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
