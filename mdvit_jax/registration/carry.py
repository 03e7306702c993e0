"""An image, a series or a label map through a transform, ready to be written."""

import functools
import math
from pathlib import Path

import numpy as np

from mdvit_jax import errors
from mdvit_jax.registration import images, resample, transforms

INTERPOLATIONS = ("nearest", "linear")


def carry(
    series: images.Series,
    fixed_to_moving: np.ndarray,
    target: transforms.Grid,
    *,
    output: str | Path,
    labels: bool = False,
    interpolation: str | None = None,
) -> np.ndarray:
    """The volumes on a grid, as they are stored in a file.

    Besides these, one volume is held at a time.

    Args:
        series: of one volume or several; labels where `labels` says so.
        fixed_to_moving: 4×4, world RAS+ mm.
        target: where the result's voxels lie.
        output: the file, whose format may lack the type of the series.
        labels: no new values.
        interpolation: "nearest" or "linear"; None is nearest for labels and linear for
            images. Linear labels are those of `resample.resample_labels`.

    Returns:
        [x, y, z], or [x, y, z, t] of a series.

    Raises:
        UserError: a volume cannot be used, or the result does not fit into memory.
    """
    interpolation = interpolation or ("linear", "nearest")[labels]
    if labels and interpolation == "linear":
        through = resample.resample_labels
    else:
        order = INTERPOLATIONS.index(interpolation)
        through = functools.partial(resample.resample, order=order)
    dtype = images.dtype_in(output, series.dtype)
    shape = (*target.shape, math.prod(series.lengths))
    try:
        carried = np.empty(shape, dtype, order="F")
        for index, volume in enumerate(series.volumes):
            found = through(volume, series.frame.affine, fixed_to_moving, target)
            carried[..., index] = images.as_stored(found, dtype)
    except MemoryError as error:
        raise errors.UserError(
            f"{output} with {'×'.join(map(str, shape))} voxels does not fit into the "
            "free memory; choose a coarser reference or fewer volumes."
        ) from error
    return carried if series.lengths else carried[..., 0]
