"""Label maps of whole heads, from which the scanner in software makes images.

A map comes from a file of FreeSurfer's numbers (with those of SynthSeg and SimNIBS for
what lies outside the brain), or from the tissue maps of MNI152 that nilearn brings.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.data import downsample, landmarks, template, tissues
from mdvit_jax.io import image, voxels

# The box of a head in mm along x, y, z: a nose, and a neck as far as it goes down.
FIELD = (192.0, 240.0, 240.0)
_ABOVE = 6.0  # mm between the top of the head and that of the box
_CLOSING = 6.0  # mm; sulci up to twice as wide belong to the brain's mask
DEPTH_STEP = 0.5  # mm of one step of `Head.depth`


class Head(NamedTuple):
    """A label map of a whole head, RAS+. A batch of heads has leading axes throughout.

    Attributes:
        labels: uint8 [x, y, z], index into `tissues.NUMBERS`; 0 is air.
        depth: int8 [x, y, z], how deep below the surface of the brain a voxel lies, in
            steps of `DEPTH_STEP` mm up to ±127 of them; negative outside. The brain is
            all of `tissues.IN_BRAIN` with the fluid of its sulci.
        to_mm: float32 [4, 4], voxel indices → head space: mm along RAS+ from the
            brain's centre of mass.
        landmarks: float32 [landmarks, 3], what `landmarks.find_landmarks` says, in head
            space; NaN where the map has none.
    """

    labels: np.ndarray
    depth: np.ndarray
    to_mm: np.ndarray
    landmarks: np.ndarray


def read_head(path: str | Path, *, voxel: float = 2.0) -> Head:
    """Read a label map of a whole head.

    The result's voxels have the label that is most frequent in them (a lower index
    wins a tie). It spans `FIELD` mm, which is a box around the head from its top down.

    Args:
        path: an image file of whole numbers, in any orientation, of voxels of about
            1 mm; numbers from 500 on that are not known are taken as soft tissue.
        voxel: mm, of which 48 is a multiple: 1, 1.5, 2, 3, 4 or 6.

    Raises:
        UserError: the file cannot be read, has numbers below 500 that are not known,
            or has no brain.
    """
    source = image.load_labels(path)
    present = np.unique(source.data)
    unknown = present[~np.isin(present, tissues.NUMBERS) & (present < 500)]
    if unknown.size:
        raise errors.UserError(
            f"{path} has labels that are not known ({', '.join(map(str, unknown))}); "
            "a map of FreeSurfer's numbers is needed, of a head (fluid 24, tissue "
            "outside the brain from 500 on)."
        )
    return _head(source, str(path), voxel)


def read_heads(paths: Sequence[str | Path], *, voxel: float = 2.0) -> Head:
    """Read label maps into one batch: every field has a leading axis of `len(paths)`.

    Raises:
        UserError: as `read_head`; or there is no path.
    """
    if not paths:
        raise errors.UserError("There is no label map; name a folder that has some.")
    heads = [read_head(path, voxel=voxel) for path in paths]
    return Head(*(np.stack(parts) for parts in zip(*heads, strict=True)))


@functools.lru_cache(maxsize=2)
def mni152_head(*, voxel: float = 2.0) -> Head:
    """A head made from MNI152's tissue maps, which nilearn brings; see `read_head`.

    The brain has white matter, grey matter (as cortex) and fluid on both sides of the
    middle. Around it lie shells of fluid, bone with marrow, soft tissue and skin, and a
    neck below: the simplest possible head, as the template shows only the brain.
    """
    tissue = downsample.crop_to_content(template.mni152()[1])
    # Room for the shells on all sides and for a neck below; 1 mm, RAS+.
    room = 24
    labels = np.pad(tissue.data, [(room, room), (room, room), (80, room)])
    affine = tissue.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [room, room, 80]
    x, y, z = (
        affine[axis, axis] * np.arange(n) + affine[axis, 3]
        for axis, n in enumerate(labels.shape)
    )
    # Smoothed, as the shells around a brain do not follow its sulci.
    distance = ndimage.distance_transform_edt(labels == 0).astype(np.float32)
    distance = ndimage.gaussian_filter(distance, 2)
    right = (x > 0)[:, None, None]
    radius = np.hypot(x[:, None] / 55, (y[None] + 30) / 65)[..., None]
    neck = (z < -60) & (radius < 1)
    numbers = np.select(
        [
            labels == template.WHITE,
            labels == template.GREY,
            (labels == template.CSF) | (distance < 3),
            distance < 5,
            distance < 8,
            distance < 10,
            distance < 15,
            distance < 18,
            neck & (radius < 0.95),
            neck,
        ],
        [
            *(np.where(right, 41, 2), np.where(right, 42, 3)),
            *(24, 515, 516, 515, 507, 511, 507, 511),
        ],
    )
    return _head(image.from_array(numbers.astype(np.int32), affine), "MNI152", voxel)


def _head(source: image.Image, name: str, voxel: float) -> Head:
    """The map on a grid of `FIELD`, its brain's depth and its landmarks."""
    if (48 / voxel) % 1:
        raise ValueError(f"48 must be a multiple of the voxel size, which is {voxel}")
    largest = 288.0
    size = round(largest / voxel)
    to_world, fine = downsample.grid(
        source.data.shape, source.affine, size=size, field_of_view=largest
    )
    index = np.full(max(int(source.data.max()), 0) + 1, tissues.label_index(507))
    for position, number in enumerate(tissues.NUMBERS):
        index[number : number + 1] = position
    compact = image.from_array(index[source.data].astype(np.uint8), source.affine)
    labels = downsample.vote(compact, to_world, size, fine).astype(np.uint8)
    box = _box(labels != 0, voxel)
    labels = labels[box]
    brain = _close(tissues.IN_BRAIN[labels], labels, voxel)
    if not brain.any():
        raise errors.UserError(
            f"{name} has no label of a brain; a map of FreeSurfer's numbers is needed."
        )
    to_mm = to_world
    to_mm[:3, 3] = -to_mm[:3, :3] @ ndimage.center_of_mass(brain)
    return Head(
        labels,
        _depth(brain, voxel),
        to_mm.astype(np.float32),
        landmarks.find_landmarks(labels, brain, to_mm),
    )


