"""Resampling against SimpleITK on odd grids and real headers; `mdvit apply`."""

import os
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from mdvit_jax import __main__, transforms
from mdvit_jax.io import image as images
from mdvit_jax.io import nifti, voxels
from test_transforms import GRIDS, PAIRS, affine

NEAR = np.eye(4)
NEAR[:3, :3] += np.array([[0.05, 0.1, 0], [-0.08, -0.04, 0.02], [0, 0.06, 0.03]])
NEAR[:3, 3] = 2, -1, 3


def to_sitk(data: np.ndarray, matrix: np.ndarray) -> sitk.Image:
    """The image in SimpleITK, whose world is LPS."""
    image = sitk.GetImageFromArray(data.transpose(2, 1, 0))
    lps = np.diag([-1.0, -1, 1, 1]) @ matrix
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(sizes.tolist())
    image.SetDirection((lps[:3, :3] / sizes).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def peer(data, matrix, transform, target: transforms.Grid, interpolator, folder):
    transforms.write(folder / "peer.tfm", transform)
    reference = to_sitk(np.zeros(target.shape, np.float32), target.affine)
    warped = sitk.Resample(
        to_sitk(data, matrix),
        reference,
        sitk.ReadTransform(str(folder / "peer.tfm")),
        interpolator,
        0.0,
    )
    return sitk.GetArrayFromImage(warped).transpose(2, 1, 0)


def volume(shape, dtype=np.float32):
    return np.random.default_rng(0).uniform(10, 200, shape).astype(dtype)


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_resampling_is_that_of_simpleitk(tmp_path, fixed, moving):
    fixed, moving = GRIDS[fixed], GRIDS[moving]
    data = volume(moving.shape)
    expected = peer(data, moving.affine, NEAR, fixed, sitk.sitkLinear, tmp_path)
    warped = transforms.resample(data, moving.affine, NEAR, fixed)
    assert (expected > 0).mean() > 0.05, "the images must meet"
    assert warped.shape == fixed.shape and warped.dtype == np.float32
    assert np.abs(warped - expected).max() < 0.01  # of 200: ITK steps in float32
    labels = data.astype(np.int32)
    expected = peer(
        labels, moving.affine, NEAR, fixed, sitk.sitkNearestNeighbor, tmp_path
    )
    warped = transforms.resample(
        labels, moving.affine, NEAR, fixed, interpolation="nearest"
    )
    assert (warped != expected).mean() < 1e-3  # half-way between two voxels
    assert np.isin(warped, [0, *np.unique(labels)]).all()


def test_the_identity_changes_nothing():
    for grid in GRIDS.values():
        data = volume(grid.shape)
        assert (transforms.resample(data, grid.affine, np.eye(4), grid) == data).all()


def test_a_transform_and_its_inverse_cancel():
    grid, matrix = GRIDS["straight"], NEAR
    x = np.indices(grid.shape, dtype=np.float32)
    ramp = 1 + x[0] + 2 * x[1] + 3 * x[2]  # which linear interpolation does not blur
    there = transforms.resample(ramp, grid.affine, matrix, grid)
    back = transforms.resample(there, grid.affine, np.linalg.inv(matrix), grid)
    inner = (slice(8, -8),) * 3
    assert np.abs(back - ramp)[inner].max() < 1e-3


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mgz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_header_and_type_are_kept(tmp_path, ending, dtype):
    fixed, moving = GRIDS["oblique"], GRIDS["radiological"]
    reference = nib.Nifti1Image(volume(fixed.shape), fixed.affine)
    reference.set_sform(fixed.affine, 4)
    reference.set_qform(fixed.affine, 1)
    reference.header.set_xyzt_units("mm", "sec")
    nib.save(reference, tmp_path / "fixed.nii.gz")
    data = volume(moving.shape, dtype)
    nib.save(nib.Nifti1Image(data, moving.affine), tmp_path / "moving.nii.gz")
    transforms.write(tmp_path / "t.tfm", NEAR)
    out = tmp_path / f"warped{ending}"
    arguments = ["--transform", "t.tfm", "--moving", "moving.nii.gz"]
    arguments += ["--reference", "fixed.nii.gz", "--output", out.name]
    assert run(tmp_path, arguments) == 0
    saved = nib.load(out)
    assert np.allclose(saved.affine, fixed.affine, atol=1e-4)
    as_mgh = ending == ".mgz" and dtype == np.uint16  # which mgh has not
    assert saved.get_data_dtype().newbyteorder("=") == (np.int32 if as_mgh else dtype)
    if ending != ".mgz":
        assert int(saved.header["sform_code"]) == 4
        assert saved.header.get_xyzt_units() == ("mm", "unknown")
    expected = transforms.resample(
        data.astype(np.float32), moving.affine, NEAR, fixed
    )  # fmt: skip
    exact = dtype == np.float32
    assert np.abs(saved.get_fdata() - expected).max() <= (1e-3 if exact else 0.501)


def run(folder, arguments):
    """The command with files of a folder."""
    files = {"t.tfm", "a.tfm", "b.mat"}
    words = [
        str(folder / word) if word in files or "." in word else word
        for word in arguments
    ]
    return __main__.main(["apply", *words])


@pytest.fixture
def folder(tmp_path):
    for name, key in (("fixed", "oblique"), ("moving", "radiological")):
        grid = GRIDS[key]
        image = nib.Nifti1Image(volume(grid.shape), grid.affine)
        nib.save(image, tmp_path / f"{name}.nii.gz")
        labels = nib.Nifti1Image(
            (volume(grid.shape) // 50).astype(np.int16), grid.affine
        )
        nib.save(labels, tmp_path / f"{name}_labels.nii.gz")
    transforms.write(tmp_path / "a.tfm", NEAR)
    return tmp_path


WARP = ["--moving", "moving.nii.gz", "--reference", "fixed.nii.gz"]


def test_several_transforms_are_composed_and_inverted(folder):
    first, second = affine(11), NEAR @ np.linalg.inv(affine(11))
    transforms.write(folder / "one.tfm", first)
    transforms.write(folder / "two.x5", second)
    transforms.write(folder / "back.txt", np.linalg.inv(NEAR))
    ways = {
        "w1.nii.gz": ["--transform", "a.tfm"],
        "w2.nii.gz": ["--transform", "one.tfm", "two.x5"],
        "w3.nii.gz": ["--transform", "back.txt", "--invert"],
    }
    for out, way in ways.items():
        assert run(folder, [*way, *WARP, "--output", out]) == 0
    data = [nib.load(folder / out).get_fdata() for out in ways]
    assert data[0].any()
    assert np.abs(data[1] - data[0]).max() < 1e-2
    assert np.abs(data[2] - data[0]).max() < 1e-2


@pytest.mark.parametrize("invert", [False, True])
def test_an_fsl_matrix_takes_the_two_images(folder, invert):
    names = ("moving", "fixed") if invert else ("fixed", "moving")
    one, other = (nifti.read_grid(folder / f"{name}.nii.gz") for name in names)
    matrix = np.linalg.inv(NEAR) if invert else NEAR
    transforms.write(folder / "b.mat", matrix, format="fsl", fixed=one, moving=other)
    words = ["--transform", "b.mat", *["--invert"][:invert]]
    assert run(folder, [*words, *WARP, "--output", "w.nii"]) == 0
    assert run(folder, ["--transform", "a.tfm", *WARP, "--output", "v.nii"]) == 0
    one, other = (nib.load(folder / n).get_fdata() for n in ("w.nii", "v.nii"))
    assert one.any() and np.abs(one - other).max() < 1e-2


def test_options_of_single_transforms(folder):
    """An inverse, then a matrix of FSL, its inverse, or one of greedy."""
    middle = GRIDS["coronal"]
    images.save(folder / "middle.nii.gz", np.ones(middle.shape, np.uint8), middle)
    moving = nifti.read_grid(folder / "moving.nii.gz")
    middle = nifti.read_grid(folder / "middle.nii.gz")
    first, second = affine(21), NEAR @ np.linalg.inv(affine(21))
    transforms.write(folder / "one.txt", np.linalg.inv(first))
    ends = {"fixed": middle, "moving": moving}
    transforms.write(folder / "two.mat", second, format="fsl", **ends)
    ends = {"fixed": moving, "moving": middle}
    back = np.linalg.inv(second)
    transforms.write(folder / "back.mat", back, format="fsl", **ends)
    transforms.write(folder / "greedy.txt", second)
    (folder / "greedy.txt").rename(folder / "greedy.mat")
    one = f"{folder / 'one.txt'}:invert"
    centre, end = folder / "middle.nii.gz", folder / "moving.nii.gz"
    ways = [
        [one, f"{folder / 'two.mat'}:fixed={centre}"],
        [
            one,
            f"{folder / 'two.mat'}:format=fsl:fixed={centre}:moving={end}",
        ],
        [one, f"{folder / 'back.mat'}:moving={centre}:invert"],
        [one, f"{folder / 'greedy.mat'}:format=text"],
    ]
    assert run(folder, ["--transform", "a.tfm", *WARP, "--output", "v.nii"]) == 0
    expected = nib.load(folder / "v.nii").get_fdata()
    for way in ways:
        words = ["--transform", *way, *WARP, "--output", "w.nii", "--overwrite"]
        assert run(folder, words) == 0, way
        result = nib.load(folder / "w.nii").get_fdata()
        assert expected.any() and np.abs(result - expected).max() < 2e-2


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("format=ants", '"ants" is not a format'),
        ("fixed=", "fixed= is not an option"),
        ("inverse=1", "inverse=1 is not an option"),
        ("fixed=no.nii", "no.nii"),
    ],
)
def test_mistakes_in_the_options_of_a_transform(folder, capsys, option, why):
    words = ["--transform", f"{folder / 'a.tfm'}:{option}", *WARP, "--output", "w.nii"]
    assert run(folder, words) == 2
    assert why in capsys.readouterr().err


