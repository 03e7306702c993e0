"""The brain in a foreground that shows a whole head, by a trained network of masks.

The brain of a head is aligned like a brain that was stripped of its skull.
"""

import functools
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.data import morphology
from mdvit_jax.io import layer_weights, programs
from mdvit_jax.registration import levels
from mdvit_jax.registration.foreground import (
    Foreground,
    close_over_skull,
    coarsen,
    crop,
    end_at_cuts,
)

_FILE = Path(__file__).parents[1] / "weights" / "brain_extractor.safetensors"
# mm³ of the largest stripped brain without a wide margin (MNI152's has 1.88e6); and how
# many times the volume of a brain a head has at least.
_LARGEST, _LARGER = 1.95e6, 1.8
# In a head more than this share of the object is so many voxels off the brain.
_FAR, _FAR_SHARE = 2, 0.05
_SMALLEST = 2e5  # mm³ of a human brain, or of what a slab shows of it
_SIZE = 64  # voxels along each axis of the volume that the network looks at
_LOOKS = 2  # the second one is centred on what the first one saw
_log = logging.getLogger(__name__)


class Brain(NamedTuple):
    """What the network says of a foreground, on a cube of its own.

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
    result = []
    for image, other in ((fixed, moving), (moving, fixed)):
        if image.clean and image.volume < min(_LARGEST, _LARGER * other.volume):
            result.append(image)
            continue
        try:
            brain = find_brain(image)
        except errors.UserError as error:
            _log.warning("No brain was looked for in %s: %s", image.name, error)
            return fixed, moving
        if brain is not None and not _is_head(image, brain):
            result.append(image)
            continue
        extracted = brain and cut_out(image, brain)
        if extracted is None:
            _log.debug("%s: no brain was seen; all of it is aligned.", image.name)
            return fixed, moving
        volume = extracted.volume / 1000
        _log.debug("%s: its brain of %.0f ml is aligned.", image.name, volume)
        result.append(extracted)
    return result[0], result[1]


def extract_brains(
    fixed: Foreground, moving: Foreground
) -> tuple[Foreground, Foreground] | None:
    """The brains in both, even if they are stripped already.

    None if one has none, or Flax is not installed.
    """
    try:
        one, other = (
            image if image.estimated else extract_brain(image)
            for image in (fixed, moving)
        )
    except errors.UserError:  # a warning came for a head
        return None
    return None if one is None or other is None else (one, other)


def extract_brain(
    image: Foreground, turn: np.ndarray | None = None
) -> Foreground | None:
    """What the network takes for the brain in a head or brain; None if nothing.

    Args:
        image: the head or brain.
        turn: as that of `find_brain`.

    Raises:
        UserError: Flax is not installed.
    """
    brain = find_brain(image, turn)
    return brain and cut_out(image, brain)


def _is_head(image: Foreground, brain: Brain) -> bool:
    """Whether part of the object lies far from the brain in it."""
    small = coarsen(image)
    near = morphology.dilate(brain.share > 0.5, (_FAR,) * 3)
    to_cube = np.linalg.inv(brain.affine) @ small.affine
    points = np.argwhere(small.inside) @ to_cube[:3, :3].T + to_cube[:3, 3]
    at = np.rint(points).astype(int)
    within = ((at >= 0) & (at < near.shape)).all(1)
    within[within] = near[tuple(at[within].T)]
    return bool(np.mean(~within) > _FAR_SHARE)


def find_brain(image: Foreground, turn: np.ndarray | None = None) -> Brain | None:
    """Find the brain in a head, or in a brain, of any contrast; None if there is none.

    Args:
        image: the head or brain.
        turn: [3, 3], rotation of the world under which the network looks at it; None:
            as it lies.

    Raises:
        UserError: Flax is not installed.
    """
    params, voxel = _weights()
    frame = np.eye(4)
    if turn is not None:
        frame[:3, :3] = turn
    small = coarsen(image)  # as it lies: rounding must not choose how coarse
    small = small._replace(affine=frame @ small.affine)
    centre = levels.box_middle(small)
    for _ in range(_LOOKS):
        volume, affine = levels.network_volume(small, centre, voxel, _SIZE)
        share = np.asarray(_program()(params, volume))
        inside = morphology.remove_specks(share > 0.5, 1.0)
        if voxel**3 * np.count_nonzero(inside) < _SMALLEST:
            return None
        centre = affine[:3, :3] @ ndimage.center_of_mass(inside) + affine[:3, 3]
    near = morphology.dilate(inside, (1, 1, 1))  # where shares fall below a half
    return Brain(np.where(near, share, 0), frame.T @ affine)


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
        brain_alone = crop(
            head.image[box], inside, weight, affine, clean=True, name=head.name
        )
    except errors.UserError:  # a thin part of it, or one without contrast
        return None
    return brain_alone._replace(estimated=True)


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
def _weights() -> tuple[layer_weights.Params, float]:
    """The parameters, and the voxel in mm of the volumes that they were learned on."""
    params, metadata = layer_weights.load(_FILE)
    return params, float(metadata["voxel"])
