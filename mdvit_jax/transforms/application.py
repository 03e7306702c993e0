"""Images, series and label maps through transforms, in memory and into files."""

import logging
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from mdvit_jax import errors
from mdvit_jax.io import coerce, image, voxels
from mdvit_jax.io.grid import Grid
from mdvit_jax.io.series import Series
from mdvit_jax.transforms import resampling
from mdvit_jax.transforms.resampling import Transform

_log = logging.getLogger(__name__)


def apply(
    moving: Any,
    fixed_to_moving: Transform,
    fixed: Any,
    *,
    interpolation: str = "linear",
    fill: float | str = "auto",
) -> nib.Nifti1Image:
    """An image on the grid of another.

    Args:
        moving: a path, a nibabel image, or a pair of an array [x, y, z] and its 4×4
            affine (voxel indices → world RAS+ mm).
        fixed_to_moving: 4×4, world RAS+ mm, as `transforms.read` returns it, or a
            displacement field, or several of them, of which the first is applied to a
            point of the grid first.
        fixed: the image whose grid it is, likewise, or a `Grid`.
        interpolation: "linear", "nearest", "cubic" or "lanczos"; see `resample`.
        fill: value outside of the moving image; "auto" is its background's.

    Returns:
        The image, in the number type of the moving one.

    Raises:
        UserError: an image cannot be used.
    """
    source = coerce.to_image(moving, "the moving image")
    grid = coerce.to_grid(fixed, "the fixed image")
    if fill == "auto":
        fill = resampling.background_value(source.data)
    data = resampling.resample(
        source.data,
        source.affine,
        fixed_to_moving,
        grid,
        interpolation=interpolation,
        fill=float(fill),
        dtype=source.dtype,
    )
    return image.to_nibabel(data, grid, header=source.header)


def write_resampled(
    path: str | Path,
    series: Series,
    fixed_to_moving: Transform,
    grid: Grid,
    *,
    labels: bool = False,
    interpolation: str | None = None,
    fill: float | str = "auto",
) -> bool:
    """Write the volumes on another grid; of a series, its time step, too.

    Beside the result, one volume is held at a time. A warning is logged where the
    result holds nothing of what the image does.

    Args:
        path: as in `image.save`.
        series: of one volume or several; integers where `labels`.
        fixed_to_moving: as in `resampling.resample`.
        grid: of the result.
        labels: no new values; the interpolation is "nearest", or "linear", which is
            that of `resampling.resample_labels`.
        interpolation: as in `resampling.resample`; None is nearest for labels and
            linear for images.
        fill: value outside of the image; "auto" is 0 for labels and the background's
            value (`resampling.background_value`) of the first volume for images.

    Returns:
        False where the result is empty and the image is not.

    Raises:
        UserError: a volume cannot be used, the result does not fit into memory or
            cannot be written.
    """
    interpolation = interpolation or ("linear", "nearest")[labels]
    shape = (*grid.shape, math.prod(series.lengths))
    has_content = False
    try:
        result = np.empty(shape, series.dtype, order="F")
        for index, volume in enumerate(series.volumes):
            source = volume, series.grid.affine, fixed_to_moving, grid
            if fill == "auto":
                fill = 0.0 if labels else resampling.background_value(volume)
            if labels and interpolation == "linear":
                result[..., index] = resampling.resample_labels(
                    *source, fill=float(fill)
                )
            else:
                result[..., index] = resampling.resample(
                    *source,
                    interpolation=interpolation,
                    fill=float(fill),
                    dtype=series.dtype,
                )
            has_content = has_content or bool((volume != fill).any())
    except MemoryError as error:
        raise errors.UserError(
            f"{path} with {'×'.join(map(str, shape))} voxels does not fit into the "
            "free memory; choose a coarser reference or fewer volumes."
        ) from error
    empty = voxels.cast(np.array(fill, np.float64), series.dtype)
    is_complete = not has_content or bool((result != empty).any())
    if not is_complete:
        _log.warning(
            "%s lies wholly outside of the grid that it is resampled to, so the result "
            "is empty; check that the transform belongs to these images and has the "
            "right direction.",
            series.grid.file,
        )
    result = result if series.lengths else result[..., 0]
    image.save(path, result, grid, header=series.header)
    return is_complete
