"""What a caller gives as an image: a path, a nibabel image, an array."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np

from mdvit_jax import errors
from mdvit_jax.io import headers, nifti, voxels
from mdvit_jax.io import image as images
from mdvit_jax.io.grid import Grid

_ONE_GRID = 0.01  # mm; headers are float32


def image(given: Any, name: str) -> images.Image:
    """An image from a path, a nibabel image, an array, or an array and its affine.

    An array alone has its voxel indices as millimetres.

    Args:
        name: of the image in messages, where it has no path.

    Raises:
        UserError: it cannot be used; see `nifti.load`.
    """
    if isinstance(given, images.Image):
        return given
    if isinstance(given, str | Path):
        return images.load(given)
    if not isinstance(given, nib.spatialimages.SpatialImage):
        given = _from_array(given, name)
    path = Path(given.get_filename() or name)
    shape = headers.checked_shape(given.dataobj, path)
    if len(shape) > 3:
        raise errors.UserError(
            f"{path} has {'×'.join(map(str, shape))} voxels, which is more than one "
            "volume; give one of them."
        )
    affine = headers.checked_affine(given, path)
    values = np.asanyarray(given.dataobj).reshape(shape)
    data = voxels.as_scan(values, path)
    return images.Image(data, affine, given.header, values.dtype.newbyteorder("="))


def series(path: str | Path, *, cure: str) -> images.Series:
    """An image of one volume or several whose values may be interpolated.

    A mask of 0 and 1 may: rounded, it is cut at one half.

    Args:
        cure: what to do about a label map, the end of the sentence.

    Raises:
        UserError: it cannot be used, or its first volume looks like a label map.
    """
    found = images.open_series(path)
    first = next(found.volumes)
    count = labels_in(first, found.dtype)
    if count > 1 and not 0 <= first.min() < first.max() <= 1:
        raise errors.UserError(
            f"{path} looks like a label map ({count} whole numbers in patches), whose "
            f"values are names that interpolation would mix; {cure}."
        )
    return found._replace(volumes=itertools.chain([first], found.volumes))


def mask(given: Any, of: images.Image, name: str) -> np.ndarray:
    """A mask [x, y, z] bool, true above 0, on the voxels of its image.

    Args:
        given: as an image is given; an array alone lies on the image's voxels.
        of: the image that it belongs to, and its name in messages.

    Raises:
        UserError: it cannot be used, lies elsewhere, or is empty.
    """
    called = str(given) if isinstance(given, str | Path) else f"the mask of {name}"
    if isinstance(given, str | Path):
        data, affine = nifti.load_mask(given)
    elif isinstance(given, nib.spatialimages.SpatialImage):
        data, affine = np.asanyarray(given.dataobj) > 0, given.affine
    else:
        data, affine = _array_and_affine(given, of.affine, called)
        if data.dtype.kind not in "biuf":
            raise errors.UserError(
                f"{called} holds {data.dtype} where numbers are needed, above 0 where "
                "it counts."
            )
        data = data > 0
    apart = of.grid.distance(Grid(of.grid.shape, affine))
    if data.shape != of.data.shape or not apart <= _ONE_GRID:  # nor is NaN
        raise errors.UserError(
            f"{called} does not lie on the voxels of {name}; resample it onto them "
            "(mdvit apply --labels)."
        )
    if not data.any():
        raise errors.UserError(f"{called} has nothing in it; leave it out.")
    return data


def labels_in(data: np.ndarray, dtype: np.dtype) -> int:
    """How many values an image has that looks like a label map or a mask; else 0.

    Args:
        data: [x, y, z].
        dtype: of the file; floating-point labels are whole numbers, too.
    """
    some = data[::8, ::8, ::8]
    if data.size < 1000 or (dtype.kind == "f" and (some != np.rint(some)).any()):
        return 0
    values = np.unique(data[::2, ::2, ::2])
    if (values != np.rint(values)).any():
        return 0
    alike = len(values) <= 2 or (len(values) < 200 and _in_patches(data))
    return len(values) if alike else 0


def _in_patches(data: np.ndarray) -> bool:
    """Whether most neighbours off the background have one value, as labels have."""
    one, other = data[:-1], data[1:]
    inside = (one != 0) & (other != 0)
    return bool(inside.any() and (one == other)[inside].mean() > 0.6)


def _from_array(given: Any, name: str) -> nib.Nifti1Image:
    data, affine = _array_and_affine(given, np.eye(4), name)
    if data.dtype == np.float16 or data.dtype == bool:
        data = data.astype(np.float32 if data.dtype == np.float16 else np.uint8)
    if data.dtype.kind not in "iuf" or data.ndim < 3:
        raise errors.UserError(
            f"{name} is no array [x, y, z] of real numbers, but {data.dtype} of shape "
            f"{data.shape}; give a path, a nibabel image, an array or (array, affine)."
        )
    # Before it is an image: nibabel cannot make a header of some.
    headers.checked_affine(SimpleNamespace(affine=affine, header=None), Path(name))
    return nib.Nifti1Image(data, affine, dtype=data.dtype)


def _array_and_affine(
    given: Any, affine: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """An array and its 4×4, which is `affine` where only an array is given."""
    pair = given if isinstance(given, tuple) and len(given) == 2 else (given, affine)
    try:
        data, affine = np.asarray(pair[0]), np.asarray(pair[1], np.float64)
    except (TypeError, ValueError) as error:
        raise errors.UserError(
            f"{name} is neither a path nor a nibabel image, an array or (array, "
            "affine); give one of these."
        ) from error
    if affine.shape != (4, 4):
        raise errors.UserError(f"{name} has an affine that is no 4x4 matrix.")
    return data, affine
