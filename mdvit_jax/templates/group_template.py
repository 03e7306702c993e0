"""Several scans → the space in their middle, and their average there.

Each scan is registered to the average of the others and moved towards it, the mean of
all transforms is taken out, and so on with the new average, until no scan moves.
After the first round a scan's place is refined only, so that no round can jump.
Nothing depends on the order of the scans, and none is the one that others are
registered to: it begins with the centres laid on each other, in the orientation of the
headers. After Joshi et al. (2004), and Reuter et al. (2012) for scans of one person.
"""

import itertools
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mdvit_jax import errors, transforms
from mdvit_jax.io import coerce, image
from mdvit_jax.io.image import Image
from mdvit_jax.registration import levels, quality, search, similarity_metrics
from mdvit_jax.registration.foreground import Foreground, segment_foreground
from mdvit_jax.registration.quality import Quality
from mdvit_jax.registration.register import register
from mdvit_jax.registration.search import Alignment
from mdvit_jax.templates.scan_average import Average, average_scans

TOLERANCE = 0.05  # mm, how far a round may move points when it is the last
_ROUNDS = 20
# mm, of the averages on the way: the registration's finest voxels are of about 2 mm.
_COARSE = 1.5
_SPACING = 8.0  # mm between the points whose way is measured

_log = logging.getLogger(__name__)


class Round(NamedTuple):
    """One average, and what the registrations to it did.

    Attributes:
        sharpness: of the average, on voxels of 1.5 mm; see `Average.sharpness`.
        shift: mm, how far they took a point of a scan at most.
    """

    sharpness: float
    shift: float


class ScanPlace(NamedTuple):
    """Where a scan lies.

    Attributes:
        matrix: 4×4 template → scan, world RAS+ mm.
        quality: of its place in the average of the others, in the last round.
    """

    matrix: np.ndarray
    quality: Quality


class GroupTemplate(NamedTuple):
    """The average of scans in the space in their middle.

    Attributes:
        template: the average, float32, on a grid along the axes of the world. Where at
            least half of the scans have foreground it is the mean of these, each scaled
            so that 0 and 1 are the 0.5th and 99.5th percentile of its foreground;
            elsewhere it is 0.
        scans: where each lies, in the given order.
        rounds: one after the other; the last one is that of the template, after which
            there were no registrations.
        converged: whether the last registrations moved no point by `TOLERANCE`.
    """

    template: Image
    scans: list[ScanPlace]
    rounds: list[Round]
    converged: bool


def build_template(
    scans: Sequence[Any],
    *,
    masks: Sequence[Any] | None = None,
    dof: str = "affine",
    voxel: float | None = None,
) -> GroupTemplate:
    """Average scans in the space in their middle.

    The exponential barycentre (`transforms.average`) of the transforms from the
    template to the scans is the identity: the template has their mean position,
    orientation, size and shear. All scans are held in memory.

    Args:
        scans: two or more, each a path, a nibabel image, or a pair of an array
            [x, y, z] and its 4×4 affine.
        masks: of each scan or None, an image on its grid, above 0 where it counts.
        dof: "rigid" for scans of one person, "similarity" or "affine" for people.
        voxel: mm, of the template; None is the geometric mean of those of the scans.

    Raises:
        UserError: fewer than two scans, or one that cannot be used.
    """
    if len(scans) < 2:
        raise errors.UserError("a template is made of two scans or more; name more.")
    names = [f"scan {number}" for number in range(1, len(scans) + 1)]
    images = [coerce.to_image(*pair) for pair in zip(scans, names, strict=True)]
    masks = list(masks or [None] * len(scans))
    foregrounds = [
        _segment(*triple) for triple in zip(images, masks, names, strict=True)
    ]
    if voxel is None:
        sizes = [scan.grid.voxel_sizes for scan in images]
        voxel = round(float(np.exp(np.mean(np.log(sizes)))), 3)
    matrices = _lay_centres_together(foregrounds)
    average = average_scans(foregrounds, matrices, _COARSE)
    places: list[_Place] = []
    rounds: list[Round] = []
    converged = False
    while not converged and len(rounds) < _ROUNDS:
        # An average that a scan is part of would hold it where it is.
        both = zip(foregrounds, matrices, strict=True)
        others = itertools.starmap(average.without, both)
        if not places:
            places = [
                _find_place(*triple, dof)
                for triple in zip(others, images, masks, strict=True)
            ]
        else:
            places = [
                _refine_place(*quadruple, dof)
                for quadruple in zip(others, foregrounds, matrices, places, strict=True)
            ]
        moved = _move(matrices, [place.alignment.matrix for place in places])
        shift = _largest_shift(average.points(_SPACING), matrices, moved)
        rounds.append(Round(average.sharpness(), shift))
        _log.info(
            "Round %d moved points by up to %.3f mm (sharpness of its average: %.4f).",
            len(rounds),
            shift,
            rounds[-1].sharpness,
        )
        matrices, converged = moved, shift < TOLERANCE
        average = average_scans(foregrounds, matrices, _COARSE)
    rounds.append(Round(average.sharpness(), 0.0))
    average = average_scans(foregrounds, matrices, voxel)
    template = image.from_array(average.image, average.grid.affine)
    scans_placed = [
        ScanPlace(matrix, place.quality)
        for matrix, place in zip(matrices, places, strict=True)
    ]
    return GroupTemplate(template, scans_placed, rounds, converged)


