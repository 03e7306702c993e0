"""What a caller may pass as an image: a path, a template's name, a nibabel image …"""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from mdvit_jax import errors
from mdvit_jax.io import headers, image, named_templates, nifti, voxels
from mdvit_jax.io.grid import Grid
from mdvit_jax.io.image import Image

_ONE_GRID = 0.01  # mm; headers are float32


def to_image(source: Any, name: str) -> Image:
    """An image from a path, a nibabel image, an array, or an array and its affine.

    An array alone has its voxel indices as millimetres.

    Args:
        source: one of these, one of `named_templates.NAMES`, or an `Image`.
        name: of the image in messages, where it has no path.

    Raises:
        UserError: it cannot be used; see `image.load`.
    """
    if isinstance(source, Image):
        return source
    if named_templates.is_name(source):
        return named_templates.load(str(source))
    if isinstance(source, str | Path):
        return image.load(source)
    if isinstance(source, nib.spatialimages.SpatialImage):
        return _from_nibabel(source, name)
    return _from_array(source, name)


def to_grid(source: Any, name: str) -> Grid:
    """The grid of an image, from a grid or anything that `to_image` takes.

    Raises:
        UserError: it cannot be used.
    """
    if isinstance(source, Grid):
        return source
    if named_templates.is_name(source):
        return named_templates.load(str(source)).grid
    if isinstance(source, str | Path):
        return nifti.read_grid(source)
    if isinstance(source, nib.spatialimages.SpatialImage):
        return headers.checked_grid(source, Path(source.get_filename() or name))
    return to_image(source, name).grid


def to_mask(source: Any, scan: Image, name: str) -> np.ndarray:
    """A mask [x, y, z] bool, true above 0, on the voxels of its image.

    Args:
        source: as in `to_image`; an array alone lies on the image's voxels.
        scan: the image that it belongs to.
        name: of that image, in messages.

    Raises:
        UserError: it cannot be used, lies elsewhere, or is empty.
    """
    mask_name = str(source) if isinstance(source, str | Path) else f"the mask of {name}"
    if isinstance(source, str | Path):
        mask = image.load_mask(source)
        data, affine = mask.data, mask.affine
    elif isinstance(source, nib.spatialimages.SpatialImage):
        data = np.asanyarray(source.dataobj) > 0
        affine = headers.checked_grid(source, Path(mask_name)).affine
    else:
        data, affine = _array_and_affine(source, scan.affine, mask_name)
        if data.dtype.kind not in "biuf":
            raise errors.UserError(
                f"{mask_name} holds {data.dtype} where numbers are needed, above 0 "
                "where it counts."
            )
        data = data > 0
    apart = scan.grid.distance(Grid(scan.grid.shape, affine))
    if data.shape != scan.data.shape or not apart <= _ONE_GRID:  # nor is NaN
        raise errors.UserError(
            f"{mask_name} does not lie on the voxels of {name}; resample it onto them "
            "(mdvit apply --labels)."
        )
    if not data.any():
        raise errors.UserError(f"{mask_name} has nothing in it; leave it out.")
    return data


def _from_nibabel(source: Any, name: str) -> Image:
    file = source.get_filename()
    path = Path(file or name)
    shape = headers.checked_shape(source.dataobj, path)
    nifti.accept_one_volume(shape, path)
    headers.check_orientation(source.header, None, path)
    grid = headers.checked_grid(source, path)._replace(file=file and str(file))
    values = np.asanyarray(source.dataobj).reshape(shape)
    dtype = values.dtype.newbyteorder("=")
    data = voxels.as_scan(values.astype(dtype, copy=True), path)
    return Image(grid, data, source.header, dtype)


def _from_array(source: Any, name: str) -> Image:
    data, affine = _array_and_affine(source, np.eye(4), name)
    if data.dtype == np.float16 or data.dtype == bool:
        data = data.astype(np.float32 if data.dtype == np.float16 else np.uint8)
    if data.dtype.kind not in "iuf" or data.ndim < 3:
        raise errors.UserError(
            f"{name} is not an array [x, y, z] of real numbers, but {data.dtype} of "
            f"shape {data.shape}; give a path, a nibabel image, an array or "
            "(array, affine)."
        )
    # Before it is an image: nibabel cannot make a header of some.
    affine = headers.checked_affine(affine, Path(name))
    return _from_nibabel(nib.Nifti1Image(data, affine, dtype=data.dtype), name)


def _array_and_affine(
    source: Any, affine: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """An array and its 4×4, which is `affine` where only an array is passed."""
    is_pair = isinstance(source, tuple) and len(source) == 2
    pair = source if is_pair else (source, affine)
    try:
        data, affine = np.asarray(pair[0]), np.asarray(pair[1], np.float64)
    except (TypeError, ValueError) as error:
        raise errors.UserError(
            f"{name} is neither a path nor a nibabel image, an array or (array, "
            "affine); give one of these."
        ) from error
    if affine.shape != (4, 4):
        raise errors.UserError(f"{name} has an affine that is not a 4x4 matrix.")
    return data, affine
