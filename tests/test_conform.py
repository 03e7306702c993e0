"""Conforming: against other resamplers, in every orientation, and its warnings."""

import itertools
import logging

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel import orientations, processing
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.data import conform, downsample
from mdvit_jax.io.image import Image, from_array, load, load_labels
from oracle import heads

SHAPE = (23, 30, 27)
PLAIN = np.diag([1, 1, 1, 1.0])
RAS_TO_LPS = np.diag([-1, -1, 1, 1.0])


def rotation(x: float, y: float, z: float) -> np.ndarray:
    matrix = np.eye(4)
    for axis, angle in enumerate((x, y, z)):
        turn = np.eye(4)
        first, second = np.delete(range(3), axis)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def shifted(matrix: np.ndarray, shift=(13.3, -40.1, 8.2)) -> np.ndarray:
    matrix = matrix.copy()
    matrix[:3, 3] += shift
    return matrix


SHEAR = np.array([[1, 0.2, -0.1, 0], [0, 1, 0.3, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
AFFINES = {
    "plain": shifted(PLAIN),
    "las": shifted(np.diag([-1, 1, 1, 1.0])),
    "anisotropic": shifted(np.diag([0.8, 1.3, -2.1, 1])),
    "oblique": shifted(rotation(0.3, -0.2, 0.5) @ np.diag([0.9, 1.1, 1.4, 1])),
    "turned": shifted(rotation(1.5, 0.1, -2.0) @ np.diag([1.0, 1.0, 1.5, 1])),
    "sheared": shifted(SHEAR @ np.diag([1.2, 1.0, 0.9, 1])),
}


def brain(shape=SHAPE, seed=0) -> np.ndarray:
    """Smooth noise inside an asymmetric blob; exactly 0 around it."""
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.standard_normal(shape), 1.0)
    at = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    at[0] += 0.3 * at[1] ** 2
    inside = (at**2 / np.array([0.6, 0.7, 0.5])[:, None, None, None]).sum(0) < 1
    return np.where(inside, 1 + 2 * (noise - noise.min()), 0).astype(np.float32)


def label_map(shape=SHAPE) -> np.ndarray:
    image = brain(shape)
    steps = np.percentile(image[image > 0], [25, 50, 75])
    return np.where(image > 0, 1000 * np.digitize(image, steps) + 7, 0)


def normalised(averaged: np.ndarray, source: np.ndarray) -> np.ndarray:
    return np.minimum(averaged / np.percentile(source[source > 0], 99.9), 1)


def averaged(fine: np.ndarray, k: int) -> np.ndarray:
    n = len(fine) // k
    return fine.reshape(n, k, n, k, n, k).mean(axis=(1, 3, 5))


def by_coordinates(volume: Image, to_world: np.ndarray, size: int, k: int):
    """The definition: world coordinates of every fine voxel, one by one."""
    axis = (np.arange(size * k) - (k - 1) / 2) / k
    at = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    matrix = np.linalg.inv(volume.affine) @ to_world
    at = matrix[:3, :3] @ at + matrix[:3, 3:]
    padded = np.pad(volume.data.astype(float), 1)
    fine = ndimage.map_coordinates(padded, at + 1, order=1)
    return averaged(fine.reshape((size * k,) * 3), k)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize(
    ("size", "field_of_view"), [(40, 40.0), (24, 48.0), (14, 42.0)]
)
def test_equals_the_definition(affine, size, field_of_view):
    image = from_array(brain(), affine)
    got = conform.conform(image, None, None, size=size, field_of_view=field_of_view)
    k = int(np.ceil(field_of_view / size))
    expected = by_coordinates(image, got.to_world, size, k)
    np.testing.assert_allclose(got.image, normalised(expected, image.data), atol=2e-4)
    inside = from_array((image.data > 0).astype(float), affine)
    part = by_coordinates(inside, got.to_world, size, k)
    clear = np.abs(part - 0.5) > 1e-3
    np.testing.assert_array_equal(got.mask[clear], (part >= 0.5)[clear])
    assert got.image.dtype == np.float32 and got.mask.dtype == np.uint8
    assert got.image.flags.c_contiguous and got.labels is None


def to_itk(volume: np.ndarray, affine: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.T)
    lps = RAS_TO_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing)
    image.SetOrigin(lps[:3, 3])
    image.SetDirection((lps[:3, :3] / spacing).ravel())
    return image


@pytest.mark.parametrize("name", ["plain", "las", "anisotropic", "oblique", "turned"])
def test_against_simpleitk(name):
    data, labels, affine = brain(), label_map(), AFFINES[name]
    got = conform.conform(
        from_array(data, affine),
        from_array(labels, affine),
        None,
        size=24,
        field_of_view=48.0,
    )
    fine_to_world = got.to_world @ shifted(np.diag([0.5, 0.5, 0.5, 1]), -0.25)
    grid = to_itk(np.zeros((48, 48, 48), np.float32), fine_to_world)
    padded = sitk.ConstantPad(to_itk(data, affine), [2] * 3, [2] * 3, 0.0)
    fine = sitk.Resample(padded, grid, sitk.Transform(), sitk.sitkLinear)
    halved = sitk.GetArrayFromImage(sitk.BinShrink(fine, [2, 2, 2])).T
    np.testing.assert_allclose(got.image, normalised(halved, data), atol=1e-4)
    nearest = sitk.Resample(
        to_itk(labels.astype(np.int32), affine),
        grid,
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
    )
    fine_labels = sitk.GetArrayFromImage(nearest).T
    cubes = fine_labels.reshape(24, 2, 24, 2, 24, 2).transpose(0, 2, 4, 1, 3, 5)
    expected = majority(cubes.reshape(-1, 8)).reshape(24, 24, 24)
    assert (got.labels == expected).mean() > 0.999  # ties between two voxels may differ


def majority(rows: np.ndarray) -> np.ndarray:
    result = []
    for row in rows:
        computed, counts = np.unique(row, return_counts=True)
        result.append(computed[counts.argmax()])
    return np.array(result)


@pytest.mark.parametrize("length", [1, 2, 8, 27])
def test_most_frequent(length):
    rows = np.random.default_rng(length).integers(-3, 4, (500, length)) * 1000
    np.testing.assert_array_equal(downsample.most_frequent(rows), majority(rows))


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_against_nibabel(affine):
    data = brain()
    got = conform.conform(
        from_array(data, affine), None, None, size=40, field_of_view=40.0
    )
    padded = nib.Nifti1Image(np.pad(data, 2), affine @ shifted(np.eye(4), -2))
    moved = processing.resample_from_to(padded, ((40,) * 3, got.to_world), order=1)
    np.testing.assert_allclose(
        got.image, normalised(moved.get_fdata(), data), atol=1e-4
    )


@pytest.mark.parametrize(
    "name", ["ds002748/sub-01_T1w.nii.gz", "oasis1_malf/1000_SS.nii.gz"]
)
def test_real_headers_against_nibabel(real_data, caplog, name):
    image = load(real_data / name)
    got = conform.conform(image, None, None, size=64, field_of_view=256.0)
    assert not caplog.records
    volume = got.mask.sum() * 4.0**3
    voxel = abs(np.linalg.det(image.affine[:3, :3]))
    assert volume == pytest.approx(np.count_nonzero(image.data) * voxel, rel=0.01)
    # A box of the fine grid, which nibabel does in reasonable time.
    box = got.to_world @ shifted(np.diag([0.25, 0.25, 0.25, 1]), -0.375)
    box[:3, 3] += 100
    moved = processing.resample_from_to(
        nib.Nifti1Image(image.data, image.affine), ((48,) * 3, box), order=1
    )
    np.testing.assert_allclose(
        got.image[25:37, 25:37, 25:37],
        normalised(averaged(moved.get_fdata(), 4), image.data),
        atol=1e-4,
    )


def all_orders():
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            yield np.column_stack([axes, flips])


@pytest.mark.parametrize(
    "spacing",
    [(1, 1, 1), (0.5, 0.5, 0.5), (0.9, 1.2, 1.7), (2, 2, 2), (1, 0.5, 1.5)],
    ids=str,
)
@pytest.mark.parametrize("turn", [(0, 0, 0), (0.3, 0.1, -0.2)], ids=["", "oblique"])
def test_all_48_orders_give_the_same(spacing, turn):
    affine = shifted(rotation(*turn) @ np.diag([*spacing, 1]))
    data, labels = brain((13, 16, 15)), label_map((13, 16, 15))
    results = []
    for order in all_orders():
        to_new = affine @ orientations.inv_ornt_aff(order, data.shape)
        volumes = [
            from_array(orientations.apply_orientation(volume, order), to_new)
            for volume in (data, labels)
        ]
        results.append(conform.conform(*volumes, None, size=12, field_of_view=24.0))
    first = results[0]
    assert len(results) == 48 and first.image.any() and first.labels.any()
    for result in results[1:]:
        np.testing.assert_allclose(result.to_world, first.to_world, atol=1e-9)
        np.testing.assert_allclose(result.image, first.image, atol=1e-5)
        # Voxels exactly on the threshold, or half-way, may round either way if oblique.
        assert (result.mask != first.mask).mean() <= (1e-3 if any(turn) else 0)
        assert (result.labels != first.labels).mean() <= (1e-3 if any(turn) else 0)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("size", [16, 31, 48])
def test_a_landmark_keeps_its_place_in_the_world(affine, size):
    at = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    world = at @ affine[:3, :3].T + affine[:3, 3]
    landmark = affine[:3, :3] @ [12, 13, 15] + affine[:3, 3]
    blob = np.exp(-0.5 * ((world - landmark) ** 2).sum(-1) / 2.5**2)
    blob[blob < 1e-4] = 0
    image = from_array(blob.astype(np.float32), affine)
    # Above the percentile it is clipped, which is symmetrical.
    got = conform.conform(image, None, None, size=size, field_of_view=50.0)
    centre = np.array(ndimage.center_of_mass(got.image))
    result = got.to_world[:3, :3] @ centre + got.to_world[:3, 3]
    np.testing.assert_allclose(result, landmark, atol=0.05)
    inside = np.array(ndimage.center_of_mass(got.mask))
    result = got.to_world[:3, :3] @ inside + got.to_world[:3, 3]
    np.testing.assert_allclose(result, landmark, atol=0.6)


@pytest.mark.parametrize("shape", [(23, 30, 27), (24, 31, 26)])
@pytest.mark.parametrize("size", [40, 41])
def test_one_millimetre_is_padded_and_not_interpolated(shape, size):
    data, labels = brain(shape), label_map(shape)
    affine = shifted(np.diag([-1, 1, 1, 1.0]))
    got = conform.conform(
        from_array(data, affine),
        from_array(labels, affine),
        None,
        size=size,
        field_of_view=float(size),
    )
    before = [(size - n) // 2 for n in shape]
    pad = [(b, size - n - b) for b, n in zip(before, shape, strict=True)]
    choices = set()
    for up in itertools.product((0, 1), repeat=3):
        odd = [(b + u, a - u) for (b, a), u in zip(pad, up, strict=True)]
        expected = np.pad(normalised(data, data)[::-1], odd)
        choices.add(
            np.allclose(got.image, expected, atol=1e-6)
            and np.array_equal(got.labels, np.pad(labels[::-1], odd))
            and np.array_equal(got.mask, expected > 0)
        )
    assert choices == {False, True}


def test_halving_is_the_papers_trilinear_reduction():
    image = from_array(brain(), shifted(PLAIN))
    whole = conform.conform(image, None, None, size=48, field_of_view=48.0)
    half = conform.conform(image, None, None, size=24, field_of_view=48.0)
    axis = 2 * np.arange(24) + 0.5  # PyTorch: scale 0.5, align_corners=False
    at = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    raw = np.pad(image.data, 0)
    scale = np.percentile(raw[raw > 0], 99.9)
    fine = by_coordinates(image, whole.to_world, 48, 1)
    expected = np.minimum(ndimage.map_coordinates(fine, at, order=1) / scale, 1)
    np.testing.assert_allclose(half.image, expected, atol=1e-5)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_grid_is_centred_on_the_field_of_view(affine):
    for size, field_of_view in ((128, 256.0), (64, 256.0), (31, 100.0)):
        to_world, k = downsample.grid(
            SHAPE, affine, size=size, field_of_view=field_of_view
        )
        voxel = field_of_view / size
        np.testing.assert_allclose(to_world[:3, :3], np.eye(3) * voxel)
        assert 0.5 < voxel / k <= 1 or k == 1
        ours = to_world[:3, :3] @ np.full(3, (size - 1) / 2) + to_world[:3, 3]
        theirs = affine[:3, :3] @ (np.array(SHAPE) - 1) / 2 + affine[:3, 3]
        assert np.abs(ours - theirs).max() < voxel / k / 2 + 1e-9


def test_intensities_do_not_depend_on_a_few_bright_voxels():
    data = brain((40, 40, 40))
    spiked = data.copy()
    spiked[20, 20, 20:22] = 50 * data.max()
    options = {"size": 40, "field_of_view": 40.0}
    plain = conform.conform(from_array(data, PLAIN), None, None, **options)
    other = conform.conform(from_array(spiked, PLAIN), None, None, **options)
    assert plain.image.max() == other.image.max() == 1 and plain.image.min() == 0
    np.testing.assert_allclose(
        np.delete(other.image, 20, 0), np.delete(plain.image, 20, 0), atol=0.02
    )
    scaled = conform.conform(from_array(data * 37, PLAIN), None, None, **options)
    np.testing.assert_allclose(scaled.image, plain.image, atol=1e-6)
    outside = np.pad(plain.image, 0)[data == 0]
    assert not outside.any()


def test_storage_order_and_type_do_not_matter():
    labels = label_map()
    results = [
        conform.conform(
            from_array(
                np.asarray(np.rint(brain() * 50), dtype, order=order), AFFINES["las"]
            ),
            from_array(np.asarray(labels, np.int32, order=order), AFFINES["las"]),
            None,
            size=20,
            field_of_view=40.0,
        )
        for order in "CF"
        for dtype in (np.int16, np.float32, np.float64)
    ]
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_mask_strips_the_image_whatever_its_grid(caplog):
    head = np.maximum(brain(), 0.5)  # not stripped: above 0 everywhere
    image = from_array(head, AFFINES["oblique"])
    mask = from_array((brain() > 0).astype(np.uint8), image.affine)
    options = {"size": 30, "field_of_view": 60.0}
    stripped = conform.conform(from_array(brain(), image.affine), None, None, **options)
    got = conform.conform(image, None, mask, **options)
    for one, other in zip(got, stripped, strict=True):
        np.testing.assert_array_equal(one, other)
    # The same mask, flipped and padded, with an affine to match.
    flipped = from_array(
        np.pad(mask.data, 3)[::-1],
        mask.affine @ shifted(np.diag([-1, 1, 1, 1.0]), (25, -3, -3)),
    )
    other = conform.conform(image, None, flipped, **options)
    np.testing.assert_allclose(other.image, got.image, atol=1e-5)
    assert (other.mask != got.mask).mean() < 1e-4
    assert not caplog.records
    conform.conform(image, None, None, **options, name="/data/head.nii")
    assert "/data/head.nii" in caplog.text and "skull-stripped" in caplog.text


def test_labels_may_have_a_grid_of_their_own():
    image = from_array(brain(), AFFINES["plain"])
    # Labels at half the resolution, cut to a part of the brain.
    coarse = from_array(
        label_map()[4:20:2, 6:26:2, 2:24:2],
        image.affine @ shifted(np.diag([2, 2, 2, 1.0]), (4, 6, 2)),
    )
    got = conform.conform(image, coarse, None, size=40, field_of_view=40.0)
    assert set(np.unique(got.labels)) == {0, *np.unique(coarse.data)}
    at = np.argwhere(got.labels >= 0) @ got.to_world[:3, :3].T + got.to_world[:3, 3]
    inverse = np.linalg.inv(coarse.affine)
    index = at @ inverse[:3, :3].T + inverse[:3, 3]
    whole = np.floor(index + 0.5 + 1e-5).astype(
        int
    )  # half-way: further right, front, up
    inside = ((whole >= 0) & (whole < coarse.data.shape)).all(1)
    expected = np.where(
        inside, coarse.data[tuple(np.where(inside[:, None], whole, 0).T)], 0
    )
    np.testing.assert_array_equal(got.labels.ravel(), expected)


@pytest.mark.parametrize("kind", ["smoothed", "cubic float", "cubic int16"])
def test_the_mask_of_an_interpolated_brain_is_no_larger(kind):
    """Of a scan smoothed by 4 mm, or resampled by splines, whose ringing fills it."""
    data, inside, affine = heads.coarse_head()
    sharp = np.where(inside, 0.3 + 0.7 * data, 0).astype(np.float32)
    if kind == "smoothed":
        scan, grid = ndimage.gaussian_filter(sharp, 4 / 2.355 / 4.0), affine
    else:
        step, pad = 0.8, 10
        shape = [round(n / step) + 2 * pad for n in sharp.shape]
        grid = affine @ np.diag([step, step, step, 1])
        grid[:3, 3] -= grid[:3, :3] @ np.full(3, pad)
        scan = ndimage.affine_transform(
            sharp, np.eye(3) * step, np.full(3, -step * pad), shape, order=3
        )
        assert (scan != 0).mean() > 1.2 * (sharp != 0).mean()  # ringing
    if kind == "cubic int16":
        scan = np.rint(1000 * scan).astype(np.int16)
    result = conform.conform(
        from_array(scan, grid), None, None, size=48, field_of_view=240.0
    )
    expected = inside.sum() * abs(np.linalg.det(affine)) / 5.0**3
    assert result.mask.sum() == pytest.approx(expected, rel=0.07)


def test_cut_off_tissue_is_reported(caplog):
    image = from_array(brain(), AFFINES["plain"])
    conform.conform(image, None, None, size=30, field_of_view=30.0)
    assert not caplog.records
    got = conform.conform(
        image, None, None, size=15, field_of_view=15.0, name="/data/big.nii"
    )
    part = 1 - got.mask.sum() / np.count_nonzero(image.data)
    assert f"{100 * part:.1f} %" in caplog.text and "/data/big.nii" in caplog.text


def test_labels_outside_the_brain_are_reported(caplog):
    image = from_array(brain(), AFFINES["plain"])
    labels = from_array(label_map(), shifted(image.affine, (20, 0, 0)))
    conform.conform(image, labels, None, size=60, field_of_view=60.0, name="a.nii")
    assert "labels of a.nii" in caplog.text


def test_many_values_below_zero_are_reported(caplog):
    image = brain()
    few = np.where(np.arange(image.size).reshape(SHAPE) % 997 == 0, -0.01, image)
    got = conform.conform(
        from_array(few, PLAIN), None, None, size=32, field_of_view=32.0
    )
    assert not caplog.records and got.image.min() == 0
    conform.conform(
        from_array(image - 1.5, PLAIN), None, None, size=32, field_of_view=32.0
    )
    assert "below 0" in caplog.text


def test_nothing_in_the_field_of_view_is_an_error():
    image = from_array(brain(), PLAIN)
    nowhere = from_array(np.ones(SHAPE, np.uint8), shifted(PLAIN, (500, 0, 0)))
    small = np.zeros((200, 5, 5), np.float32)
    small[:3] = 1
    for volume, mask in ((image, nowhere), (from_array(small, PLAIN), None)):
        with pytest.raises(errors.UserError, match=r"^a\.nii has no voxel above 0"):
            conform.conform(
                volume, None, mask, size=32, field_of_view=32.0, name="a.nii"
            )


def test_real_labels_survive(real_data, caplog):
    folder = real_data / "oasis1_malf"
    image = load(folder / "1101_SS.nii.gz")
    labels = load_labels(folder / "1101_glm.nii.gz")
    with caplog.at_level(logging.WARNING):
        got = conform.conform(image, labels, None, size=128, field_of_view=256.0)
    assert not caplog.records
    result = np.unique(got.labels)
    assert set(result) <= set(np.unique(labels.data)) and len(result) > 130
    for label in (59, 38, 44):  # thalamus, cerebellum, white matter
        volume = np.count_nonzero(labels.data == label)
        assert 8 * np.count_nonzero(got.labels == label) == pytest.approx(
            volume, rel=0.06
        )


def test_a_brain_that_fills_no_voxel_is_an_error():
    image = np.zeros((64, 64, 64), np.float32)
    image[31:33, 31:33, 31:33] = 1
    with pytest.raises(errors.UserError, match="fills no voxel of 8 mm"):
        conform.conform(
            from_array(image, np.eye(4)), None, None, size=8, field_of_view=64.0
        )
