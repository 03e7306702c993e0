"""The brain in a foreground that shows a whole head, by a trained network of masks.

What is found in a head is aligned like a brain that was stripped of its skull.
"""

import functools
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.data import morphology
from mdvit_jax.io import layer_weights
from mdvit_jax.registration import levels, programs
from mdvit_jax.registration.foreground import (
    Foreground,
    close_over_skull,
    coarsen,
    crop,
    end_at_cuts,
)

_FILE = Path(__file__).parents[1] / "weights" / "brain_extractor.safetensors"
_SIZE, _VOXEL = 64, 4.0  # of the volumes that the network takes, in voxels and mm
# A stripped brain has no more mm³, unless with a wide margin (the template has 1.88e6),
# and than a brain no head has less than so many times the volume.
_LARGEST, _LARGER = 1.95e6, 1.8
# In a head more than this share of the object is so many voxels off the brain.
_FAR, _FAR_SHARE = 2, 0.05
_SMALLEST = 2e5  # mm³ of a human brain, or of what a slab shows of it
_LOOKS = 2  # the second one is centred on what the first one found
_log = logging.getLogger(__name__)


class Brain(NamedTuple):
    """What the network says of a foreground, on a cube of 64³ voxels.

    Attributes:
        share: [x, y, z] in [0, 1], the brain's share of each voxel, also where the
            field of view cuts it.
        affine: 4×4, voxel indices → world RAS+ mm.
    """

    share: np.ndarray
    affine: np.ndarray


def replace_heads(
    fixed: Foreground, moving: Foreground
) -> tuple[Foreground, Foreground]:
    """The two foregrounds with heads replaced by their brains.

    They stay as they are where no brain is found in one that may be a head, or where
    Flax is not installed (with a warning).
    """
    brains = []
    for image, other in ((fixed, moving), (moving, fixed)):
        if image.clean and image.volume < min(_LARGEST, _LARGER * other.volume):
            brains.append(image)
            continue
        try:
            found = find_brain(image)
        except errors.UserError as error:
            _log.warning("No brain was looked for in %s: %s", image.name, error)
            return fixed, moving
        if found is not None and not _is_head(image, found):
            brains.append(image)
            continue
        brain = found and cut_out(image, found)
        if brain is None:
            _log.debug("%s: no brain was found; all of it is aligned.", image.name)
            return fixed, moving
        _log.debug("%s: a brain of %.0f ml was found.", image.name, brain.volume / 1000)
        brains.append(brain)
    return brains[0], brains[1]


def extract_brains(
    fixed: Foreground, moving: Foreground
) -> tuple[Foreground, Foreground] | None:
    """The brains in both, even if they are stripped already.

    None if neither would change, one has none, or Flax is not installed.
    """
    brains = []
    for image in (fixed, moving):
        brain: Foreground | None = image
        if not image.estimated:
            try:
                found = find_brain(image)
            except errors.UserError:  # a warning came for a head
                return None
            brain = found and cut_out(image, found)
        if brain is None:
            return None
        brains.append(brain)
    return (
        None if brains[0] is fixed and brains[1] is moving else (brains[0], brains[1])
    )


def _is_head(image: Foreground, brain: Brain) -> bool:
    """Whether part of the object lies far from the brain in it."""
    small = coarsen(image)
    near = morphology.dilate(brain.share > 0.5, (_FAR,) * 3)
    to_cube = np.linalg.inv(brain.affine) @ small.affine
    points = np.argwhere(small.inside) @ to_cube[:3, :3].T + to_cube[:3, 3]
    at = np.rint(points).astype(int)
    within = ((at >= 0) & (at < _SIZE)).all(1)
    within[within] = near[tuple(at[within].T)]
    return bool(np.mean(~within) > _FAR_SHARE)


def find_brain(image: Foreground) -> Brain | None:
    """Find the brain in a head, or in a brain, of any contrast; None if there is none.

    Raises:
        UserError: Flax is not installed.
    """
    small = coarsen(image)
    middle = (np.array(small.image.shape) - 1) / 2
    centre = small.affine[:3, :3] @ middle + small.affine[:3, 3]
    for _ in range(_LOOKS):
        affine = np.diag([_VOXEL, _VOXEL, _VOXEL, 1.0])
        affine[:3, 3] = centre - _VOXEL * (_SIZE - 1) / 2
        looked_at = small._replace(centre=centre)
        volume = levels.resample_volume(
            small.image, looked_at, _VOXEL, _SIZE, "constant"
        )
        volume = np.clip(volume, 0, 1).astype(np.float32)
        share = np.asarray(_program()(_weights(), volume))
        inside = _largest_part(share > 0.5)
        if _VOXEL**3 * np.count_nonzero(inside) < _SMALLEST:
            return None
        centre = affine[:3, :3] @ ndimage.center_of_mass(inside) + affine[:3, 3]
    near = morphology.dilate(inside, (1, 1, 1))  # where shares fall below a half
    return Brain(np.where(near, share, 0), affine)


def cut_out(head: Foreground, brain: Brain) -> Foreground | None:
    """The brain as the head's image shows it; None if that is hardly anything."""
    to_cube = np.linalg.inv(brain.affine) @ head.affine
    box = _box_around(brain.share > 0.5, np.linalg.inv(to_cube), head.image.shape)
    start = np.array([part.start for part in box])
    share = ndimage.affine_transform(
        brain.share,
        to_cube[:3, :3],
        to_cube[:3, :3] @ start + to_cube[:3, 3],
        output_shape=tuple(part.stop - part.start for part in box),
        order=1,
    )
    affine = head.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    seen, weight = head.inside[box], head.weight[box].copy()
    if head.clean:  # else it is closed already
        seen = close_over_skull(seen, affine)
    inside = (share > 0.5) & seen
    voxel = abs(np.linalg.det(affine[:3, :3]))
    if voxel * np.count_nonzero(inside & (weight > 0)) < _SMALLEST:
        return None
    end_at_cuts(weight, inside)
    try:
        found = crop(
            head.image[box], inside, weight, affine, clean=True, name=head.name
        )
    except errors.UserError:  # a thin part of it, or one without contrast
        return None
    return found._replace(estimated=True)


def _largest_part(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask)
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]) if count else mask


def _box_around(mask: np.ndarray, to_voxels: np.ndarray, shape) -> tuple[slice, ...]:
    """The voxels of a volume of some shape that a mask on another grid reaches."""
    points = np.argwhere(mask)
    low, high = points.min(0) - 1, points.max(0) + 1
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True)), -1).reshape(-1, 3)
    reached = corners @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    last = np.array(shape) - 1
    first = np.clip(np.floor(reached.min(0)), 0, last).astype(int)
    end = np.clip(np.ceil(reached.max(0)), 0, last).astype(int) + 1
    return tuple(map(slice, first, end))


@functools.cache
def _program() -> programs.Program:
    return programs.Program(_find_share, "extract-brain", ())


def _find_share(params, volume):
    """[x, y, z] in [0, 1] → the brain's share of each voxel."""
    try:
        from mdvit_jax.models import brain_extractor  # brings Flax, only to be traced
    except ImportError as error:
        raise errors.UserError(
            f"the trained network, which finds a brain in a head, needs {error.name}; "
            "install it (pip install 'mdvit-jax[register]')."
        ) from error
    return brain_extractor.find_share(params, volume)


@functools.cache
def _weights():
    return layer_weights.load(_FILE)
