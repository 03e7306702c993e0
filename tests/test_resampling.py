"""Interpolations and fill values against SimpleITK, dense formulas and laws."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nitransforms.io import fsl as fsl_peer

from mdvit_jax import transforms
from mdvit_jax.io import image as images
from mdvit_jax.transforms import resampling
from test_apply_transform import NEAR, WARP, folder, peer, run, volume
from test_transforms import GRIDS, PAIRS, affine

__all__ = ["folder"]  # a fixture

ALL = resampling.INTERPOLATIONS


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_cubic_is_the_b_spline_of_simpleitk(tmp_path, fixed, moving):
    fixed, moving = GRIDS[fixed], GRIDS[moving]
    data = volume(moving.shape)
    expected = peer(data, moving.affine, NEAR, fixed, sitk.sitkBSpline, tmp_path)
    result = transforms.resample(
        data, moving.affine, NEAR, fixed, interpolation="cubic"
    )
    assert result.dtype == np.float32 and (expected > 0).mean() > 0.05
    assert np.abs(result - expected).max() < 0.05  # of 200


def windowed_sinc(data: np.ndarray, at: np.ndarray) -> float:
    """Lanczos interpolation with three lobes at a position [3], by its definition."""
    total = weights = 0.0
    low = np.floor(at).astype(int)
    for offset in np.ndindex(6, 6, 6):
        index = low - 2 + offset
        distance = at - index
        weight = np.prod(np.sinc(distance) * np.sinc(distance / 3))
        border = np.clip(index, 0, np.array(data.shape) - 1)
        total += weight * data[tuple(border)]
        weights += weight
    return total / weights


def test_lanczos_is_its_dense_form():
    data = volume((9, 7, 11)).astype(float)
    to_voxels = NEAR.copy()
    to_voxels[:3] *= np.array([[1.9], [1.4], [3.1]])
    to_voxels[:3, 3] = -0.7, 0.2, -0.3
    grid = transforms.Grid((6, 5, 4), affine(2) @ to_voxels)
    result = transforms.resample(
        data, affine(2), np.eye(4), grid, interpolation="lanczos", fill=np.nan
    )
    inside = 0
    for index in np.ndindex(grid.shape):
        at = to_voxels[:3, :3] @ index + to_voxels[:3, 3]
        if (at < -0.5).any() or (at > np.array(data.shape) - 0.5).any():
            assert np.isnan(result[index])
        else:
            inside += 1
            assert result[index] == pytest.approx(windowed_sinc(data, at), abs=1e-9)
    assert inside > 5


@pytest.mark.parametrize("interpolation", ALL)
def test_laws_of_every_interpolation(interpolation):
    grid = GRIDS["oblique"]
    data = volume(grid.shape)
    same = transforms.resample(
        data, grid.affine, np.eye(4), grid, interpolation=interpolation
    )
    assert np.abs(same - data).max() < 1e-3
    flat = np.full(grid.shape, 37, np.int16)
    result = transforms.resample(
        flat, grid.affine, NEAR, grid, interpolation=interpolation, fill=37
    )
    assert np.abs(result - 37).max() < 1e-3
    # Two matrices one after the other are their product.
    first, second = affine(5), NEAR @ np.linalg.inv(affine(5))
    one, two = (
        transforms.resample(data, grid.affine, way, grid, interpolation=interpolation)
        for way in (NEAR, [first, second])
    )
    assert np.abs(one - two).max() < (200 if interpolation == "nearest" else 1e-2)
    assert (np.abs(one - two) > 1e-2).mean() < 1e-3


@pytest.mark.parametrize("start", [(4, 0, 5), (9, 9, 9)], ids=["on a face", "inside"])
@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("fill", [0, 37])
def test_what_surrounds_the_object_changes_nothing(interpolation, fill, start):
    """Only the object's part of both grids is looked at, as if it were all of them."""
    grid = GRIDS["oblique"]
    data = np.full(grid.shape, fill, np.float32)
    inner = tuple(slice(first, first + 7) for first in start)
    data[inner] = volume(data[inner].shape) + 50
    # Another value in a corner, so that all of the image is its object.
    marked = data.copy()
    marked[0, 0, 0] = marked[-1, -1, -1] = fill - 1
    parts, whole = (
        transforms.resample(
            image, grid.affine, NEAR, grid, interpolation=interpolation, fill=fill
        )
        for image in (data, marked)
    )
    assert (parts > fill).mean() > 0.005
    far = np.abs(whole - fill) <= 1  # where the marks reach
    assert np.allclose(parts[~far], whole[~far], atol=1e-5)
    assert (parts[far] == fill).mean() > 0.99
    if interpolation == "nearest":
        labels = transforms.resample_labels(
            data.astype(np.uint8), grid.affine, NEAR, grid, fill=fill
        )
        assert set(np.unique(labels)) <= set(np.unique(data).astype(int))
        assert ((labels != fill) == (parts != fill)).mean() > 0.98


