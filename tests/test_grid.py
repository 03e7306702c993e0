"""Normalised coordinates, and their conversion to world millimetres."""

import jax.numpy as jnp
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel import orientations

from mdvit_jax import geometry
from oracle import affine, resample

SHAPE = (12, 14, 17)
GENERIC = affine.matrix(
    [0.1, -0.05, 0.08, 0.05, -0.03, 0.06, 0.02, -0.02, 0.03, 0.1, -0.2, 0.15],
    (0.1, 0.0, -0.1),
)


@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_voxels_tile_the_interval(size):
    centres = np.asarray(geometry.voxel_centres(size))
    edges = np.linspace(-1, 1, size + 1)
    assert centres == pytest.approx((edges[1:] + edges[:-1]) / 2, abs=3e-7)


def test_two_neighbours_meet_in_their_coarse_voxel():
    fine, coarse = (np.asarray(geometry.voxel_centres(n)) for n in (16, 8))
    assert (fine[::2] + fine[1::2]) / 2 == pytest.approx(coarse)


def test_voxel_to_normalised():
    matrix = geometry.voxel_to_normalised(SHAPE)
    size = np.array(SHAPE)
    assert affine.apply(matrix, np.full(3, -0.5)) == pytest.approx([-1] * 3)
    assert affine.apply(matrix, size - 0.5) == pytest.approx([1] * 3)
    for axis, n in enumerate(SHAPE):
        points = np.zeros((n, 3))
        points[:, axis] = np.arange(n)
        result = affine.apply(matrix, points)[:, axis]
        assert geometry.voxel_centres(n) == pytest.approx(result, abs=1e-6)


def header_affine(orientation: str, spacing=(0.8, 1.1, 2.5), angle=0.0) -> np.ndarray:
    """A voxel → world matrix with the axes of `orientation`, turned about x."""
    signs = orientations.inv_ornt_aff(
        orientations.axcodes2ornt(orientation), (20, 20, 20)
    )
    turn = affine.matrix([0, 0, 0, angle / 180, *[0] * 8])
    matrix = turn @ signs @ np.diag([*spacing, 1])
    matrix[:3, 3] = (-30.0, 12.0, 44.0)
    return matrix


@pytest.mark.parametrize("orientation", ["RAS", "LAS", "PIR", "SLP"])
def test_normalised_to_world_equals_nibabel(orientation):
    to_world = header_affine(orientation, angle=20)
    index = np.array([[0, 0, 0], [11, 13, 16], [3, 8, 1.25]])
    normalised = (2 * index + 1) / SHAPE - 1
    result = affine.apply(geometry.normalised_to_world(SHAPE, to_world), normalised)
    expected = nibabel.affines.apply_affine(to_world, index)
    assert result == pytest.approx(expected, abs=1e-10)


def test_in_world_laws():
    a, b, c = (
        geometry.normalised_to_world(SHAPE, header_affine(code, angle=angle))
        for code, angle in (("LAS", 0), ("PIR", 30), ("RAS", -10))
    )
    first, second = GENERIC, np.linalg.inv(GENERIC) @ GENERIC @ GENERIC
    # From a to b and on to c is from a to c.
    one_by_one = geometry.in_world(second, fixed=b, moving=c) @ geometry.in_world(
        first, fixed=a, moving=b
    )
    at_once = geometry.in_world(second @ first, fixed=a, moving=c)
    assert one_by_one == pytest.approx(at_once, abs=1e-10)
    # The other way round is the inverse.
    back = geometry.in_world(np.linalg.inv(first), fixed=b, moving=a)
    there = geometry.in_world(first, fixed=a, moving=b)
    assert back == pytest.approx(np.linalg.inv(there), abs=1e-10)
    # On one grid the identity stays the identity, exactly.
    assert geometry.in_world(np.eye(4), fixed=b, moving=b) == pytest.approx(np.eye(4))


def itk_resampled(moving_path, fixed_path, world: np.ndarray) -> np.ndarray:
    """SimpleITK's linear resampling; its world is LPS+, ours RAS+."""
    flip = np.diag([-1.0, -1, 1, 1])
    moving, fixed = (sitk.ReadImage(str(path)) for path in (moving_path, fixed_path))
    matrix = flip @ world @ flip
    transform = sitk.AffineTransform(3)  # takes points of the output to the input
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    resampled = sitk.Resample(
        sitk.Cast(moving, sitk.sitkFloat32), fixed, transform, sitk.sitkLinear, 0.0
    )
    return sitk.GetArrayFromImage(resampled).T


def warped_and_itk(moving_path, fixed_path):
    """Our warp, SimpleITK's, and which voxels land inside the moving image."""
    moving, fixed = nibabel.load(moving_path), nibabel.load(fixed_path)
    data = np.asarray(moving.dataobj, np.float32)
    world = geometry.in_world(
        GENERIC,
        fixed=geometry.normalised_to_world(fixed.shape, fixed.affine),
        moving=geometry.normalised_to_world(moving.shape, moving.affine),
    )
    ours = geometry.warp_affine(data, jnp.asarray(GENERIC, jnp.float32))
    theirs = itk_resampled(moving_path, fixed_path, world)
    landed = resample.voxel_positions(GENERIC, data.shape)
    # ITK repeats the outermost voxel where we fade to zero.
    inside = ((landed >= 0) & (landed <= np.array(data.shape) - 1)).all(-1)
    return np.asarray(ours), theirs, inside


def test_direction_and_frame_equal_simpleitk_on_real_headers(real_data, tmp_path):
    """Two people's LAS, anisotropic scans, read by ITK from the files themselves."""
    paths = []
    for person in ("sub-01", "sub-02"):
        (scan,) = (real_data / "ds002748").rglob(f"{person}*.nii.gz")
        image = nibabel.load(scan)
        assert nibabel.aff2axcodes(image.affine) == ("L", "A", "S")
        shape = (24, 28, 30)
        begin = [(n - 4 * m) // 2 for n, m in zip(image.shape, shape, strict=True)]
        assert min(begin) >= 0
        block = tuple(slice(b, b + 4 * m, 4) for b, m in zip(begin, shape, strict=True))
        paths.append(tmp_path / f"{person}.nii.gz")
        # The slicer keeps the header's affine true to the voxels that are left.
        nibabel.save(image.slicer[block], paths[-1])
    ours, theirs, inside = warped_and_itk(*paths)
    brightest = float(theirs.max())
    assert brightest > 100 and inside.mean() > 0.5
    assert ours[inside] == pytest.approx(theirs[inside], abs=1e-3 * brightest)


@pytest.mark.parametrize("codes", [("RAS", "LAS"), ("LPS", "PIR"), ("SLP", "RAS")])
def test_direction_and_frame_equal_simpleitk_on_made_headers(codes, tmp_path):
    paths = []
    for seed, code in enumerate(codes):
        data = np.random.default_rng(seed).random(SHAPE, np.float32)
        image = nibabel.Nifti1Image(data, header_affine(code, angle=15 + 20 * seed))
        paths.append(tmp_path / f"{seed}.nii")
        nibabel.save(image, paths[-1])
    ours, theirs, inside = warped_and_itk(*paths)
    assert ours[inside] == pytest.approx(theirs[inside], abs=1e-3)
