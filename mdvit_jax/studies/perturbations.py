"""Changes of the moving scan before it is aligned: contrast, rotation, affine."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from mdvit_jax.data import conform
from mdvit_jax.evaluation import scoring


class Perturbation(NamedTuple):
    """A change of the moving scan's brightness, a movement, or both.

    Attributes:
        name: in tables and files; empty where nothing changes.
        gamma: power to which the brightness in [0, 1] is taken.
        to_original: 4×4, normalised coordinates of the moved scan → of the original
            one; None where it is not moved.
    """

    name: str
    gamma: float = 1.0
    to_original: np.ndarray | None = None

    def recolour(self, scan: conform.Conformed) -> conform.Conformed:
        """The scan with its brightness changed, not moved."""
        if self.gamma == 1:
            return scan
        return scan._replace(image=np.asarray(scan.image, np.float32) ** self.gamma)

    def move(self, scan: conform.Conformed) -> conform.Conformed:
        """The scan resampled at its new place.

        Image: linear; mask: linear, then ≥ 0.5; labels: nearest voxel; 0 from outside.
        The image is not cut at its mask: that of a conformed scan ends softly, too.
        """
        if self.to_original is None:
            return scan
        scan = scan._replace(image=np.asarray(scan.image, np.float32))
        return scoring.warp_scan(scan, self.to_original, threshold=0.5)


UNPERTURBED = Perturbation("")
AFFINES = "rotations ±20°, scales 0.85–1.15, shears ±0.1, shifts ±15 mm, uniform"


def contrast(gamma: float) -> Perturbation:
    """Brightness to the power of gamma (paper 3.2, Contrast Analysis)."""
    return UNPERTURBED if gamma == 1 else Perturbation(f"gamma {gamma:g}", gamma)


def rotation(axis: str, degrees: float) -> Perturbation:
    """A rotation about the centre of the grid (paper 3.2, Rotation Study).

    Args:
        axis: "x" (to the right), "y" (to the front) or "z" (up); by the right hand.
        degrees: the angle.
    """
    if degrees % 360 == 0:
        return UNPERTURBED
    to_original = np.eye(4, dtype=np.float32)
    turn = Rotation.from_euler(axis, -degrees, degrees=True)
    to_original[:3, :3] = turn.as_matrix()
    return Perturbation(f"{axis} {degrees:g}°", to_original=to_original)


def affine(seed: int, gamma: float, field_of_view: float) -> Perturbation:
    """A random affine (`AFFINES`) about the centre of the grid, and a gamma.

    Args:
        seed: draws the affine.
        gamma: power to which the brightness is taken.
        field_of_view: of the cubic grid, in mm.
    """
    to_original = np.eye(4, dtype=np.float32)
    linear, shift = draw_affine(np.random.default_rng(seed), degrees=20)
    to_original[:3, :3] = linear
    to_original[:3, 3] = shift / (field_of_view / 2)
    name = f"affine {seed}" + ("" if gamma == 1 else f", gamma {gamma:g}")
    return Perturbation(name, gamma, to_original)


def draw_affine(
    random: np.random.Generator, *, degrees: float
) -> tuple[np.ndarray, np.ndarray]:
    """A random affine of the size of head movements and differences between people.

    All uniform: rotations about each axis within ± `degrees`, scales from 0.85 to 1.15,
    shears within ±0.1, shifts within ±15 mm along each axis.

    Returns:
        linear [3, 3] and shift [3] in mm.
    """
    angles = random.uniform(-degrees, degrees, 3)
    scales = np.diag(random.uniform(0.85, 1.15, 3))
    shears = np.eye(3)
    shears[np.triu_indices(3, 1)] = random.uniform(-0.1, 0.1, 3)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return turn @ scales @ shears, random.uniform(-15, 15, 3)
