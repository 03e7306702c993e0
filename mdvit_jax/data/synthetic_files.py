"""Synthetic scans as files hold them: axes in any order, any header, the truth in mm.

Here a scan gets a type, a border, a place in the world, an order and direction of its
axes; and a header, right or wrong in one of the ways of `HEADERS`. The truth is that of
a program that believes the header.
"""

from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel import orientations
from scipy.spatial.transform import Rotation

from mdvit_jax import geometry
from mdvit_jax.data import tissues
from mdvit_jax.data.synthesis import Scan

# What a header says of where the voxels lie.
HEADERS = (
    "right",
    "no codes",  # those of sform and qform are 0: it says the voxel sizes only
    "axes forgotten",  # as if they ran to the right, the front and the top
    "far away",  # shifted by two decimetres
    "unit voxels",  # each a cube of 1 mm
    "mirrored",  # left and right exchanged
    "two places",  # the qform is far from the sform, which is right
)


class Storage(NamedTuple):
    """How a scan is stored.

    Attributes:
        axes: where the stored axes run, as nibabel writes it: "RAS" or any other of 48.
        padding: voxels of background on both sides along x, y, z.
        tilt: degrees about x, y, z, of the scanner in the world: an oblique header.
        shift: mm along x, y, z, of the scanner in the world.
        header: one of `HEADERS`.
    """

    axes: str = "RAS"
    padding: tuple[int, int, int] = (0, 0, 0)
    tilt: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    header: str = "right"


class StoredScan(NamedTuple):
    """A scan as a file holds it.

    Attributes:
        image: to be saved with nibabel. Of CT int16 in Hounsfield units, of other whole
            numbers uint8 (255 levels) or int16, else float32.
        to_world: 4×4 float64, from the normalised coordinates of the scan to world RAS+
            mm as the header has it, right or wrong. The true affine of a pair:
            `geometry.in_world(synthesis.known_affine(a, b), fixed=…, moving=…)`.
    """

    image: nib.Nifti1Image
    to_world: np.ndarray


def store(
    scan: Scan, storage: Storage, *, voxel: tuple[float, float, float]
) -> StoredScan:
    """The file of a scan, in memory.

    Args:
        scan: one scan, without leading axes.
        storage: how it is stored.
        voxel: the scan's voxel size in mm along x, y, z, that of its settings.
    """
    return _store(*_values(scan), storage, voxel)


def store_mask(
    scan: Scan, storage: Storage, *, voxel: tuple[float, float, float]
) -> nib.Nifti1Image:
    """The file of a scan's mask of the brain, on the grid of that of its image."""
    return _store(np.asarray(scan.mask, np.uint8), 0, storage, voxel).image


def _store(
    values: np.ndarray,
    background: int,
    storage: Storage,
    voxel: tuple[float, float, float],
) -> StoredScan:
    shape = np.array(values.shape)
    x, y, z = values.shape
    tilt = Rotation.from_euler("xyz", storage.tilt, degrees=True).as_matrix()
    to_world = np.eye(4)
    to_world[:3, :3] = tilt * voxel
    to_world[:3, 3] = storage.shift - to_world[:3, :3] @ ((shape - 1) / 2)

    border = [(n, n) for n in storage.padding]
    values = np.pad(values, border, constant_values=background)
    padded = to_world.copy()
    padded[:3, 3] -= to_world[:3, :3] @ storage.padding
    order = orientations.ornt_transform(
        orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(storage.axes)
    )
    image = nib.Nifti1Image(values, padded).as_reoriented(order)
    stored_from_world = np.linalg.inv(image.affine)
    _write_header(image, storage.header)
    claimed = image.affine @ stored_from_world @ to_world
    return StoredScan(image, geometry.normalised_to_world((x, y, z), claimed))


def _values(scan: Scan) -> tuple[np.ndarray, int]:
    """The numbers of the file, and which of them is the background."""
    image, levels = np.asarray(scan.image), int(scan.draw.levels)
    if int(scan.draw.contrast) == tissues.CT:
        return np.round(2048 * image - 1024).astype(np.int16), -1024
    if not levels:
        return image, 0
    whole = np.round(image * levels)
    return whole.astype(np.uint8 if levels == 255 else np.int16), 0


def _write_header(image: nib.Nifti1Image, kind: str) -> None:
    """Write the header, and so `image.affine`, in the way `kind` of `HEADERS`."""
    right = image.affine.copy()
    steps = np.linalg.norm(right[:3, :3], axis=0)
    middle = (np.array(image.shape) - 1) / 2
    if kind == "no codes":
        image.header.set_zooms(steps)
        image.set_sform(None, code=0)
        image.set_qform(None, code=0)
        return
    affine, qform = right.copy(), None
    if kind in ("axes forgotten", "unit voxels"):
        linear = np.diag(steps) if kind == "axes forgotten" else right[:3, :3] / steps
        affine[:3, :3] = linear
        affine[:3, 3] = right[:3, :3] @ middle + right[:3, 3] - linear @ middle
    elif kind == "far away":
        affine[:3, 3] += [-120.0, 100.0, 130.0]
    elif kind == "mirrored":
        affine[0] *= -1
    elif kind == "two places":
        qform = right.copy()
        qform[:3, 3] += [40.0, -30.0, 50.0]
    elif kind != "right":
        raise ValueError(f"the header is one of {', '.join(HEADERS)}, not {kind!r}")
    image.set_sform(affine, code=1)
    image.set_qform(affine if qform is None else qform, code=1)
