"""An image, a series or a label map through a transform, into a file."""

import functools
import logging
import math
from pathlib import Path

import numpy as np

from mdvit_jax import errors
from mdvit_jax.io import image
from mdvit_jax.transforms import resample

INTERPOLATIONS = ("nearest", "linear")
_log = logging.getLogger(__name__)


def write(
    path: str | Path,
    series: image.Series,
    fixed_to_moving: np.ndarray,
    *,
    like: image.Frame | image.Image,
    labels: bool = False,
    interpolation: str | None = None,
) -> bool:
    """Write the volumes on the grid of another image; of a series, its time step, too.

    Besides the result, one volume is held at a time. A warning tells of a result that
    holds nothing of what the image does.

    Args:
        path: as in `images.save`.
        series: of one volume or several; labels where `labels` says so.
        fixed_to_moving: 4×4, world RAS+ mm.
        like: the image whose grid it is, and whose header is kept.
        labels: no new values.
        interpolation: "nearest" or "linear"; None is nearest for labels and linear for
            images. Linear labels are those of `resample.resample_labels`.

    Returns:
        False where the result is empty and the image is not.

    Raises:
        UserError: a volume cannot be used, the result does not fit into memory or
            cannot be written.
    """
    interpolation = interpolation or ("linear", "nearest")[labels]
    if labels and interpolation == "linear":
        through = resample.resample_labels
    else:
        order = INTERPOLATIONS.index(interpolation)
        through = functools.partial(resample.resample, order=order)
    dtype = image.dtype_in(path, series.dtype)
    shape = (*like.grid.shape, math.prod(series.lengths))
    anything = False
    try:
        carried = np.empty(shape, dtype, order="F")
        for index, volume in enumerate(series.volumes):
            found = through(volume, series.frame.affine, fixed_to_moving, like.grid)
            carried[..., index] = image.as_stored(found, dtype)
            anything = anything or bool(volume.any())
    except MemoryError as error:
        raise errors.UserError(
            f"{path} with {'×'.join(map(str, shape))} voxels does not fit into the "
            "free memory; choose a coarser reference or fewer volumes."
        ) from error
    arrived = not anything or bool(carried.any())
    if not arrived:
        _log.warning(
            "%s lies wholly outside of the grid that it is brought to, so the result "
            "is empty; check that the transform belongs to these images and goes this "
            "way.",
            series.frame.path,
        )
    carried = carried if series.lengths else carried[..., 0]
    image.save(path, carried, like, dtype, time_of=series.frame.header)
    return arrived
