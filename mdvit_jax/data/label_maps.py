"""Label maps of whole heads: what the scanner in software makes its images of.

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
from mdvit_jax.data import nifti, resample, template

# Tissues, and the numbers of the labels that consist of them. Left and right are told
# apart by the label, but are of one tissue.
TISSUES = {
    "air": (0,),
    "white matter": (2, 41),
    "cortex": (3, 42),
    "fluid": (24,),
    "ventricles": (4, 43, 5, 44, 14, 15, 72),
    "cerebellar white matter": (7, 46),
    "cerebellar cortex": (8, 47),
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "brain stem": (16,),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "accumbens": (26, 58),
    "ventral diencephalon": (28, 60),
    "vessels": (30, 62),
    "choroid plexus": (31, 63, 136, 163, 137, 164),
    "lesions": (25, 57, 77),
    "optic chiasm": (85,),
    "air in the head": (502,),
    "eyes": (506,),
    "soft tissue": (507,),
    "eye muscles": (508,),
    "mucosa": (509,),
    "skin": (511,),
    "spinal cord": (512,),
    "veins": (514,),
    "cortical bone": (515,),
    "cancellous bone": (516,),
    "optic nerves": (530,),
}
# The number of each label of a `Head`, and the index of its tissue in `TISSUES`.
NUMBERS = np.array([n for numbers in TISSUES.values() for n in numbers])
TISSUE_OF_LABEL = np.array(
    [i for i, numbers in enumerate(TISSUES.values()) for _ in numbers]
)
_OUTSIDE_BRAIN = ("air", "fluid")  # besides all numbers from 500 on
IN_BRAIN = (NUMBERS < 500) & ~np.isin(
    TISSUE_OF_LABEL, [list(TISSUES).index(name) for name in _OUTSIDE_BRAIN]
)
# The partner of each label on the other side of the head; a label of both is its own.
_LEFT_RIGHT = {
    **{left: left + 39 for left in (2, 3, 4, 5, 7, 8)},
    **{left: left + 39 for left in (10, 11, 12, 13)},
    **{17: 53, 18: 54, 26: 58, 28: 60, 30: 62, 31: 63, 25: 57, 136: 163, 137: 164},
}
_PARTNER = _LEFT_RIGHT | {right: left for left, right in _LEFT_RIGHT.items()}
MIRRORED = np.array(
    [NUMBERS.tolist().index(_PARTNER.get(n, n)) for n in NUMBERS.tolist()]
)

# The box of a head in mm along x, y, z: a nose, and a neck as far as it goes down.
FIELD = (192.0, 240.0, 240.0)
_ABOVE = 6.0  # mm between the top of the head and that of the box
_CLOSING = 6.0  # mm; sulci up to twice as wide belong to the brain's mask
DEPTH_STEP = 0.5  # mm of one step of `Head.depth`


class Head(NamedTuple):
    """A label map of a whole head, RAS+. A batch of heads has leading axes throughout.

    Attributes:
        labels: uint8 [x, y, z], index into `NUMBERS` (and `TISSUE_OF_LABEL`); 0 is air.
        depth: int8 [x, y, z], how deep below the surface of the brain a voxel lies, in
            steps of `DEPTH_STEP` mm up to ±127 of them; negative outside. The brain is
            all of `IN_BRAIN` with the fluid of its sulci.
        to_mm: float32 [4, 4], voxel indices → head space: mm along RAS+ from the
            brain's centre of mass.
        landmarks: float32 [len(NUMBERS), 3], the centre of mass of each label of the
            brain in head space; NaN where the map has none of it.
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
            1 mm; numbers from 500 on that `NUMBERS` lacks are taken as soft tissue.
        voxel: mm, of which 48 is a multiple: 1, 1.5, 2, 3, 4 or 6.

    Raises:
        UserError: the file cannot be read, has numbers below 500 that are not known,
            or has no brain.
    """
    source = nifti.load_labels(path)
    present = np.unique(source.data)
    unknown = present[~np.isin(present, NUMBERS) & (present < 500)]
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
    """A head made of MNI152's tissue maps, which nilearn brings; see `read_head`.

    The brain has white matter, grey matter (as cortex) and fluid on both sides of the
    middle. Around it lie shells of fluid, bone with marrow, soft tissue and skin, open
    below to a neck; the template itself shows no more than the brain.
    """
    _, tissue, mask = template.mni152()
    margin = 60
    labels = np.pad(tissue.data, margin)
    affine = tissue.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, margin)
    # A brain without its sulci has a smooth surface, and so have the shells around it.
    distance = ndimage.distance_transform_edt(labels == 0)
    distance = ndimage.gaussian_filter(distance.astype(np.float32), 2)
    right = affine[0, 0] * np.arange(len(labels)) + affine[0, 3] > 0
    white, grey = np.where(right, 41, 2), np.where(right, 42, 3)
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
        ],
        [white[:, None, None], grey[:, None, None], 24, 515, 516, 515, 507, 511],
    )
    height = affine[2, 2] * np.arange(labels.shape[2]) + affine[2, 3]
    x, y = (
        affine[axis, axis] * np.arange(labels.shape[axis]) + affine[axis, 3]
        for axis in (0, 1)
    )
    radius = np.hypot(x[:, None] / 55, (y[None] + 30) / 65)
    neck = (numbers == 0) & (height < -60) & (radius < 1)[..., None]
    numbers = np.where(neck, np.where(radius < 0.95, 507, 511)[..., None], numbers)
    return _head(nifti.Volume(numbers.astype(np.int32), affine), "MNI152", voxel)


def _head(source: nifti.Volume, name: str, voxel: float) -> Head:
    """The map on a grid of `FIELD`, its brain's depth and its landmarks."""
    if (48 / voxel) % 1:
        raise ValueError(f"48 must be a multiple of the voxel size, which is {voxel}")
    largest = 288.0
    size = round(largest / voxel)
    to_world, fine = resample.grid(
        source.data.shape, source.affine, size=size, field_of_view=largest
    )
    index = np.full(max(int(source.data.max()), 0) + 1, NUMBERS.tolist().index(507))
    for position, number in enumerate(NUMBERS):
        index[number : number + 1] = position
    compact = nifti.Volume(index[source.data].astype(np.uint8), source.affine)
    labels = resample.vote(compact, to_world, size, fine).astype(np.uint8)
    brain = _close(IN_BRAIN[labels], labels, voxel)
    if not brain.any():
        raise errors.UserError(
            f"{name} has no label of a brain; a map of FreeSurfer's numbers is needed."
        )
    box = _box(labels != 0, voxel)
    to_world[:3, 3] += to_world[:3, :3] @ [part.start for part in box]
    labels, brain = labels[box], brain[box]
    depth = _depth(brain, voxel)
    to_mm = to_world
    centre = np.array(ndimage.center_of_mass(brain))
    to_mm[:3, 3] = -to_mm[:3, :3] @ centre
    return Head(labels, depth, to_mm.astype(np.float32), _landmarks(labels, to_mm))