class _Place(NamedTuple):
    """Where a scan lies in the average of the others: 4×4 average → scan, and so on."""

    alignment: Alignment
    quality: Quality


def _find_place(others: Average, scan: Image, mask: Any, dof: str) -> _Place:
    average = others.image, others.grid.affine
    result = register(average, scan, dof=dof, moving_mask=mask)
    assert result.alignment is not None  # as it was refined
    return _Place(result.alignment, result.quality)


def _refine_place(
    others: Average,
    foreground: Foreground,
    matrix: np.ndarray,
    last: _Place,
    dof: str,
) -> _Place:
    average = segment_foreground(
        others.image, others.grid.affine, name="the average of the others"
    )
    pair = levels.build_pair(average, foreground)
    previous = last.alignment._replace(matrix=matrix)
    alignment = search.refine_previous(pair, previous, dof=dof)
    measures = similarity_metrics.measure(pair, alignment.matrix)
    return _Place(
        alignment, quality.assess(alignment.matrix, measures, alignment, dof=dof)
    )


def _segment(scan: Image, mask: Any, name: str) -> Foreground:
    name = scan.path or name
    inside = None if mask is None else coerce.to_mask(mask, scan, name)
    return segment_foreground(scan.data, scan.affine, mask=inside, name=name)


def _lay_centres_together(foregrounds: Sequence[Foreground]) -> list[np.ndarray]:
    """4×4 shifts from the mean of the centres to each of them."""
    centres = np.array([foreground.centre for foreground in foregrounds])
    result = np.tile(np.eye(4), (len(centres), 1, 1))
    result[:, :3, 3] = centres - centres.mean(0)
    return list(result)


def _move(
    matrices: Sequence[np.ndarray], to_others: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The transforms after a round; their mean is the identity.

    The mean of all n scans lies (n - 1) / n of the way from a scan to the mean of the
    others, so that far each goes: of two, each half of the way to the other.

    Args:
        matrices: template → scan.
        to_others: average of the other scans → scan.
    """
    part = (len(matrices) - 1) / len(matrices)
    moved = [
        matrix @ transforms.power(np.linalg.inv(matrix) @ other, part)
        for matrix, other in zip(matrices, to_others, strict=True)
    ]
    new_to_old = np.linalg.inv(transforms.average(moved))
    return [matrix @ new_to_old for matrix in moved]


def _largest_shift(
    points: np.ndarray, before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> float:
    """How far apart transforms take a point at most, in mm."""
    apart = np.array(before) - np.array(after)
    offsets = points @ apart[:, :3, :3].transpose(0, 2, 1) + apart[:, None, :3, 3]
    return float(np.linalg.norm(offsets, axis=-1).max())
