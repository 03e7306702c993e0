"""The average of scans under transforms, and how sharp it is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mdvit_jax import transforms
from mdvit_jax.io.grid import Grid
from mdvit_jax.registration.foreground import Foreground

_RIM = 3.0  # mm of the average that its sharpness leaves out


class Average(NamedTuple):
    """Scans added up, voxel by voxel.

    Attributes:
        grid: along the axes of the world, around all scans; its voxel centres are whole
            multiples of their size, whatever the scans.
        brightness: [x, y, z] float64, so that the order of the scans makes no
            difference: the sum of the images of the foregrounds.
        inside: [x, y, z] float64, how many of them have foreground there.
        scans: how many there are.
    """

    grid: Grid
    brightness: np.ndarray
    inside: np.ndarray
    scans: int

    @property
    def majority(self) -> np.ndarray:
        """[x, y, z] bool, where at least half of the scans have foreground."""
        return self.inside >= self.scans / 2

    @property
    def image(self) -> np.ndarray:
        """[x, y, z] float32, the mean of those that have foreground; 0 elsewhere."""
        mean = self.brightness / np.maximum(self.inside, 0.5)
        return np.where(self.majority, mean, 0).astype(np.float32)

    def without(self, foreground: Foreground, to_scan: np.ndarray) -> "Average":
        """The average of the others.

        Args:
            foreground: of the scan that is left out.
            to_scan: 4×4, the average's space → that scan, world RAS+ mm.
        """
        brightness, inside = _warp(foreground, to_scan, self.grid)
        return Average(
            self.grid,
            self.brightness - brightness,
            self.inside - inside,
            self.scans - 1,
        )

    def sharpness(self) -> float:
        """Mean gradient within the foreground, in parts of its range per mm."""
        voxel = float(self.grid.voxel_sizes[0])
        interior = ndimage.binary_erosion(
            self.majority, iterations=max(1, round(_RIM / voxel))
        )
        gradient = np.stack(np.gradient(self.image, voxel))
        return float(np.linalg.norm(gradient, axis=0)[interior].mean())

    def points(self, spacing: float) -> np.ndarray:
        """[n, 3] world RAS+ mm, points of the foreground, about `spacing` mm apart."""
        step = max(1, round(spacing / float(self.grid.voxel_sizes[0])))
        index = step * np.argwhere(self.majority[::step, ::step, ::step])
        return index @ self.grid.affine[:3, :3].T + self.grid.affine[:3, 3]


def average_scans(
    foregrounds: Sequence[Foreground], matrices: Sequence[np.ndarray], voxel: float
) -> Average:
    """Add up scans in one space.

    Args:
        foregrounds: theirs.
        matrices: 4×4 each, from that space to the scan, world RAS+ mm.
        voxel: mm, of the grid.
    """
    grid = _surrounding_grid(foregrounds, matrices, voxel)
    brightness, inside = np.zeros(grid.shape), np.zeros(grid.shape)
    for foreground, matrix in zip(foregrounds, matrices, strict=True):
        warped = _warp(foreground, matrix, grid)
        brightness += warped[0]
        inside += warped[1]
    return Average(grid, brightness, inside, len(foregrounds))


def _warp(
    foreground: Foreground, matrix: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Image and foreground of a scan on a grid, [x, y, z] float32."""
    image, inside = (
        transforms.resample(data, foreground.affine, matrix, grid)
        for data in (foreground.image, foreground.inside.astype(np.float32))
    )
    return image, inside


def _surrounding_grid(
    foregrounds: Sequence[Foreground], matrices: Sequence[np.ndarray], voxel: float
) -> Grid:
    corners = []
    for foreground, matrix in zip(foregrounds, matrices, strict=True):
        last = np.array(foreground.image.shape) - 1
        ends = np.array([*np.ndindex(2, 2, 2)]) * last
        to_space = np.linalg.inv(matrix) @ foreground.affine
        corners.append(ends @ to_space[:3, :3].T + to_space[:3, 3])
    low = np.floor(np.min(corners, axis=(0, 1)) / voxel).astype(int)
    high = np.ceil(np.max(corners, axis=(0, 1)) / voxel).astype(int)
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = low * voxel
    x, y, z = (high - low + 1).tolist()
    return Grid((x, y, z), affine)