@pytest.mark.parametrize("cut", range(3))
def test_a_plane_is_that_of_the_volume(cut):
    """It is so small that the image is not searched for its object."""
    data = np.zeros((90, 100, 110), np.float32)
    data[20:70, 30:90, 25:80] = volume((50, 60, 55))
    grid = transforms.Grid((45, 50, 55), np.diag([2.0, 2, 2, 1]))
    assert max(grid.shape) ** 2 < resampling._SOONER * data.size
    whole = transforms.resample(data, np.eye(4), NEAR, grid)
    at = np.eye(4)
    at[cut, 3] = place = 20
    shape = tuple(1 if axis == cut else n for axis, n in enumerate(grid.shape))
    plane = transforms.Grid(shape, grid.affine @ at)
    result = transforms.resample(data, np.eye(4), NEAR, plane)
    assert (result > 0).mean() > 0.05
    assert np.allclose(result.squeeze(), whole.take(place, cut), atol=1e-4)


@pytest.mark.parametrize("interpolation", ALL)
def test_an_image_without_an_object_or_out_of_reach(interpolation):
    grid = GRIDS["oblique"]
    away = np.eye(4)
    away[:3, 3] = 1e4
    flat_world = np.diag([1.0, 1, 0, 1])  # maps space to a plane
    for data, matrix in (
        (np.full(grid.shape, 3.0), NEAR),
        (volume(grid.shape), away),
        (np.full(grid.shape, 3.0), flat_world),
    ):
        result = transforms.resample(
            data, grid.affine, matrix, grid, interpolation=interpolation, fill=3
        )
        assert np.allclose(result, 3)


@pytest.mark.parametrize("interpolation", ["cubic", "lanczos"])
def test_smooth_images_are_interpolated_better_than_linearly(interpolation):
    x, y, z = np.indices((24, 26, 28))

    def wave(x, y, z):
        return np.sin(x / 1.5) * np.cos(y / 2) + np.sin(z / 1.7)

    data, half = wave(x, y, z), np.eye(4)
    half[:3, 3] = 0.5, 0.4, 0.3
    grid = transforms.Grid(data.shape, np.eye(4))
    inner = (slice(4, -4),) * 3
    truth = wave(x + 0.5, y + 0.4, z + 0.3)[inner]
    errors = [
        np.abs(
            transforms.resample(data, np.eye(4), half, grid, interpolation=name)[inner]
            - truth
        ).max()
        for name in (interpolation, "linear")
    ]
    assert errors[0] < 0.2 * errors[1]


@pytest.mark.parametrize("dtype", ["u4", "i8", "u8", "i4", "f8"])
def test_by_the_nearest_voxel_no_value_changes(dtype):
    grid = GRIDS["radiological"]
    largest = 2**53 if dtype == "f8" else np.iinfo(dtype).max
    ids = np.array([0, 1, 614454277 % largest, largest - 1, largest], dtype)
    data = np.random.default_rng(0).choice(ids, grid.shape)
    for function in (
        lambda *a: transforms.resample(*a, interpolation="nearest"),
        transforms.resample_labels,
    ):
        result = function(data, grid.affine, NEAR, grid)
        assert result.dtype == data.dtype
        assert set(np.unique(result)) == set(ids.tolist())


