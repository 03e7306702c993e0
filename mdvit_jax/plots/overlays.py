"""Pictures of a registration on the network's grid, as matplotlib figures.

Volumes are `[x, y, z]` on one RAS+ grid of cubic voxels, as conforming makes them. The
slices go through the centre of mass of the fixed brain.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from mdvit_jax.io import voxels
from mdvit_jax.plots import panels
from mdvit_jax.plots.planes import CONVENTION, PLANES

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
    box, centre = _box([fixed, moving, warped]), _centre(mask)
    images = [_window(image) for image in (fixed, moving, warped)]
    note = f"{CONVENTION} Line: outline of the fixed brain."
    columns = ("Fixed", "Moving", "Warped", "Warped (orange) in fixed")
    figure, axes = _plane_grid(box, title=title, columns=columns, note=note)
    for row, plane in zip(axes, PLANES, strict=True):
        outline = _slice(mask, plane.axis, centre, box)
        slices = [_slice(image, plane.axis, centre, box) for image in images]
        for axis, picture in zip(row[:3], slices, strict=True):
            panels.show_slice(axis, picture)
            _draw_outline(axis, outline)
        panels.show_checkerboard(row[3], slices[0], slices[2])
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
    box, centre = _box([fixed, before, after]), _centre(_brain(fixed))
    target, *images = [_window(image) for image in (fixed, before, after)]
    note = f"{CONVENTION} Lines: edges of the fixed image."
    columns = ("Before", "After")
    figure, axes = _plane_grid(box, title=title, columns=columns, note=note)
    for row, plane in zip(axes, PLANES, strict=True):
        edges = _slice(target, plane.axis, centre, box)
        for axis, image in zip(row, images, strict=True):
            panels.show_slice(axis, _slice(image, plane.axis, centre, box))
            panels.draw_edges(axis, edges)
    return figure


def _plane_grid(
    box: tuple[slice, ...], *, title: str, columns: Sequence[str], note: str
) -> tuple[Figure, list[list[Axes]]]:
    """A row for each plane; panels have exactly the shape of their slices."""
    x, y, z = (side.stop - side.start for side in box)
    figure, axes = panels.panel_grid(
        [_PANEL] * len(columns),
        [_PANEL * y / x, _PANEL * z / x, _PANEL * z / y],
        title=title,
        columns=columns,
        rows=[plane.name for plane in PLANES],
        note=note,
    )
    for row, plane in zip(axes, PLANES, strict=True):
        panels.draw_letters(row[0], plane.letters)
    return figure, axes


def _draw_outline(axis: Axes, mask: NDArray) -> None:
    if 0 < mask.sum() < mask.size:
        # Blurred by less than a voxel, so that the line does not follow voxel corners.
        soft = ndimage.gaussian_filter(mask.astype(np.float32), 0.8)
        axis.contour(soft, levels=[0.5], colors=panels.FIRST, linewidths=0.9)


# Slices of a volume


def _brain(image: NDArray) -> NDArray:
    """Where an image is brighter than a hundredth of its bright voxels, [x, y, z]."""
    return _window(image) > 0.01


def _window(image: NDArray) -> NDArray:
    """The image with 0 … 99.5th percentile of its positive voxels brought to [0, 1]."""
    image = np.nan_to_num(np.asarray(image, np.float32))
    positive = image[image > 0]
    if not positive.size:
        return np.zeros_like(image)
    return np.clip(image / np.percentile(positive, 99.5), 0, 1)


def _box(images: Sequence[NDArray]) -> tuple[slice, ...]:
    """The box around all brains with a margin; the whole volume where there is none."""
    inside = np.any([_brain(image) for image in images], axis=0)
    if not inside.any():
        return tuple(slice(0, size) for size in inside.shape)
    box = voxels.bounding_box(inside)
    margin = max(1, max(inside.shape) // 64)
    return tuple(
        slice(max(side.start - margin, 0), min(side.stop + margin, size))
        for side, size in zip(box, inside.shape, strict=True)
    )


def _centre(mask: NDArray) -> tuple[int, ...]:
    """The voxel at the centre of mass, through which all slices go."""
    if not mask.any():
        return tuple(size // 2 for size in mask.shape)
    return tuple(int(place) for place in np.argwhere(mask).mean(axis=0).round())


def _slice(
    volume: NDArray, axis: int, centre: tuple[int, ...], box: tuple[slice, ...]
) -> NDArray:
    """The slice across an axis of the volume, [up, right], within the box."""
    indices = tuple(centre[i] if i == axis else box[i] for i in range(3))
    return np.asarray(volume)[indices].T
