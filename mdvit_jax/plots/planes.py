"""Three planes of the head, and the slices of an image in them.

A slice `[up, right]` is seen in the neurological convention: the person's left is on
the left, anterior is up (axial) or right (sagittal), superior is up. Whatever the axes
of a file, the planes are those of the world.
"""

from typing import NamedTuple

import numpy as np

from mdvit_jax import transforms
from mdvit_jax.io.grid import Grid
from mdvit_jax.io.image import Image

CONVENTION = "The person's left is on the left (neurological)."
ACROSS = 220  # pixels along the longest side of a box
_BESIDE = 0.12  # of the width, by which the sagittal plane misses the falx
_SAMPLED = 1 << 18  # voxels from which the range of brightness is estimated


class Plane(NamedTuple):
    """A plane of the head.

    Attributes:
        name: in pictures.
        axis: of the volume [x, y, z] that it cuts.
        letters: at the left, right, top and bottom of its slices.
    """

    name: str
    axis: int
    letters: str


PLANES = (
    Plane("Axial", 2, "LRAP"),
    Plane("Coronal", 1, "LRSI"),
    Plane("Sagittal", 0, "PASI"),
)


class Box(NamedTuple):
    """The part of the world that is shown.

    Attributes:
        low, high: its lowest and highest corner, world RAS+ mm, [3].
        centre: where the planes cross, [3]; the sagittal one lies to the right of it,
            as little is seen of the falx.
    """

    low: np.ndarray
    high: np.ndarray
    centre: np.ndarray

    def grid(self, plane: Plane) -> Grid:
        """The pixels of a plane: a grid of one voxel along the axis that it cuts."""
        cut, sides = plane.axis, self.high - self.low
        step = sides.max() / ACROSS
        affine = np.diag([step, step, step, 1.0])
        affine[:3, 3] = self.low
        affine[cut, 3] = self.centre[cut] + (_BESIDE * sides[0] if cut == 0 else 0)
        x, y, z = (
            1 if axis == cut else int(np.ceil(side / step)) + 1
            for axis, side in enumerate(sides)
        )
        return Grid((x, y, z), affine)


def sample_slices(
    image: Image, box: Box, fixed_to_moving: np.ndarray | None = None
) -> list[np.ndarray]:
    """An image in each of `PLANES`, [up, right], black 0 to white 1.

    Args:
        image: what is shown; black outside of its voxels.
        box: of the fixed image's world.
        fixed_to_moving: 4×4, from there to the image's world, RAS+ mm; None if it is
            the same.
    """
    low, high = _brightness_range(image)
    matrix = np.eye(4) if fixed_to_moving is None else fixed_to_moving
    slices = []
    for plane in PLANES:
        grid = box.grid(plane)
        values = transforms.resample(
            image.data, image.affine, matrix, grid, fill=low, dtype=np.dtype(np.float32)
        )
        values = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
        slices.append(values.reshape([n for n in grid.shape if n > 1]).T)
    return slices


def _brightness_range(image: Image) -> tuple[float, float]:
    """The values drawn as black and as white.

    A value that many voxels share is the background, which the percentiles leave out.
    """
    step = max(2, round((image.data.size / _SAMPLED) ** (1 / 3)))
    some = image.data[::step, ::step, ::step].astype(np.float32).ravel()
    values, counts = np.unique(some, return_counts=True)
    common = values[np.argmax(counts)]
    has_background = counts.max() > some.size / 5
    others = some[some != common] if has_background else some
    low, high = np.percentile(others if others.size else some, (0.5, 99.5))
    low = min(low, common) if has_background else low
    return float(low), float(high)
