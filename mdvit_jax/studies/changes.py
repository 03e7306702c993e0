"""What a study does to the moving scan before it is aligned."""

from typing import NamedTuple

import jax
import numpy as np
from scipy.spatial.transform import Rotation

from mdvit_jax import geometry
from mdvit_jax.data import conform

_warp = jax.jit(geometry.warp_affine, static_argnames="order")


class Change(NamedTuple):
    """A change of the moving scan: of its brightness, or a turn.

    Attributes:
        name: in tables and files; empty where nothing is changed.
        power: to which the brightness is taken.
        back: 4×4 in normalised coordinates, where places of the turned scan were;
            None where it is not turned.
    """

    name: str
    power: float = 1.0
    back: np.ndarray | None = None

    def brightness(self, scan: conform.Conformed) -> conform.Conformed:
        """The scan with its brightness changed alone, in its place."""
        if self.power == 1:
            return scan
        return scan._replace(image=np.asarray(scan.image, np.float32) ** self.power)

    def turned(self, scan: conform.Conformed) -> conform.Conformed:
        """The scan resampled at its new place.

        Image: linear; mask: linear, then ≥ 0.5; labels: nearest; zeros from outside.
        The image is not cut at its mask: that of a conformed scan ends softly, too.
        """
        if self.back is None:
            return scan
        mask = np.asarray(_warp(scan.mask.astype(np.float32), self.back)) >= 0.5
        labels = scan.labels
        if labels is not None:
            labels = np.asarray(_warp(labels, self.back, order=0))
        image = np.asarray(_warp(np.asarray(scan.image, np.float32), self.back))
        return scan._replace(image=image, mask=mask.astype(np.uint8), labels=labels)


NONE = Change("")
KNOWN_AFFINE = "rotations ±20°, scales 0.85–1.15, shears ±0.1, shifts ±15 mm, uniform"


def gamma(value: float) -> Change:
    """Brightness to the power of `value` (paper 3.2, Contrast Analysis)."""
    return NONE if value == 1 else Change(f"gamma {value:g}", power=value)


def known_affine(seed: int, power: float, field_of_view: float) -> Change:
    """A random affine about the centre of the grid (`KNOWN_AFFINE`), and a gamma.

    Args:
        seed: draws the affine.
        power: to which the brightness is taken.
        field_of_view: of the cubic grid, in mm.
    """
    random = np.random.default_rng(seed)
    turn = Rotation.from_euler("xyz", random.uniform(-20, 20, 3), degrees=True)
    sizes = np.diag(random.uniform(0.85, 1.15, 3))
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = random.uniform(-0.1, 0.1, 3)
    back = np.eye(4)
    back[:3, :3] = turn.as_matrix() @ sizes @ shear
    back[:3, 3] = random.uniform(-15, 15, 3) / (field_of_view / 2)
    name = f"affine {seed}" + ("" if power == 1 else f", gamma {power:g}")
    return Change(name, power, back.astype(np.float32))


def rotation(axis: str, degrees: float) -> Change:
    """A turn about the centre of the grid (paper 3.2, Rotation Study).

    Args:
        axis: "x" (to the right), "y" (to the front) or "z" (up); by the right hand.
    """
    one, other = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    back = np.eye(4, dtype=np.float32)
    back[one, one] = back[other, other] = cosine
    back[one, other], back[other, one] = sine, -sine
    return NONE if degrees % 360 == 0 else Change(f"{axis} {degrees:g}°", back=back)
