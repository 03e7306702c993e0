"""Whole heads: synthetic ones, whose truth is known, and real ones from two starts.

The synthetic ones come from the label maps 17 to 20 of synthseg_labels, from which no
network has learned, by `data.random_scans`: two scans of a person of any contrast, not
cut through the brain.
The real ones are of lhdata (T1 and T2 of six people, two of them held out) and open_ms
(T1, T2 and FLAIR).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from benchmarks.registration import scans
from benchmarks.registration.cases import KnownAffine, MaskedPair, affine_about
from mdvit_jax.data import label_maps, random_scans, template
from mdvit_jax.io import image as images

DRAWS, HELD_OUT_DRAWS = range(8), range(8, 16)  # two people from each label map
_LHDATA = tuple(
    (f"lhdata/sub-0{n}_T1w", f"lhdata/sub-0{n}_inplaneT2") for n in range(1, 7)
)
SESSIONS = (
    *_LHDATA[:4],
    *(("open_ms/patient01_T1W", f"open_ms/patient01_{c}") for c in ("T2W", "FLAIR")),
)
HELD_OUT_SESSIONS = _LHDATA[4:]
_SETTINGS = random_scans.ANY._replace(stripped=0.0, slab=0.0, cut_top=0.0)
_ACQUISITIONS = "volume of 1.5 mm", "axial slices of 5 mm"
_DEGREES, _SHIFT = 15.0, 20.0  # mm, of the second start from the first
_RADIUS = 70.0  # mm of a ball in a head whose brain is not known
# mm of fluid around the brain that MNI152's mask has, and those of common programs.
_RIM = 2.0


class TwoRuns(NamedTuple):
    """A registration, and another one from whose answer that of the first follows.

    Attributes:
        fixed, moving: of the first.
        second: the fixed and the moving image of the second.
        expect: the matrix of the second → that of the first, world RAS+ mm.
        points: [n, 3] world RAS+ mm, in the fixed image.
    """

    fixed: images.Image
    moving: images.Image
    second: tuple[images.Image, images.Image]
    expect: Callable[[np.ndarray], np.ndarray]
    points: np.ndarray

    def measure(self, first: np.ndarray, second: np.ndarray) -> float:
        """How far apart the two answers take the points, mean in mm."""
        off = (first - self.expect(second))[:3]
        moved = self.points @ off[:, :3].T + off[:, 3]
        return float(np.linalg.norm(moved, axis=1).mean())


def to_template(number: int, stripped: bool) -> MaskedPair:
    """MNI152 at 1 mm, fixed, and the whole head of a draw or its brain alone."""
    pair, (fixed, mask) = _pair(number), _template()
    affine = pair.fixed.affine
    away = ndimage.distance_transform_edt(
        np.asarray(pair.masks[0].dataobj) < 0.5,
        sampling=np.linalg.norm(affine[:3, :3], axis=0),
    )
    inside = away <= _RIM
    data = np.asarray(pair.fixed.dataobj)
    if stripped:
        data = np.where(inside, data, data.min())
    moving_mask = scans.image(inside, affine)
    return MaskedPair(fixed, scans.image(data, affine), mask, moving_mask)


def to_a_head(number: int) -> KnownAffine:
    """Two whole heads of one person, each of its own contrast and acquisition."""
    pair = _pair(number)
    fixed, moving = _image(pair.fixed), _image(pair.moving)
    return KnownAffine(fixed, moving, pair.fixed_to_moving, pair.brain)


def turned(number: int) -> TwoRuns:
    """A whole head to MNI152, as its header says and in a random orientation."""
    case = to_template(number, stripped=False)
    turn = Rotation.random(rng=np.random.default_rng(number)).as_matrix()
    turn = affine_about(_centre(case.moving), turn, np.zeros(3))
    return _moved(case.fixed, case.moving, turn, _points(case.fixed_mask))


def both_ways(number: int) -> TwoRuns:
    """A whole head to MNI152, and MNI152 to the head."""
    case = to_template(number, stripped=False)
    both = case.moving, case.fixed
    points = _points(case.fixed_mask)
    return TwoRuns(case.fixed, case.moving, both, np.linalg.inv, points)


def two_starts(fixed: str, moving: str) -> TwoRuns:
    """Two scans of a session, from their headers, and from 15° and 20 mm off."""
    one, other = load(fixed), load(moving)
    axis, shift = np.array([1, 2, 2]) / 3, np.array([2, -1, 2]) / 3
    turn = Rotation.from_rotvec(np.radians(_DEGREES) * axis).as_matrix()
    away = affine_about(_centre(other), turn, _SHIFT * shift)
    return _moved(one, other, away, ball(_centre(one)))


def load(name: str) -> images.Image:
    """The scan of a name DATA SET/FILE."""
    data_set, file = name.split("/")
    return images.load(scans.folder(data_set) / f"{file}.nii.gz")


def ball(centre: np.ndarray) -> np.ndarray:
    """Points [n, 3] of a ball about a head's centre, world RAS+ mm."""
    points = np.mgrid[-1:1:9j, -1:1:9j, -1:1:9j].reshape(3, -1).T
    return _RADIUS * points[np.linalg.norm(points, axis=1) <= 1] + centre


def _moved(fixed, moving, matrix: np.ndarray, points: np.ndarray) -> TwoRuns:
    """A pair, and the same with a header of the moving image that is moved."""
    grid = moving.grid._replace(affine=matrix @ moving.affine)
    second = fixed, moving._replace(grid=grid)
    back = np.linalg.inv(matrix)
    return TwoRuns(fixed, moving, second, lambda answer: back @ answer, points)


@functools.lru_cache(maxsize=1)
def _pair(number: int) -> random_scans.Pair:
    name = f"training_seg_{17 + number % 4}.nii.gz"
    path = scans.folder("synthseg_labels") / name
    return random_scans.random_pair(
        number,
        label_maps.read_heads([path]),
        settings=_SETTINGS,
        two_people=0.0,
        acquisitions=_ACQUISITIONS,
    )


@functools.lru_cache(maxsize=1)
def _template() -> tuple[images.Image, images.Image]:
    brain, _, mask = template.mni152()
    affine = brain.affine
    return scans.image(brain.data, affine), scans.image(mask.data, affine)


def _image(image: nib.Nifti1Image) -> images.Image:
    return scans.image(np.asarray(image.dataobj), image.affine)


def _points(mask: images.Image) -> np.ndarray:
    affine = mask.affine
    return np.argwhere(mask.data > 0)[::500] @ affine[:3, :3].T + affine[:3, 3]


def _centre(image: images.Image) -> np.ndarray:
    middle = (np.array(image.data.shape) - 1) / 2
    return image.affine[:3, :3] @ middle + image.affine[:3, 3]