def test_a_chain_with_an_fsl_matrix_names_what_it_needs(folder, capsys):
    (folder / "b.mat").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    words = ["--transform", "a.tfm", "b.mat", *WARP, "--output", "w.nii"]
    assert run(folder, words) == 2
    message = capsys.readouterr().err
    assert "b.mat holds an FSL matrix" in message
    assert "after the file: :fixed=IMAGE:moving=IMAGE" in message


def test_a_missing_input_leaves_an_existing_output_in_place(folder, capsys):
    (folder / "w.nii").write_bytes(b"old")
    words = ["--transform", "no.tfm", *WARP, "--output", "w.nii"]
    assert run(folder, words) == 2
    assert "w.nii is there already" in capsys.readouterr().err
    assert run(folder, [*words, "--overwrite"]) == 2
    assert "no.tfm cannot be read" in capsys.readouterr().err
    assert (folder / "w.nii").read_bytes() == b"old"


def test_labels_stay_labels(folder):
    words = ["--transform", "a.tfm", "--labels", "--moving", "moving_labels.nii.gz"]
    words += ["--reference", "fixed.nii.gz", "--output", "w.nii.gz"]
    assert run(folder, words) == 0
    saved = nib.load(folder / "w.nii.gz")
    assert saved.get_data_dtype() == np.int16
    assert set(np.unique(saved.get_fdata())) <= {0, 1, 2, 3}


