"""Landmarks that any two brains have, to fit an affine between two people.

The centres of mass of its structures say how a brain lies, but little of how large it
is; its outermost parts in all directions say that.
"""

import itertools

import numpy as np
from scipy import ndimage

from mdvit_jax.data import tissues

# From the centre of a cube to its corners and the middles of its edges and faces.
_DIRECTIONS = np.array([d for d in itertools.product((-1, 0, 1), repeat=3) if any(d)])
_OUTERMOST = 0.1  # part of the brain, of which a landmark is the centre of mass

# The partner of each label on the other side of the head; a label of both is its own.
_RIGHT_OF_LEFT = {
    **{left: left + 39 for left in (2, 3, 4, 5, 7, 8, 10, 11, 12, 13)},
    **{17: 53, 18: 54, 26: 58, 28: 60, 30: 62, 31: 63, 25: 57, 136: 163, 137: 164},
}
_PARTNER = _RIGHT_OF_LEFT | {right: left for left, right in _RIGHT_OF_LEFT.items()}
# For each landmark the index of the one that takes its place in the mirror.
MIRRORED = np.array(
    [
        *(tissues.label_index(_PARTNER.get(n, n)) for n in tissues.NUMBERS),
        *(
            len(tissues.NUMBERS) + np.argmax((mirrored == _DIRECTIONS).all(axis=1))
            for mirrored in _DIRECTIONS * [-1, 1, 1]
        ),
    ]
)


def find_landmarks(
    labels: np.ndarray, brain: np.ndarray, to_mm: np.ndarray
) -> np.ndarray:
    """The landmarks of a label map, float32 [len(MIRRORED), 3] in mm.

    First the centre of mass of each of `tissues.NUMBERS`, NaN where the brain has none
    of it; then that of the outermost tenth of the brain in 26 directions, which are
    those of the brain's own axes, however the head is tilted.

    Args:
        labels: [x, y, z], indices into `tissues.NUMBERS`.
        brain: bool [x, y, z].
        to_mm: 4×4, voxel indices → mm along RAS+.
    """
    centres = np.full((len(tissues.NUMBERS), 3), np.nan)
    present = [i for i in np.unique(labels) if tissues.IN_BRAIN[i]]
    centres[present] = ndimage.center_of_mass(labels > 0, labels, present)
    centres = centres @ to_mm[:3, :3].T + to_mm[:3, 3]
    points = np.argwhere(brain) @ to_mm[:3, :3].T + to_mm[:3, 3]
    count = max(1, int(_OUTERMOST * len(points)))
    outermost = []
    for direction in _DIRECTIONS @ _own_axes(centres):
        order = np.argpartition(points @ direction, len(points) - count)
        outermost.append(points[order[-count:]].mean(axis=0))
    return np.concatenate([centres, outermost]).astype(np.float32)


def _own_axes(centres: np.ndarray) -> np.ndarray:
    """The brain's axes to the right, the front and the top, as rows, [3, 3].

    To the right is from the left structures to the right ones, to the front is from the
    cerebellum to the nuclei accumbentes. Where these lack, the axes are the map's.
    """

    def centre(*numbers: int) -> np.ndarray:
        return centres[[tissues.label_index(n) for n in numbers]].mean(axis=0)

    right = np.nansum(
        [centre(other) - centre(left) for left, other in _RIGHT_OF_LEFT.items()], axis=0
    )
    front = centre(26, 58) - centre(8, 47)
    if not np.isfinite(front).all():
        return np.eye(3)
    right /= np.linalg.norm(right)
    front -= (front @ right) * right
    front /= np.linalg.norm(front)
    return np.stack([right, front, np.cross(right, front)])
