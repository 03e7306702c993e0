"""Synthetic scans as files: each voxel lies where the header says, right or wrong."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from mdvit_jax import geometry
from mdvit_jax.data import label_maps, random_scans, synthesis, synthetic_files, tissues
from mdvit_jax.data.scan_settings import PLAIN
from mdvit_jax.data.synthetic_files import Storage

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPE, VOXEL = (13, 17, 11), (3.0, 2.0, 5.0)
ALL_AXES = [
    "".join(axes)
    for names in itertools.product("RL", "AP", "SI")
    for axes in itertools.permutations(names)
]


@pytest.fixture(scope="module")
def scan() -> synthesis.Scan:
    """A scan of random voxels, so that a value identifies its voxel."""
    image = np.random.default_rng(0).uniform(0.1, 1, SHAPE).astype(np.float32)
    draw = synthesis.Draw(**{name: np.float32(0) for name in synthesis.Draw._fields})
    return synthesis.Scan(image, image, image > 0, np.eye(4), np.zeros((1, 3)), draw)


def check_places(scan, stored: synthetic_files.StoredScan, image) -> None:
    """Check that every voxel of the scan is in the file at its place by `to_world`."""
    index = np.indices(SHAPE).reshape(3, -1)
    centre = geometry.voxel_to_normalised(SHAPE)
    to_file = np.linalg.inv(image.affine) @ stored.to_world @ centre
    at = to_file[:3, :3] @ index + to_file[:3, 3:]
    np.testing.assert_allclose(at, np.round(at), atol=1e-3)
    values = np.asarray(image.dataobj)[tuple(np.round(at).astype(int))]
    np.testing.assert_array_equal(values, scan.image.ravel())


@pytest.mark.parametrize("axes", ALL_AXES)
def test_all_orders_of_the_axes_hold_the_same_scan(scan, axes):
    storage = Storage(axes, padding=(1, 0, 4), tilt=(20, -9, 4), shift=(30, -8, 9))
    stored = synthetic_files.store(scan, storage, voxel=VOXEL)
    check_places(scan, stored, stored.image)
    still = synthetic_files.store(scan, Storage(axes), voxel=VOXEL)
    assert "".join(nib.aff2axcodes(still.image.affine)) == axes
    # The same place in the world, whatever the order and the border.
    plain = storage._replace(axes="RAS", padding=(0, 0, 0))
    other = synthetic_files.store(scan, plain, voxel=VOXEL)
    np.testing.assert_allclose(stored.to_world, other.to_world, atol=1e-4)


@pytest.mark.parametrize("header", synthetic_files.HEADERS)
def test_the_truth_is_that_of_the_header_in_the_file(scan, header, tmp_path):
    storage = Storage("PIR", (2, 0, 1), (5, 9, -20), (10, 20, 30), header)
    stored = synthetic_files.store(scan, storage, voxel=VOXEL)
    nib.save(stored.image, tmp_path / "scan.nii.gz")
    check_places(scan, stored, nib.load(tmp_path / "scan.nii.gz"))
    right = synthetic_files.store(scan, storage._replace(header="right"), voxel=VOXEL)
    same = np.allclose(stored.to_world, right.to_world, atol=1)
    assert same == (header in ("right", "two places"))
    mirrored = np.linalg.det(stored.to_world) < 0
    assert mirrored == (header in ("mirrored", "no codes"))


def test_simpleitk_finds_the_voxels_in_the_same_places(scan, tmp_path):
    storage = Storage("SLA", (2, 3, 1), (5, 9, -20), (10, 20, 30))
    stored = synthetic_files.store(scan, storage, voxel=VOXEL)
    nib.save(stored.image, tmp_path / "scan.nii")
    image = sitk.ReadImage(str(tmp_path / "scan.nii"))
    to_world = stored.to_world @ geometry.voxel_to_normalised(SHAPE)
    for index in [(0, 0, 0), (12, 3, 7), (5, 16, 10)]:
        x, y, z, _ = to_world @ [*index, 1]
        voxel = image.TransformPhysicalPointToIndex((-x, -y, z))  # LPS
        assert image[voxel] == pytest.approx(scan.image[index], abs=1e-6)


@pytest.mark.parametrize(
    ("levels", "dtype"), [(0, np.float32), (255, np.uint8), (900, np.int16)]
)
def test_whole_numbers_have_their_type(scan, levels, dtype):
    draw = scan.draw._replace(levels=np.float32(levels))
    stored = synthetic_files.store(scan._replace(draw=draw), Storage(), voxel=VOXEL)
    assert stored.image.get_data_dtype() == dtype
    values = np.asarray(stored.image.dataobj)
    np.testing.assert_allclose(values / max(levels, 1), scan.image, atol=0.51 / 255)


def test_ct_is_in_hounsfield_units(scan):
    draw = scan.draw._replace(contrast=np.int32(tissues.CT))
    storage = Storage(padding=(1, 1, 1))
    stored = synthetic_files.store(scan._replace(draw=draw), storage, voxel=VOXEL)
    values = np.asarray(stored.image.dataobj)
    assert values.dtype == np.int16 and values[0, 0, 0] == -1024
    np.testing.assert_allclose(
        values[1:-1, 1:-1, 1:-1], 2048 * scan.image - 1024, atol=1
    )


@pytest.fixture
def small_acquisition(monkeypatch):
    grid = ((40, 44, 48), (5.0, 5.5, 4.8), (1, 1, 1))
    monkeypatch.setattr(random_scans, "ACQUISITIONS", {"small": grid})


@pytest.fixture(scope="module")
def heads() -> label_maps.Head:
    head = label_maps.mni152_head(voxel=4.0)
    return label_maps.Head(*(np.stack([part, part]) for part in head))


def test_a_pair_is_known(heads, small_acquisition):
    """The moving file, resampled through the truth by scipy, is the fixed one."""
    settings = PLAIN._replace(
        rotation=15.0, translation=10.0, deformation=3.0, stripped=1.0, conformed=False
    )
    pair = random_scans.random_pair(4, heads, settings=settings, two_people=0.0)
    assert pair.exact and pair.words.startswith("one person\nfixed: small; brain")
    fixed, moving = np.asarray(pair.fixed.dataobj), np.asarray(pair.moving.dataobj)
    to_moving = np.linalg.inv(pair.moving.affine) @ pair.fixed_to_moving
    matrix = to_moving @ pair.fixed.affine
    warped = ndimage.affine_transform(
        moving, matrix[:3, :3], matrix[:3, 3], output_shape=fixed.shape, order=1
    )
    inside = (fixed > 0) & (warped > 0)
    assert np.corrcoef(warped[inside], fixed[inside])[0, 1] > 0.85
    dice = 2 * inside.sum() / ((fixed > 0).sum() + (warped > 0).sum())
    assert dice > 0.9  # voxels are large, and interpolation widens the brain
    # The points at which errors are measured lie in the brain.
    back = np.linalg.inv(pair.fixed.affine)
    at = np.round(pair.brain @ back[:3, :3].T + back[:3, 3]).astype(int)
    assert (fixed[tuple(at.T)] > 0).mean() > 0.98


def test_a_clean_pair_shows_the_same_people_in_the_same_places(
    heads, small_acquisition, monkeypatch
):
    monkeypatch.setattr(random_scans, "_CLEAN", "small")
    settings = PLAIN._replace(
        **{"rotation": 15.0, "translation": 10.0, "contrasts": (0, 1, 1, 0, 0, 0, 1)},
        **{"noise": 0.1, "slab": 1.0, "texture": 0.1, "conformed": False},
    )
    pair, clean = (
        random_scans.random_pair(5, heads, settings=settings, clean=clean)
        for clean in (False, True)
    )
    np.testing.assert_allclose(clean.fixed_to_moving, pair.fixed_to_moving, atol=1e-9)
    draw = clean.sources[0].draw
    assert draw.noise == 0 and np.all(draw.texture == 0) and draw.stripped
    np.testing.assert_array_equal(draw.means, tissues.MEANS[0])
    values = np.asarray(clean.fixed.dataobj)
    inside = np.asarray(clean.masks[0].dataobj) > 0
    assert (values[inside] > 0).all()  # although the pair shows a slab of it
    assert values[~inside].max() == 0


def test_pairs_come_from_their_seed(heads, small_acquisition):
    settings = PLAIN._replace(rotation=15.0, contrasts=(0,) * 6 + (1,), conformed=False)
    draw = {"settings": settings, "two_people": 1.0, "wrong_header": 1.0}
    one, again, other = (
        random_scans.random_pair(seed, heads, **draw) for seed in (1, 1, 2)
    )
    assert one.words == again.words != other.words
    np.testing.assert_array_equal(one.fixed.dataobj, again.fixed.dataobj)
    np.testing.assert_array_equal(one.fixed_to_moving, again.fixed_to_moving)
    assert not one.exact and "two people" in one.words and "header" in one.words