def patches(path, dtype, values=(0, 7, 9, 200)):
    """A label map with patches larger than a voxel."""
    grid = GRIDS["radiological"]
    coarse = np.random.default_rng(4).choice(values, (4, 3, 4))
    data = np.kron(coarse, np.ones((6, 6, 5))).astype(dtype)
    nib.save(nib.Nifti1Image(data, grid.affine), path)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_label_map_is_not_interpolated_by_accident(folder, capsys, dtype):
    patches(folder / "p.nii", dtype)
    words = ["--transform", "a.tfm", "--moving", "p.nii", "--reference"]
    words += ["fixed.nii.gz", "--output", "w.nii", "--overwrite"]
    assert run(folder, words) == 2
    message = capsys.readouterr().err
    assert "p.nii looks like a label map" in message and message.count("\n") == 1
    assert not (folder / "w.nii").exists()
    for option in (["--labels"], ["--interpolation", "linear"]):
        assert run(folder, [*words, *option]) == 0
    patches(folder / "p.nii", dtype, (0, 1))  # a mask is cut at one half
    assert run(folder, words) == 0


def test_an_image_of_grey_values_is_no_label_map(folder, capsys):
    words = ["--transform", "a.tfm", "--labels", *WARP, "--output", "w.nii"]
    assert run(folder, words) == 2
    message = capsys.readouterr().err
    assert "moving.nii.gz holds values that are not whole" in message
    assert message.count("\n") == 1 and not (folder / "w.nii").exists()