def _close(brain: np.ndarray, labels: np.ndarray, voxel: float) -> np.ndarray:
    """The brain with the fluid and the vessels of its sulci, by a closing."""
    reach = _CLOSING / voxel
    dilated = ndimage.distance_transform_edt(~brain) <= reach
    closed = ndimage.distance_transform_edt(dilated) > reach
    soft = [
        i
        for i, n in enumerate(tissues.NUMBERS)
        if tissues.IN_BRAIN[i] or n in (24, 514)
    ]
    return brain | (closed & np.isin(labels, soft))


def _box(head: np.ndarray, voxel: float) -> tuple[slice, slice, slice]:
    """The part of a grid that `FIELD` spans: around the head, from its top down."""
    size = [round(length / voxel) for length in FIELD]
    spans = voxels.bounding_box(head)
    starts = [
        (span.start + span.stop - n) // 2
        for span, n in zip(spans[:2], size[:2], strict=True)
    ]
    starts.append(spans[2].stop + round(_ABOVE / voxel) - size[2])
    starts = [
        int(np.clip(start, 0, whole - n))
        for start, whole, n in zip(starts, head.shape, size, strict=True)
    ]
    x, y, z = (slice(s, s + n) for s, n in zip(starts, size, strict=True))
    return x, y, z


def _depth(brain: np.ndarray, voxel: float) -> np.ndarray:
    """Signed distance to the brain's surface, which lies between voxels."""
    inside, outside = (ndimage.distance_transform_edt(part) for part in (brain, ~brain))
    distance = np.where(brain, inside - 0.5, 0.5 - outside) * voxel
    return np.clip(np.round(distance / DEPTH_STEP), -127, 127).astype(np.int8)