def _close(brain: np.ndarray, labels: np.ndarray, voxel: float) -> np.ndarray:
    """The brain with the fluid and the vessels of its sulci, by a closing."""
    reach = _CLOSING / voxel
    dilated = ndimage.distance_transform_edt(~brain) <= reach
    closed = ndimage.distance_transform_edt(dilated) > reach
    soft = [i for i, n in enumerate(NUMBERS) if IN_BRAIN[i] or n in (24, 514)]
    return brain | (closed & np.isin(labels, soft))


def _box(head: np.ndarray, voxel: float) -> tuple[slice, slice, slice]:
    """The part of a grid that `FIELD` spans: around the head, from its top down."""
    size = [round(length / voxel) for length in FIELD]
    spans = [
        np.flatnonzero(head.any(axis=others))[[0, -1]]
        for others in ((1, 2), (0, 2), (0, 1))
    ]
    starts = [
        (first + last + 1 - n) // 2
        for (first, last), n in zip(spans[:2], size[:2], strict=True)
    ]
    starts.append(spans[2][1] + 1 + round(_ABOVE / voxel) - size[2])
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


def _landmarks(labels: np.ndarray, to_mm: np.ndarray) -> np.ndarray:
    present = [i for i in np.unique(labels) if IN_BRAIN[i]]
    result = np.full((len(NUMBERS), 3), np.nan, np.float32)
    centres = np.array(ndimage.center_of_mass(np.ones_like(labels), labels, present))
    result[present] = centres @ to_mm[:3, :3].T + to_mm[:3, 3]
    return result