def test_an_empty_result_is_warned_about(folder, caplog, capsys):
    far = np.eye(4)
    far[:3, 3] = 900
    transforms.write(folder / "far.tfm", far)
    words = ["--transform", "far.tfm", *WARP, "--output", "w.nii"]
    assert run(folder, words) == 3
    assert not nib.load(folder / "w.nii").get_fdata().any()
    assert "moving.nii.gz lies wholly outside" in caplog.text
    assert capsys.readouterr().out.startswith(f"{folder / 'w.nii'}: ")
    caplog.clear()
    assert run(folder, ["--transform", "a.tfm", *WARP, "--output", "v.nii"]) == 0
    assert not caplog.records


def one_hot(labels, matrix, source, target):
    """The weight of every label at every voxel, {label: [x, y, z]}."""
    result = {}
    for label in np.unique([0, *np.unique(labels)]):
        indicator = (labels == label).astype(np.float64)
        result[label] = transforms.resample(indicator, source.affine, matrix, target)
    return result


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_linear_labels_are_the_dense_one_hot_form_and_simpleitk(
    tmp_path, fixed, moving
):
    fixed, moving = GRIDS[fixed], GRIDS[moving]
    coarse = np.random.default_rng(1).choice([0, 2, 5, -7, 900000], (9, 9, 9))
    labels = np.kron(coarse, np.ones((3, 4, 4), int)).astype(np.int32)
    labels = np.tile(labels, (1, 1, 2))[tuple(map(slice, moving.shape))]
    weights = one_hot(labels, NEAR, moving, fixed)
    names, stack = np.array(list(weights)), np.stack(list(weights.values()))
    ordered = np.sort(stack, axis=0)
    inside = stack.sum(axis=0) > 0.5
    clear = inside & (ordered[-1] - ordered[-2] > 2e-6)
    warped = transforms.resample_labels(labels, moving.affine, NEAR, fixed)
    assert warped.shape == fixed.shape and warped.dtype == np.int32
    assert clear.sum() > 300
    assert (warped == names[stack.argmax(axis=0)])[clear].all()
    assert (warped[~inside] == 0).all()
    chosen = np.take_along_axis(stack, np.searchsorted(names, warped)[None], axis=0)[0]
    assert (chosen > ordered[-1] - 2e-6)[inside].all()
    nearest = transforms.resample(
        labels, moving.affine, NEAR, fixed, interpolation="nearest"
    )
    assert (warped != nearest)[inside].mean() > 0.005
    kind = sitk.sitkLabelLinear
    expected = peer(labels, moving.affine, NEAR, fixed, kind, tmp_path)
    assert (warped != expected).mean() < 1e-3  # labels of equal weight


@pytest.mark.parametrize("shape", [(7, 5, 6), (7, 1, 6), (1, 5, 1), (1, 1, 1)])
def test_linear_labels_under_the_identity_are_the_same(shape):
    labels = np.random.default_rng(2).integers(-4, 90, shape).astype(np.int32)
    grid = transforms.Grid(shape, GRIDS["oblique"].affine)
    warped = transforms.resample_labels(labels, grid.affine, np.eye(4), grid)
    assert (warped == labels).all()


def test_of_two_equal_weights_the_smaller_label_wins():
    labels = np.array([5, 3, 0, 8], np.int32).reshape(4, 1, 1)
    grid, half = transforms.Grid((4, 1, 1), np.eye(4)), np.eye(4)
    half[0, 3] = 0.5
    warped = transforms.resample_labels(labels, np.eye(4), half, grid)
    assert warped.ravel().tolist() == [3, 0, 0, 8]  # the last is at the edge of its box


def test_no_transform_makes_new_labels():
    random = np.random.default_rng(3)
    target = GRIDS["coronal"]
    for seed in range(20):
        shape = tuple(random.integers(1, 20, 3))
        labels = random.choice(random.integers(-(2**31), 2**31, 4), shape)
        labels = labels.astype(np.int32)
        source = GRIDS["radiological"]
        warped = transforms.resample_labels(labels, source.affine, affine(seed), target)
        assert np.isin(warped, [0, *np.unique(labels)]).all()


