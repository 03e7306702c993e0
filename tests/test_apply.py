"""Resampling against SimpleITK on odd grids and real headers; `mdvit apply`."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from mdvit_jax import __main__
from mdvit_jax.registration import images, resample, transforms
from test_transforms import GRIDS, PAIRS, affine

NEAR = np.eye(4)
NEAR[:3, :3] += np.array([[0.05, 0.1, 0], [-0.08, -0.04, 0.02], [0, 0.06, 0.03]])
NEAR[:3, 3] = 2, -1, 3


def to_sitk(data: np.ndarray, matrix: np.ndarray) -> sitk.Image:
    """An image with these voxels in this place (LPS)."""
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
    found = sitk.Resample(
        to_sitk(data, matrix),
        reference,
        sitk.ReadTransform(str(folder / "peer.tfm")),
        interpolator,
        0.0,
    )
    return sitk.GetArrayFromImage(found).transpose(2, 1, 0)


def volume(shape, dtype=np.float32):
    return np.random.default_rng(0).uniform(10, 200, shape).astype(dtype)


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_resampling_is_that_of_simpleitk(tmp_path, fixed, moving):
    fixed, moving = GRIDS[fixed], GRIDS[moving]
    data = volume(moving.shape)
    expected = peer(data, moving.affine, NEAR, fixed, sitk.sitkLinear, tmp_path)
    found = resample.resample(data, moving.affine, NEAR, fixed)
    assert (expected > 0).mean() > 0.05, "the images must meet"
    assert found.shape == fixed.shape and found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.01  # of 200: ITK steps in float32
    labels = data.astype(np.int32)
    expected = peer(
        labels, moving.affine, NEAR, fixed, sitk.sitkNearestNeighbor, tmp_path
    )
    found = resample.resample(labels, moving.affine, NEAR, fixed, order=0)
    assert (found != expected).mean() < 1e-3  # half-way between two voxels
    assert np.isin(found, [0, *np.unique(labels)]).all()


def test_the_identity_changes_nothing():
    for grid in GRIDS.values():
        data = volume(grid.shape)
        assert (resample.resample(data, grid.affine, np.eye(4), grid) == data).all()


def test_there_and_back():
    grid, matrix = GRIDS["straight"], NEAR
    x = np.indices(grid.shape, dtype=np.float32)
    ramp = 1 + x[0] + 2 * x[1] + 3 * x[2]  # which linear interpolation does not blur
    there = resample.resample(ramp, grid.affine, matrix, grid)
    back = resample.resample(there, grid.affine, np.linalg.inv(matrix), grid)
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
    found = nib.load(out)
    assert np.allclose(found.affine, fixed.affine, atol=1e-4)
    as_mgh = ending == ".mgz" and dtype == np.uint16  # which mgh has not
    assert found.get_data_dtype().newbyteorder("=") == (np.float32 if as_mgh else dtype)
    if ending != ".mgz":
        assert int(found.header["sform_code"]) == 4
        assert found.header.get_xyzt_units() == ("mm", "sec")
    expected = resample.resample(
        data.astype(np.float32), moving.affine, NEAR, fixed
    )  # fmt: skip
    exact = dtype == np.float32 or as_mgh
    assert np.abs(found.get_fdata() - expected).max() <= (1e-3 if exact else 0.501)


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
    one, other = (images.load(folder / f"{name}.nii.gz").grid for name in names)
    matrix = np.linalg.inv(NEAR) if invert else NEAR
    transforms.write(folder / "b.mat", matrix, format="fsl", fixed=one, moving=other)
    words = ["--transform", "b.mat", *["--invert"][:invert]]
    assert run(folder, [*words, *WARP, "--output", "w.nii"]) == 0
    assert run(folder, ["--transform", "a.tfm", *WARP, "--output", "v.nii"]) == 0
    one, other = (nib.load(folder / n).get_fdata() for n in ("w.nii", "v.nii"))
    assert one.any() and np.abs(one - other).max() < 1e-2


def test_a_missing_input_is_told_where_the_output_is_there_already(folder, capsys):
    (folder / "w.nii").write_bytes(b"old")
    words = ["--transform", "no.tfm", *WARP, "--output", "w.nii"]
    assert run(folder, words) == 2
    assert "no.tfm cannot be read" in capsys.readouterr().err
    assert (folder / "w.nii").read_bytes() == b"old"


def test_labels_stay_labels(folder):
    words = ["--transform", "a.tfm", "--labels", "--moving", "moving_labels.nii.gz"]
    words += ["--reference", "fixed.nii.gz", "--output", "w.nii.gz"]
    assert run(folder, words) == 0
    found = nib.load(folder / "w.nii.gz")
    assert found.get_data_dtype() == np.int16
    assert set(np.unique(found.get_fdata())) <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--transform", "a.tfm", "--output", "moving.nii.gz"], "is read"),
        (["--transform", "a.tfm", "--output", "w.png"], "none of the endings"),
        (["--transform", "no.tfm", "--output", "w.nii"], "cannot be read"),
        (["--transform", "a.tfm", "--output", "no/w.nii"], "cannot be written"),
    ],
)
def test_mistakes_get_one_sentence(folder, capsys, words, why):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert run(folder, [*words, *WARP]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and why in told and told.count("\n") == 1
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()}
