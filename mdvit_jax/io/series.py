"""An image of one volume or several, of which one is decoded at a time."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mdvit_jax import errors
from mdvit_jax.io import labels as label_maps
from mdvit_jax.io import named_templates, nifti, voxels
from mdvit_jax.io.grid import Grid


class Series(NamedTuple):
    """An image of one volume or several, of which each is decoded when it is asked for.

    Attributes:
        grid: where each of them lies.
        header: nibabel's, of the file's own kind.
        lengths: () for one volume in three dimensions, (t,) for a series.
        dtype: of the volumes: as stored, or float32 where the header scales them.
        volumes: [x, y, z] each, finite, in order, once.
    """

    grid: Grid
    header: Any
    lengths: tuple[int, ...]
    dtype: np.dtype
    volumes: Iterator[np.ndarray]


def open_series(path: str | Path, *, labels: bool = False) -> Series:
    """Open an image of one volume or several, of which one may be constant or all 0.

    Voxels that are NaN or infinite become 0, with a warning.

    Args:
        path: of the file, or one of `named_templates.NAMES`.
        labels: whole numbers are needed; the volumes are integers.

    Raises:
        UserError: the file cannot be read, is damaged, or holds neither a volume nor a
            series of volumes of real numbers. For labels, the iteration raises it where
            a value is not a whole number.
    """
    if named_templates.is_name(path):
        template = named_templates.load(str(path))
        one = iter([template.data])
        return Series(template.grid, template.header, (), template.dtype, one)
    grid, lengths, header, stored = nifti.open_file(
        path, check_shape=nifti.accept_series
    )
    dtype = stored.dtype
    if labels and dtype.kind == "f":
        dtype = np.dtype(np.int32)
    return Series(grid, header, lengths, dtype, _volumes(stored, labels))


def open_continuous_series(path: str | Path, *, cure: str) -> Series:
    """Open an image whose values may be interpolated.

    A mask of 0 and 1 may: rounded, it is cut at one half.

    Args:
        path: of the file.
        cure: what to do about a label map, the end of the sentence.

    Raises:
        UserError: as in `open_series`, or its first volume looks like a label map.
    """
    series = open_series(path)
    first = next(series.volumes)
    count = label_maps.count_labels(first)
    if count > 1 and not 0 <= first.min() < first.max() <= 1:
        raise errors.UserError(
            f"{path} looks like a label map ({count} whole numbers in patches), whose "
            f"values are names that interpolation would mix; {cure}."
        )
    return series._replace(volumes=itertools.chain([first], series.volumes))


def _volumes(stored: nifti.StoredVoxels, labels: bool) -> Iterator[np.ndarray]:
    path, length, total = stored.path, stored.proxy.shape[3], 0
    for index in range(length):
        volume, count = voxels.replace_non_finite(stored.read(index))
        total += count
        if index == length - 1:
            del stored  # a gzip file's bytes
        yield voxels.whole_numbers(volume, path) if labels else volume
    voxels.warn_of_non_finite(total, path)
