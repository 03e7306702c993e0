"""Pairs of synthetic scans of any kind, as files: for trying a registration on many.

A pair is made from a seed: the same one again from the same seed, on any machine.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import nibabel as nib
import numpy as np

from mdvit_jax import geometry
from mdvit_jax.data import scan_description, scan_draw, synthesis, synthetic_files
from mdvit_jax.data.label_maps import Head
from mdvit_jax.data.scan_draw import Draw
from mdvit_jax.data.scan_settings import Settings

# Shape, voxel size in mm and samples in a voxel: of three-dimensional sequences, of
# slices in each of the three planes, and of echo planar imaging.
ACQUISITIONS = {
    "volume of 1.5 mm": ((128, 160, 160), (1.5, 1.5, 1.5), (1, 1, 1)),
    "volume of 2 mm": ((96, 120, 112), (2.0, 2.0, 2.0), (1, 1, 1)),
    "axial slices of 5 mm": ((104, 128, 36), (1.9, 1.9, 5.0), (1, 1, 3)),
    "sagittal slices of 4 mm": ((46, 128, 128), (4.0, 1.8, 1.8), (2, 1, 1)),
    "coronal slices of 3 mm": ((112, 76, 128), (1.7, 3.0, 1.7), (1, 2, 1)),
    "echo planar of 3.5 mm": ((64, 68, 56), (3.2, 3.2, 3.5), (2, 2, 2)),
}

_CLEAN = "volume of 2 mm"
ANY = Settings(conformed=False, thick_slices=0.0, coarse=0.0)


class Source(NamedTuple):
    """Where a file of a pair comes from.

    Attributes:
        head: index of the label map.
        acquisition: a key of `ACQUISITIONS`.
        draw: the scan.
        storage: the file.
    """

    head: int
    acquisition: str
    draw: Draw
    storage: synthetic_files.Storage

    def __str__(self) -> str:
        return (
            f"{self.acquisition}; {scan_description.describe(self.draw)}; "
            f"{_describe(self.storage)}"
        )


class Pair(NamedTuple):
    """Two files and the truth about them.

    Attributes:
        fixed, moving: the images, to be saved with nibabel or handed to `register`.
        fixed_to_moving: 4×4 float64, world RAS+ mm as the headers have it.
        exact: whether it is known; of two people it is that of their landmarks.
        masks: of the brain, on the grids of the fixed and the moving image; 0 and 1.
        brain: [n, 3], points of the fixed brain in the fixed image's world, in mm, at
            which an affine may be compared with the truth.
        sources: of the fixed and of the moving file.
    """

    fixed: nib.Nifti1Image
    moving: nib.Nifti1Image
    fixed_to_moving: np.ndarray
    exact: bool
    masks: tuple[nib.Nifti1Image, nib.Nifti1Image]
    brain: np.ndarray
    sources: tuple[Source, Source]

    @property
    def words(self) -> str:
        """A description of the pair."""
        fixed, moving = self.sources
        people = "one person" if self.exact else "two people"
        return f"{people}\nfixed: {fixed}\nmoving: {moving}"


def random_pair(
    seed: int,
    heads: Head,
    *,
    settings: Settings = ANY,
    two_people: float = 0.3,
    wrong_header: float = 0.0,
    acquisitions: Sequence[str] | None = None,
    clean: bool = False,
) -> Pair:
    """Draw a pair: each scan of its own acquisition, contrast, field, and file.

    Args:
        seed: of everything.
        heads: a batch of label maps (`label_maps.read_heads`).
        settings: how often and how strongly; the grid becomes that of an acquisition.
        two_people: probability of two people in place of one.
        wrong_header: probability of each scan's header to be wrong.
        acquisitions: keys of `ACQUISITIONS`, one of which each scan has; None: all.
        clean: the same people in the same places of the world, but their brains alone,
            as T1 shows them at its best, on voxels of 2 mm. No affine lays two people
            on each other; what a registration makes of them so can be asked for, too,
            where the scans are worse.
    """
    random = np.random.default_rng(seed)
    person_key, *scan_keys = jax.random.split(jax.random.key(seed), 3)
    same = random.random() >= two_people
    first = int(random.integers(len(heads.labels)))
    second = first if same else int(random.integers(len(heads.labels)))
    people = [person_key, person_key if same else jax.random.fold_in(person_key, 1)]
    scans, stored, masks, sources = [], [], [], []
    for key, person, index in zip(scan_keys, people, (first, second), strict=True):
        acquisition = str(random.choice(list(acquisitions or ACQUISITIONS)))
        draw = _draw_scan(key, settings)
        if clean:
            acquisition, draw = _CLEAN, scan_draw.without_flaws(draw)
        shape, voxel, oversample = ACQUISITIONS[acquisition]
        # One program for each grid, however scans are drawn.
        grid = Settings(shape, voxel, oversample, settings.conformed)
        head = Head(*(field[index] for field in heads))
        scan = _form_scan(head, _draw_person(person, settings), draw, grid)
        scan = jax.device_get(scan)
        storage = random_storage(random, wrong_header=wrong_header)
        scans.append(scan)
        stored.append(synthetic_files.store(scan, storage, voxel=voxel))
        masks.append(synthetic_files.store_mask(scan, storage, voxel=voxel))
        sources.append(Source(index, acquisition, scan.draw, storage))
    affine = synthesis.known_affine if same else synthesis.landmark_affine
    fixed, moving = stored
    return Pair(
        fixed=fixed.image,
        moving=moving.image,
        fixed_to_moving=geometry.in_world(
            np.asarray(affine(*scans)), fixed=fixed.to_world, moving=moving.to_world
        ),
        exact=same,
        masks=(masks[0], masks[1]),
        brain=_brain_points(scans[0].mask, fixed.to_world),
        sources=(sources[0], sources[1]),
    )


def random_storage(
    random: np.random.Generator, *, wrong_header: float = 0.0
) -> synthetic_files.Storage:
    """Draw how a scan is stored: a third of them plainly."""
    pairs = random.permutation([("L", "R"), ("P", "A"), ("I", "S")])
    axes = "".join(random.choice(pair) for pair in pairs)
    padding = random.integers(0, 24, 3)
    tilt, shift = random.normal(0, 8, 3), random.normal(0, 20, 3)
    plain, padded, oblique, wrong = random.random(4) < (1 / 3, 0.3, 0.3, wrong_header)
    header = str(random.choice(synthetic_files.HEADERS[1:]))
    return synthetic_files.Storage(
        axes="RAS" if plain else axes,
        padding=tuple(padding * (padded and not plain)),
        tilt=tuple(tilt * (oblique and not plain)),
        shift=tuple(shift * (not plain)),
        header=header if wrong else "right",
    )


_draw_person = jax.jit(scan_draw.draw_person, static_argnums=1)
_draw_scan = jax.jit(scan_draw.draw_scan, static_argnums=1)
_form_scan = jax.jit(synthesis.form_scan, static_argnums=3)


def _brain_points(mask: np.ndarray, to_world: np.ndarray) -> np.ndarray:
    """Some of the centres of the mask's voxels, [n, 3] mm."""
    points = np.argwhere(mask)
    points = points[:: max(1, len(points) // 1000)]
    matrix = to_world @ geometry.voxel_to_normalised(mask.shape)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _describe(storage: synthetic_files.Storage) -> str:
    words = [f"stored as {storage.axes}"]
    if any(storage.padding):
        words.append(f"padded by {', '.join(map(str, storage.padding))} voxels")
    if any(storage.tilt):
        words.append(f"tilted {', '.join(f'{a:.0f}' for a in storage.tilt)}°")
    if storage.header != "right":
        words.append(f"header {storage.header}")
    return ", ".join(words)