def save_series(path, grid, count, dtype=np.int16, *, step=2.5, units=("mm", "sec")):
    data = np.stack([volume(grid.shape, dtype) // (t + 1) for t in range(count)], -1)
    unit = 1000 if units[0] == "micron" else 1
    series = nib.Nifti1Image(data, np.diag([unit, unit, unit, 1]) @ grid.affine)
    series.header.set_xyzt_units(*units)
    series.header["pixdim"][4], series.header["toffset"] = step, 0.75
    nib.save(series, path)
    return data


@pytest.mark.parametrize("units", [("mm", "sec"), ("mm", "msec"), ("micron", "hz")])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_series_goes_volume_by_volume(folder, units, dtype):
    fixed, moving = GRIDS["oblique"], GRIDS["radiological"]
    reference = nib.load(folder / "fixed.nii.gz")
    reference.header.set_xyzt_units("mm", "usec")
    nib.save(reference, folder / "fixed.nii.gz")
    data = save_series(folder / "moving.nii.gz", moving, 5, dtype, units=units)
    words = ["--transform", "a.tfm", *WARP, "--output", "w.nii.gz"]
    assert run(folder, words) == 0
    saved = nib.load(folder / "w.nii.gz")
    assert saved.shape == (*fixed.shape, 5) and saved.get_data_dtype() == dtype
    assert np.allclose(saved.affine, fixed.affine, atol=1e-4)
    assert saved.header.get_zooms()[3] == 2.5 and saved.header["toffset"] == 0.75
    assert saved.header.get_xyzt_units() == ("mm", units[1])
    for t in range(5):
        expected = transforms.resample(
            data[..., t].astype(np.float32), moving.affine, NEAR, fixed
        )
        exact = np.issubdtype(dtype, np.floating)
        off = np.abs(saved.get_fdata()[..., t] - expected).max()
        assert off <= (1e-3 if exact else 0.501)


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_series_of_label_maps(folder, interpolation, ending):
    data = save_series(folder / f"m{ending}", GRIDS["radiological"], 3, np.uint8) // 50
    nib.save(nib.Nifti1Image(data, GRIDS["radiological"].affine), folder / f"m{ending}")
    words = ["--transform", "a.tfm", "--labels", "--interpolation", interpolation]
    words += ["--moving", f"m{ending}", "--reference", "fixed.nii.gz"]
    assert run(folder, [*words, "--output", "w.nii.gz"]) == 0
    saved = nib.load(folder / "w.nii.gz")
    assert saved.get_data_dtype() == np.uint8 and saved.shape[3] == 3
    for t in range(3):
        arguments = data[..., t], GRIDS["radiological"].affine, NEAR, GRIDS["oblique"]
        if interpolation == "linear":
            expected = transforms.resample_labels(*arguments)
        else:
            expected = transforms.resample(*arguments, interpolation="nearest")
        assert (saved.get_fdata()[..., t] == expected).all() and expected.any()


@pytest.mark.parametrize(("unit", "step"), [("sec", 2500), ("msec", 2.5)])
def test_the_time_step_between_nifti_and_freesurfer(folder, unit, step):
    save_series(folder / "m.nii", GRIDS["radiological"], 2, units=("mm", unit))
    words = ["--transform", "a.tfm", "--reference", "fixed.nii.gz", "--moving"]
    assert run(folder, [*words, "m.nii", "--output", "w.mgz"]) == 0
    assert nib.load(folder / "w.mgz").header.get_zooms()[3] == step
    assert run(folder, [*words, "w.mgz", "--output", "v.nii.gz"]) == 0
    header = nib.load(folder / "v.nii.gz").header
    assert header.get_zooms()[3] == step and header.get_xyzt_units()[1] == "msec"


def test_only_the_grid_of_a_reference_is_used(folder):
    save_series(folder / "many.nii.gz", GRIDS["oblique"], 3)
    nib.save(
        nib.Nifti1Image(np.ones(GRIDS["oblique"].shape, "u1"), GRIDS["oblique"].affine),
        folder / "ones.nii.gz",
    )
    words = ["--transform", "a.tfm", "--moving", "moving.nii.gz"]
    data = []
    for reference in ("many.nii.gz", "ones.nii.gz", "fixed.nii.gz"):
        run(folder, [*words, "--reference", reference, "--output", "w.nii.gz"])
        data.append(nib.load(folder / "w.nii.gz").get_fdata())
    assert data[0].ndim == 3 and data[0].any()
    assert (data[0] == data[2]).all() and (data[1] == data[2]).all()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_series_is_resampled_one_volume_at_a_time(folder, ending):
    grid, count = GRIDS["radiological"], 60
    save_series(folder / f"m{ending}", grid, count, np.int16)
    words = ["--transform", "a.tfm", "--moving", f"m{ending}"]
    words += ["--reference", "fixed.nii.gz", "--output", "w.nii", "--overwrite"]
    run(folder, words)  # what is imported at the first time
    tracemalloc.start()
    assert run(folder, words) == 0
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    inside, outside = np.prod(grid.shape), np.prod(GRIDS["oblique"].shape)
    whole = 2 * count * (outside + (inside if ending == ".nii.gz" else 0))
    assert most < whole + 60 * max(inside, outside) + 1e6


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mgz"])
def test_a_larger_image_takes_four_times_as_much_memory(folder, ending, interpolation):
    """Not more: 482 million voxels of 16 bits take 4 GB."""
    words = ["--transform", "a.tfm", "--moving", f"m{ending}"]
    words += ["--reference", f"m{ending}", "--output", f"w{ending}", "--overwrite"]
    words += ["--interpolation", interpolation]
    most, sizes = [], []
    for shape in ((60, 70, 64), (60, 70, 64), (120, 150, 128)):
        data = np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)
        images.save(folder / f"m{ending}", data, transforms.Grid(shape, np.eye(4)))
        del data
        tracemalloc.start()
        assert run(folder, words) == 0
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sizes.append(2 * np.prod(shape))
    assert most[2] - most[1] < 4 * (sizes[2] - sizes[1])


@pytest.mark.parametrize("dtype", ["i1", "u2", "i4", "u4", "i8", "u8"])
def test_whole_numbers_are_cut_off_at_their_limits(dtype):
    limits = np.iinfo(dtype)
    far = np.array([-1e30, -0.6, 3.5, 4.5, 1e30, limits.max], np.float32)
    result = voxels.cast(far, np.dtype(dtype))
    low = max(-1, limits.min)
    assert result.tolist() == [limits.min, low, 4, 4, limits.max, limits.max]


def test_an_image_by_the_nearest_voxel(folder):
    words = ["--transform", "a.tfm", "--interpolation", "nearest", *WARP]
    assert run(folder, [*words, "--output", "w.nii"]) == 0
    values = nib.load(folder / "moving.nii.gz").get_fdata()
    assert np.isin(nib.load(folder / "w.nii").get_fdata(), [0, *values.ravel()]).all()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--transform", "a.tfm", "--output", "moving.nii.gz"], "is read"),
        (["--transform", "a.tfm", "--output", "w.png"], "none of the endings"),
        (["--transform", "no.tfm", "--output", "w.nii"], "cannot be read"),
        (["--transform", "a.tfm", "--output", "fixed.nii.gz"], "is read"),
        (["--transform", "a.tfm", "--output", "a.tfm"], "is read"),
        (["--transform", "a.tfm", "--output", "no/w.nii"], "there is no folder"),
        (["--transform", "a.tfm", "--output", "d.nii"], "it is a folder"),
    ],
)
def test_mistakes_get_one_sentence(folder, capsys, words, why):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    (folder / "d.nii").mkdir()
    assert run(folder, [*words, *WARP]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and why in message and message.count("\n") == 1
    (folder / "d.nii").rmdir()
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_folder_that_cannot_be_written_to(folder, capsys, monkeypatch):
    before = sorted(folder.iterdir())
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root can everywhere
    words = ["--transform", "a.tfm", *WARP, "--output", "w.nii"]
    assert run(folder, words) == 2
    message = capsys.readouterr().err
    assert (
        "nothing can be written to the folder" in message and message.count("\n") == 1
    )
    assert before == sorted(folder.iterdir())


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mgz"])
def test_a_full_disk_leaves_the_old_output(folder, capsys, monkeypatch, ending):
    def full(image, stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    (folder / f"w{ending}").write_bytes(b"old")
    before = sorted(folder.iterdir())
    for kind in (nib.Nifti1Image, nib.MGHImage):
        monkeypatch.setattr(kind, "to_stream", full)
    words = ["--transform", "a.tfm", *WARP, "--output", f"w{ending}", "--overwrite"]
    assert run(folder, words) == 2
    message = capsys.readouterr().err
    assert "No space left on device" in message and message.count("\n") == 1
    assert (folder / f"w{ending}").read_bytes() == b"old"
    assert before == sorted(folder.iterdir())