@pytest.mark.parametrize("ending", [".nii.gz", ".mgz"])
@pytest.mark.parametrize("dtype", ["u4", "i8", "i4"])
@pytest.mark.parametrize("option", ["--labels", "--interpolation=nearest"])
def test_label_ids_reach_the_file_unchanged(folder, ending, dtype, option):
    grid = GRIDS["radiological"]
    ids = np.array([0, 614454277, 614454278, 16777217], dtype)
    data = np.kron(np.random.default_rng(1).choice(ids, (4, 3, 4)), np.ones((6, 6, 5)))
    data = data.astype(dtype)
    images.save(folder / "ids.nii.gz", data, grid)
    words = ["--transform", "a.tfm", option, "--moving", "ids.nii.gz"]
    words += ["--reference", "fixed.nii.gz", "--output", f"w{ending}"]
    assert run(folder, words) == 0
    written = np.asanyarray(nib.load(folder / f"w{ending}").dataobj)
    assert set(np.unique(written)) == set(ids.tolist())
    assert (written.dtype.kind, written.dtype.itemsize) == (
        ("i", 4) if ending == ".mgz" else (dtype[0], int(dtype[1]))
    )


def test_ids_too_large_for_freesurfer_are_refused(folder, capsys):
    grid = GRIDS["radiological"]
    data = np.zeros(grid.shape, np.uint32)
    data[5:15, 5:15, 5:15] = 4294967295
    images.save(folder / "ids.nii.gz", data, grid)
    words = ["--transform", "a.tfm", "--labels", "--moving", "ids.nii.gz"]
    words += ["--reference", "fixed.nii.gz"]
    assert run(folder, [*words, "--output", "w.mgz"]) == 2
    message = capsys.readouterr().err
    assert "cannot hold the value 4294967295" in message and message.count("\n") == 1
    assert not (folder / "w.mgz").exists()
    assert run(folder, [*words, "--output", "w.nii.gz"]) == 0


def computed_tomography(path, padding=None):
    grid = GRIDS["radiological"]
    data = np.full(grid.shape, -1024, np.int16)
    data[4:-4, 4:-4, 4:-4] = volume(grid.shape, np.int16)[4:-4, 4:-4, 4:-4]
    if padding is not None:
        data[0] = padding
    nib.save(nib.Nifti1Image(data, grid.affine), path)


@pytest.mark.parametrize(
    ("words", "fill"),
    [([], -1024), (["--fill", "auto"], -1024), (["--fill", "-7"], -7)],
)
def test_the_fill_of_an_output(folder, words, fill):
    computed_tomography(folder / "moving.nii.gz")
    words = ["--transform", "a.tfm", *words, *WARP, "--output", "w.nii.gz"]
    assert run(folder, words) == 0
    written = np.asanyarray(nib.load(folder / "w.nii.gz").dataobj)
    grid = GRIDS["radiological"]
    ones = np.ones(grid.shape)
    outside = transforms.resample(ones, grid.affine, NEAR, GRIDS["oblique"]) == 0
    assert outside.mean() > 0.1 and (written[outside] == fill).all()
    assert (written[~outside] != 0).mean() > 0.9


def test_a_fill_that_is_no_number(folder, capsys):
    words = ["--transform", "a.tfm", "--fill", "air", *WARP, "--output", "w.nii"]
    assert run(folder, words) == 2
    assert "write auto or a number" in capsys.readouterr().err


@pytest.mark.parametrize("fill", ["-1", "5e-1", "40000", "nan"])
def test_a_fill_outside_the_type(folder, capsys, fill):
    grid = GRIDS["radiological"]
    images.save(folder / "moving.nii.gz", volume(grid.shape, np.uint8), grid)
    words = ["--transform", "a.tfm", f"--fill={fill}", *WARP, "--output", "w.nii"]
    assert run(folder, words) == 2
    message = capsys.readouterr().err
    assert "is none of uint8" in message and message.count("\n") == 1
    assert not (folder / "w.nii").exists()


