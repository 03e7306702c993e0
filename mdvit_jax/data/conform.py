"""Resample a stored scan to the grid of the network.

The conformed grid has size³ voxels, spans `field_of_view` mm along each axis of the
world (x to the right, y to the front, z up: RAS+) and is centred on the scan's own
field of view. So one resampling undoes a rotated, sheared or flipped header.

Paper 3.1: scans at 1 mm are padded with zeros to 256³, normalised to [0, 1] and halved
to 128³ by trilinear interpolation. Here the scan is interpolated linearly (zeros
around it) on a fine grid of at most 1 mm, of which `size` is a whole fraction 1/k, and
cubes of k³ fine voxels are averaged: for k = 2 this is that trilinear halving. Where
the scan's axes are the world's, and its voxels are as large as the fine ones, the grid
is moved by half a fine voxel if need be, so that padding it is: no voxel is
interpolated.
"""

import logging
from typing import NamedTuple

import numpy as np

from mdvit_jax import errors
from mdvit_jax.data import downsample, segmentation
from mdvit_jax.io.image import Image, from_array

# Divided by the brightest voxel, as "normalised to [0, 1]" could be read, white matter
# of 16 scans of OASIS comes out between 0.38 and 0.72, for vessels and spikes decide;
# relative to this percentile of the voxels above 0 it lies within 0.76 to 0.83. The
# total gradient compares intensities, so that it has to be the same for everybody.
_BRIGHTEST = 99.9
_CUT_OFF = 0.001  # part of the brain outside the field of view that is worth a warning
_OUTSIDE_LABELS = 0.5  # part of the labelled voxels outside the brain, likewise
_STRIPPED = 0.6  # part of the stored voxels that a skull-stripped brain stays below
_NEGATIVE = 0.01  # voxels below 0 for one above; interpolation may have left a few

_log = logging.getLogger(__name__)


class Conformed(NamedTuple):
    """A scan on the conformed grid.

    Attributes:
        image: float32 [n, n, n] in [0, 1], background 0.
        mask: uint8 [n, n, n], 1 in the brain.
        labels: int32 [n, n, n], 0 is background; or None.
        to_world: 4×4 float64, voxel indices of this grid → world RAS+ mm, by which a
            result goes back to the scan's own space.
    """

    image: np.ndarray
    mask: np.ndarray
    labels: np.ndarray | None
    to_world: np.ndarray


def conform(
    image: Image,
    labels: Image | None,
    mask: Image | None,
    *,
    size: int,
    field_of_view: float,
    name: str = "the scan",
) -> Conformed:
    """Resample a scan, its labels and its mask onto the conformed grid.

    Intensities are divided by the 99.9th percentile of those above 0 and clipped to
    [0, 1]. The mask is at least one half of the averaged brain, which is where `mask`
    is above 0; without one, the object that `segmentation.segment` sees in the
    image (which is skull-stripped). A mask strips:
    the image becomes 0 outside. A voxel's label is the most frequent one of its k³ fine
    voxels, each of which has that of the nearest stored one (ties: the lowest label).

    Args:
        image: the scan.
        labels: whole numbers of 32 bits on a grid of their own, in the same world; or
            None.
        mask: above 0 in the brain, on a grid of its own, in the same world; or None.
        size: n, voxels along each axis of the result.
        field_of_view: in mm, along each axis of the result.
        name: what messages call the scan.

    Raises:
        UserError: no voxel above 0 lies in the field of view.
    """
    to_world, fine = downsample.grid(
        image.data.shape, image.affine, size=size, field_of_view=field_of_view
    )
    _warn_if_negative(image.data, name)
    values = np.maximum(image.data, 0).astype(np.float32, copy=False)
    if mask is None:
        _warn_if_not_stripped(values, name)
    else:
        values *= downsample.nearest(mask, image) > 0
    inside = segmentation.segment(values).inside if mask is None else mask.data > 0
    brain = from_array(inside.astype(np.float32), (mask or image).affine)
    averaged = np.zeros(1)
    if values.any():
        _warn_if_cut_off(brain, to_world, size, name)
        averaged = downsample.average(
            from_array(values, image.affine), to_world, size, fine
        )
    if not averaged.any():
        raise errors.UserError(
            f"{name} has no voxel above 0 within {field_of_view:g} mm around its "
            "centre; look at its voxel size and its mask, or leave it out."
        )
    brain_mask = downsample.average(brain, to_world, size, fine) >= 0.5
    if not brain_mask.any():
        raise errors.UserError(
            f"{name} has a brain that fills no voxel of {field_of_view / size:g} mm; "
            "look at its voxel size and its mask, or leave it out."
        )
    flat = values.ravel(order="K")  # as it lies in memory, five times as fast
    averaged /= np.float32(np.percentile(flat[flat > 0], _BRIGHTEST))
    voted = None if labels is None else downsample.vote(labels, to_world, size, fine)
    conformed = Conformed(
        image=np.minimum(averaged, 1, out=averaged),
        mask=brain_mask.astype(np.uint8),
        labels=voted,
        to_world=to_world,
    )
    _warn_if_labels_elsewhere(conformed, name)
    return conformed


def _warn_if_negative(values: np.ndarray, name: str) -> None:
    below, above = np.count_nonzero(values < 0), np.count_nonzero(values > 0)
    if below > _NEGATIVE * above:
        _log.warning(
            "%s has %d voxels below 0 beside %d above; they are set to 0, so give "
            "images whose background is 0 and whose brain is brighter.",
            name,
            below,
            above,
        )


def _warn_if_not_stripped(values: np.ndarray, name: str) -> None:
    part = np.count_nonzero(values) / values.size
    if part > _STRIPPED:
        _log.warning(
            "%s is above 0 in %.0f %% of its voxels, so it does not look "
            "skull-stripped, which the method expects; strip it (FreeSurfer's "
            "mri_synthstrip) or name a brain mask.",
            name,
            100 * part,
        )


def _warn_if_cut_off(brain: Image, to_world: np.ndarray, size: int, name: str) -> None:
    brain = downsample.crop_to_content(brain)
    to_grid = np.linalg.inv(to_world) @ brain.affine

    def outside(voxels: np.ndarray) -> np.ndarray:
        at = voxels @ to_grid[:3, :3].T + to_grid[:3, 3]
        return ((at < -0.5) | (at > size - 0.5)).any(axis=1)

    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(brain.data.shape) - 1)
    if not outside(corners).any():
        return
    part = outside(np.argwhere(brain.data)).mean()
    if part > _CUT_OFF:
        _log.warning(
            "%s does not fit: %.1f %% of its brain lies outside the field of view of "
            "%g mm and is cut off; enlarge data.field_of_view.",
            name,
            100 * part,
            size * to_world[0, 0],
        )


def _warn_if_labels_elsewhere(conformed: Conformed, name: str) -> None:
    if conformed.labels is None:
        return
    labelled = conformed.labels != 0
    if conformed.mask[labelled].sum() < (1 - _OUTSIDE_LABELS) * labelled.sum():
        _log.warning(
            "The labels of %s lie outside its brain for the most part; do the headers "
            "of the two files place them in the same space?",
            name,
        )
