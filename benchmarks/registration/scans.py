"""The scans behind the cases: skull-stripped T1w, scaled to [0, 1].

They lie in the folder that MDVIT_DATA names, or else in ../shared/data beside the
repository: ds002748 (40 people, OpenNeuro, CC0) and oasis1_malf (16 scans of 15 people
with 138 labels by hand; OASIS, Neuromorphometrics, CC BY-NC).
"""

import functools
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.io import image as images

PEOPLE = range(1, 37)  # of ds002748
HELD_OUT_PEOPLE = range(37, 41)  # on whom nothing was chosen
OASIS = (
    *("1000", "1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009"),
    *("1023", "1101", "1107", "1113", "1119", "1125"),
)
HELD_OUT_OASIS = OASIS[-5:]
_SAME_PERSON = {"1003", "1023"}


class Scan(NamedTuple):
    """A brain.

    Attributes:
        image: float32 in [0, 1], 0 outside of the brain.
        mask: bool [x, y, z] on the same grid: above 0, with its holes filled.
    """

    image: images.Image
    mask: np.ndarray


@functools.lru_cache(maxsize=2)
def person(number: int) -> Scan:
    """Person 1 … 40 of ds002748; 0.87 × 0.87 × 1 mm, LAS, some oblique."""
    return _scan(folder("ds002748") / f"sub-{number:02}_T1w.nii.gz")


@functools.lru_cache(maxsize=2)
def oasis(name: str) -> Scan:
    """A scan of oasis1_malf; 1 mm, LAS."""
    return _scan(folder("oasis1_malf") / f"{name}_SS.nii.gz")


def oasis_labels(name: str) -> images.Image:
    """Its label map, on its grid, by the Neuromorphometrics protocol."""
    path = folder("oasis1_malf") / f"{name}_glm.nii.gz"
    return images.load_labels(path)


def oasis_pairs(names: Sequence[str] = OASIS) -> list[tuple[str, str]]:
    """All (fixed, moving) of two people, of all scans 238, in a fixed random order."""
    pairs = [p for p in itertools.permutations(names, 2) if set(p) != _SAME_PERSON]
    order = np.random.default_rng(0).permutation(len(pairs))
    return [pairs[i] for i in order]


def image(data: np.ndarray, affine: np.ndarray) -> images.Image:
    """An array [x, y, z] and its voxel indices → world RAS+ mm as an image."""
    data = np.ascontiguousarray(data, np.float32)
    return images.from_array(data, affine)


def _scan(path: Path) -> Scan:
    loaded = images.load(path)
    brain = loaded.data > 0
    # Few vessels and no tissue are brighter than 99.9 % of a brain's voxels.
    scaled = np.clip(loaded.data / np.percentile(loaded.data[brain], 99.9), 0, 1)
    mask = ndimage.binary_fill_holes(brain)
    scaled.setflags(write=False)  # it is kept for other callers
    mask.setflags(write=False)
    return Scan(loaded._replace(data=scaled, dtype=scaled.dtype), mask)


def folder(name: str) -> Path:
    """The folder of a data set.

    Raises:
        UserError: it is not there.
    """
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    path = Path(os.environ.get("MDVIT_DATA", beside)) / name
    if not path.is_dir():
        raise errors.UserError(
            f"the scans {path} are not there; let the environment variable "
            f"MDVIT_DATA name the folder that holds {name}."
        )
    return path