def test_the_background_value_of_images():
    random = np.random.default_rng(0)
    noise = random.normal(0, 3, (20, 21, 22))
    air = np.where(np.abs(np.indices((20, 21, 22)) - 10).max(0) < 8, 40, -1000) + noise
    brain = np.where(np.abs(np.indices((20, 21, 22)) - 10).max(0) < 8, 900, 0)
    assert resampling.background_value(brain.astype(np.uint16)) == 0
    assert abs(resampling.background_value(air) + 1000) < 1
    rounded = resampling.background_value(air.astype(np.int16))
    assert abs(rounded + 1000) < 2 and rounded == int(rounded)
    assert resampling.background_value(np.abs(noise)) == 0
    assert resampling.background_value(brain - 1.5) == -1.5


def test_labels_are_not_interpolated_with_overshoot(folder, capsys):
    words = ["--transform", "a.tfm", "--labels", "--interpolation", "cubic"]
    words += ["--moving", "moving_labels.nii.gz", "--reference", "fixed.nii.gz"]
    assert run(folder, [*words, "--output", "w.nii"]) == 2
    assert "choose nearest or linear" in capsys.readouterr().err


@pytest.mark.parametrize("interpolation", ["cubic", "lanczos"])
def test_the_command_interpolates_as_the_function(folder, interpolation):
    words = ["--transform", "a.tfm", "--interpolation", interpolation, *WARP]
    assert run(folder, [*words, "--output", "w.nii"]) == 0
    moving = images.load(folder / "moving.nii.gz")
    expected = transforms.resample(
        moving.data, moving.affine, NEAR, GRIDS["oblique"], interpolation=interpolation,
        fill=resampling.background_value(moving.data),
    )  # fmt: skip
    assert np.abs(nib.load(folder / "w.nii").get_fdata() - expected).max() < 1e-2


def orientations() -> list[np.ndarray]:
    """All 48 orders and directions of the axes in nibabel's notation."""
    return [
        np.column_stack([axes, flips])
        for axes in itertools.permutations(range(3))
        for flips in itertools.product((1, -1), repeat=3)
    ]


def test_all_orientations_are_nibabels(tmp_path):
    """Resampled to its own grid with other axes, an image keeps its exact voxels."""
    image = nib.Nifti1Image(volume((5, 6, 7), np.int16), GRIDS["oblique"].affine)
    for number, order in enumerate(orientations()):
        turned = image.as_reoriented(order)
        x, y, z = turned.shape
        grid = transforms.Grid((x, y, z), turned.affine)
        interpolation = ALL[number % 4]
        result = transforms.resample(
            image.get_fdata(),
            image.affine,
            np.eye(4),
            grid,
            interpolation=interpolation,
        )
        assert np.abs(result - turned.get_fdata()).max() < 1e-6
        labels = transforms.resample_labels(
            np.asanyarray(image.dataobj), image.affine, np.eye(4), grid
        )
        assert (labels == turned.get_fdata()).all()


def test_formats_agree_in_all_orientations(tmp_path):
    """An FSL and an LTA matrix mean the same whatever the order of either file."""
    base = nib.Nifti1Image(np.ones((5, 6, 7), np.uint8), GRIDS["oblique"].affine)
    turned = [base.as_reoriented(order) for order in orientations()]
    grids = [transforms.Grid(image.shape, image.affine) for image in turned]
    for fixed, moving, space in zip(grids, grids[7:] + grids[:7], turned, strict=True):
        ends = {"fixed": fixed, "moving": moving}
        for name, format in (("t.mat", "fsl"), ("t.lta", "lta")):
            transforms.write(tmp_path / name, NEAR, format=format, **ends)
            result = transforms.read(tmp_path / name, **ends)
            assert np.abs(result - NEAR).max() < 1e-9
        other = nib.Nifti1Image(np.ones(moving.shape, np.uint8), moving.affine)
        peers = fsl_peer.FSLLinearTransform.from_filename(tmp_path / "t.mat")
        matrix_read = peers.to_ras(moving=other, reference=space)
        assert np.abs(matrix_read - NEAR).max() < 1e-4
