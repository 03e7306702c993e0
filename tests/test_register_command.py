"""`mdvit register`: every option, on real brains moved by a known affine."""

import base64
import hashlib
import io
import json
import logging
import shutil
import subprocess
import sys
from types import SimpleNamespace

import nibabel as nib
import nibabel.processing
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from helpers.run import untrained
from mdvit_jax import __main__, register, transforms
from mdvit_jax.cli.register import run_register
from mdvit_jax.cli.review import qc
from mdvit_jax.io import image as images
from mdvit_jax.io import named_templates
from mdvit_jax.plots import planes, strips
from mdvit_jax.registration import quality, similarity_metrics
from test_brain_extraction import error
from test_loop import config as tiny_config

VOXEL = 3.5  # mm


def known() -> np.ndarray:
    """Fixed → moving; turned by 18°, shifted far, larger."""
    matrix = np.eye(4)
    turn = Rotation.from_rotvec([0.1, -0.2, 0.22]).as_matrix()
    matrix[:3, :3] = turn * 1.05
    matrix[:3, 3] = 30, -45, 60
    return matrix


def grid_around(centre, axes, turn) -> transforms.Grid:
    """An oblique grid of 60³ voxels with permuted axes."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    affine[:3, :3] @= np.array(axes) * VOXEL
    affine[:3, 3] = centre - affine[:3, :3] @ np.full(3, 29.5)
    return transforms.Grid((60, 60, 60), affine)


def save(path, data, affine, dtype, code):
    image = nib.Nifti1Image(data.astype(dtype), affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = path.stem.encode()
    nib.save(image, path)


@pytest.fixture(scope="module")
def scans(real_data, tmp_path_factory):
    """A brain and its labels on a flipped grid and, elsewhere, on an oblique one."""
    folder = tmp_path_factory.mktemp("scans")
    brain = images.load(real_data / "oasis1_malf" / "1000_SS.nii.gz")
    labels = images.load_labels(real_data / "oasis1_malf" / "1000_glm.nii.gz")
    voxels = np.argwhere(brain.data > 0).mean(0)
    centre = brain.affine[:3, :3] @ voxels + brain.affine[:3, 3]
    there = known()[:3, :3] @ centre + known()[:3, 3]
    back = np.linalg.inv(known())
    for name, grid, matrix, dtype, code in (
        ("fixed", grid_around(centre, [[0, -1, 0], [0, 0, 1], [1, 0, 0]], (0, 0, 0)),
         np.eye(4), np.int16, 4),
        ("moving", grid_around(there, [[-1, 0, 0], [0, 1, 0], [0, 0, 1]], (9, -14, 5)),
         back, np.float32, 1),
    ):  # fmt: skip
        smooth = nib.processing.smooth_image(
            nib.Nifti1Image(brain.data, brain.affine), VOXEL * 0.8
        )
        data = transforms.resample(smooth.get_fdata(), brain.affine, matrix, grid)
        data[data < 20] = 0
        save(folder / f"{name}.nii.gz", data, grid.affine, dtype, code)
        warped = transforms.resample(
            labels.data, labels.affine, matrix, grid, interpolation="nearest"
        )
        save(folder / f"{name}_labels.nii.gz", warped, grid.affine, np.int16, code)
        save(folder / f"{name}_mask.nii", data > 0, grid.affine, np.uint8, code)
    data = nib.load(folder / "moving.nii.gz").get_fdata()
    series = np.stack([data, data / 2, data / 4], axis=-1)
    affine = nib.load(folder / "moving.nii.gz").affine
    image = nib.Nifti1Image(series.astype(np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.5
    nib.save(image, folder / "moving_series.nii.gz")
    return folder


@pytest.fixture(autouse=True)
def level():
    """Restore the level of the log, which the command changes."""
    logger = logging.getLogger("mdvit_jax")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture
def here(scans, tmp_path, monkeypatch):
    """An empty working folder for the command; the scans are in ../scans."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(scans, here):
    """Run the command on the two scans; outputs go to the working folder."""

    def run(*words, fixed="fixed.nii.gz", moving="moving.nii.gz"):
        pair = ["--fixed", str(scans / fixed), "--moving", str(scans / moving)]
        return __main__.main(["register", *pair, *map(str, words)])

    return run


def apart(matrix, scans) -> float:
    """The largest error of a matrix at a voxel of the fixed brain, in mm."""
    image = nib.load(scans / "fixed.nii.gz")
    points = np.argwhere(np.asarray(image.dataobj) > 0)
    points = points @ image.affine[:3, :3].T + image.affine[:3, 3]
    off = matrix - known()
    return float(np.linalg.norm(points @ off[:3, :3].T + off[:3, 3], axis=1).max())


@pytest.fixture(scope="module")
def done(scans, tmp_path_factory):
    """All output files of one call, and its printed output."""
    folder = tmp_path_factory.mktemp("done")
    words = ["--fixed", scans / "fixed.nii.gz", "--moving", scans / "moving.nii.gz"]
    words += ["--output", folder / "w.nii.gz", "--transform", folder / "t.txt"]
    words += ["--inverse", folder / "i.txt", "--header-only", folder / "h.nii.gz"]
    words += ["--also", scans / "moving_series.nii.gz", folder / "s.nii.gz"]
    words += ["--also", scans / "moving_mask.nii"]
    words += ["--also-labels", scans / "moving_labels.nii.gz"]
    words += ["--qc", folder / "q.png", "--report", folder / "r.json"]
    done = subprocess.run(
        [sys.executable, "-m", "mdvit_jax", "register", *map(str, words)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_the_answer_is_right(scans, done):
    assert apart(transforms.read(done / "t.txt"), scans) < 0.3


def test_output_has_the_fixed_grid_and_header_and_the_moving_type(scans, done):
    saved, fixed = nib.load(done / "w.nii.gz"), nib.load(scans / "fixed.nii.gz")
    assert saved.shape == fixed.shape and (saved.affine == fixed.affine).all()
    for field in ("sform_code", "qform_code"):
        assert saved.header[field] == fixed.header[field]
    assert saved.header.get_xyzt_units()[0] == "mm"
    assert saved.header["descrip"] == b"moving.nii"
    assert saved.get_data_dtype() == np.float32
    moving = images.load(scans / "moving.nii.gz")
    grid = transforms.Grid(fixed.shape, fixed.affine)
    matrix = transforms.read(done / "t.txt")
    expected = transforms.resample(moving.data, moving.affine, matrix, grid)
    assert np.abs(saved.get_fdata() - expected).max() < 1e-3 * expected.max()
    alike = np.corrcoef(saved.get_fdata().ravel(), fixed.get_fdata().ravel())[0, 1]
    assert alike > 0.99


def test_the_inverse_is_the_inverse(done):
    there, back = (transforms.read(done / name) for name in ("t.txt", "i.txt"))
    assert np.abs(there @ back - np.eye(4)).max() < 1e-9


def test_header_only_moves_the_header_and_nothing_else(scans, done):
    moving, saved = nib.load(scans / "moving.nii.gz"), nib.load(done / "h.nii.gz")
    matrix = transforms.read(done / "t.txt")
    corners = np.array([(*c, 1) for c in np.ndindex(2, 2, 2)]) * [59, 59, 59, 1]
    back = corners @ (matrix @ saved.affine).T
    assert np.abs(back - corners @ moving.affine.T).max() < 1e-3
    assert saved.get_data_dtype() == moving.get_data_dtype()
    assert np.asarray(saved.dataobj).tobytes() == np.asarray(moving.dataobj).tobytes()
    assert saved.header["sform_code"] == 4, "the fixed image is in a template's space"
    assert saved.header["qform_code"] == 0, "it is sheared"
    assert saved.header["descrip"] == moving.header["descrip"]


def test_further_images_and_labels_are_resampled(scans, done):
    labels = nib.load(done / "moving_labels_warped.nii.gz")
    fixed = nib.load(scans / "fixed_labels.nii.gz")
    moving = nib.load(scans / "moving_labels.nii.gz")
    assert labels.get_data_dtype() == np.int16 and labels.shape == fixed.shape
    assert np.isin(labels.get_fdata(), moving.get_fdata()).all()
    both = (labels.get_fdata() > 0) & (fixed.get_fdata() > 0)
    assert (labels.get_fdata() == fixed.get_fdata())[both].mean() > 0.8
    series, single = nib.load(done / "s.nii.gz"), nib.load(done / "w.nii.gz")
    assert series.shape == (60, 60, 60, 3) and series.get_data_dtype() == np.int16
    assert series.header.get_zooms()[3] == 2.5
    assert np.abs(series.get_fdata()[..., 0] - single.get_fdata()).max() < 1.5
    assert nib.load(done / "moving_mask_warped.nii.gz").get_data_dtype() == np.uint8


def test_the_picture(done):
    with Image.open(done / "q.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 800
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    orange = (pixels[..., 0] > 200) & (pixels[..., 2] < 110)
    assert 0.005 < orange.mean() < 0.3, "edges and half of the checkerboard"


def test_the_page(run, here):
    transforms.write("start.tfm", known())
    (here / "out").mkdir()
    words = ["--start", "start.tfm", "--no-refine", "-q", "--transform", "t.tfm"]
    assert run(*words, "--qc", "out/q.html") == 0
    text = (here / "out/q.html").read_text()
    data = text.partition('<script type="application/json" id="data">')[2]
    (pair,) = json.loads(data.partition("</script>")[0])["pairs"]
    assert pair["name"] == "moving.nii.gz" and pair["status"] == "ok"
    assert pair["links"] == {"transform": "../t.tfm"}
    content = base64.b64decode(pair["picture"].removeprefix("data:image/webp;base64,"))
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (3 * strips.SIDE, 3 * strips.SIDE)


def test_the_planes_go_through_the_centre_but_beside_the_falx():
    box = planes.Box(np.zeros(3), np.array([160.0, 200, 150]), np.array([80, 90, 70]))
    places = {p.name: box.grid(p).affine[p.axis, 3] for p in planes.PLANES}
    assert places["Coronal"] == 90 and places["Axial"] == 70
    assert places["Sagittal"] == pytest.approx(80 + 0.12 * 160)


def test_the_report(scans, done):
    def strict(word):
        raise AssertionError(f"{word} is not JSON")

    record = json.loads((done / "r.json").read_text(), parse_constant=strict)
    assert set(record) == {
        *("quality", "matrix", "inverse", "convention", "components"),
        *("centre", "before"),
        *("after", "alignment", "seconds", "inputs", "outputs", "options", "command"),
        "versions",
    }
    matrix = transforms.read(done / "t.txt")
    assert np.abs(np.array(record["matrix"]) - matrix).max() < 1e-9
    assert np.abs(np.array(record["inverse"]) @ matrix - np.eye(4)).max() < 1e-9
    assert record["quality"]["status"] in ("ok", "check")
    assert record["after"]["overlap"] > 0.9 > record["before"]["overlap"]
    assert record["components"]["angle"] == pytest.approx(np.degrees(0.314), abs=0.5)
    assert record["inputs"]["fixed"]["shape"] == [60, 60, 60]
    assert record["inputs"]["moving"]["voxel_sizes"] == pytest.approx([VOXEL] * 3)
    assert all(len(file["sha256"]) == 64 for file in record["inputs"].values())
    assert {"mdvit_jax", "jax", "numpy"} == set(record["versions"])
    assert record["command"][:3] == ["mdvit", "register", "--fixed"]
    assert record["options"]["dof"] == "affine" and record["seconds"] > 0


def test_the_summary(done):
    message = (done / "stdout").read_text()
    words = ("local correlation", "overlap", "NTG", "translation", "rotation", "scale")
    assert all(word in message for word in (*words, "shear", "→", " s\n"))
    for path in done.iterdir():
        assert str(path) in message or path.name in ("stdout", "stderr")
    assert (done / "stderr").read_text() == ""


@pytest.mark.parametrize(
    ("angle", "expected"), [(9, "header's fits best"), (170, "170°")]
)
def test_which_orientation_won_the_search(angle, expected):
    matrix = np.diag([1.1, 1.1, 1.1, 1])
    turn = Rotation.from_euler("z", angle, degrees=True).as_matrix()
    matrix[:3, :3] = turn @ matrix[:3, :3]
    measured = similarity_metrics.Measures(0.3, 0.4, 0.9)
    result = SimpleNamespace(
        quality=quality.Quality("ok", ()),
        before=measured,
        after=measured,
        components=transforms.decompose(matrix, np.zeros(3)),
        alignment=SimpleNamespace(searched=True),
    )
    options = SimpleNamespace(fixed="f", moving="m", dof="affine", refine=True)
    lines = run_register.summarise(result, options, [], 1.0).splitlines()
    assert expected in lines[-1] and lines[-1].split()[0] == "orientation"
    assert "moving 1.1000, 1.1000, 1.1000 times as large" in "\n".join(lines)


@pytest.mark.parametrize("dof", ["rigid", "similarity"])
def test_dof(run, scans, dof):
    assert run("--dof", dof, "--transform", "t.txt", "-q") in (0, 3)
    linear = transforms.read("t.txt")[:3, :3]
    size = np.cbrt(np.linalg.det(linear))
    assert np.abs(linear.T @ linear - size**2 * np.eye(3)).max() < 1e-5
    assert size == pytest.approx(1 if dof == "rigid" else 1.05, abs=3e-3)


def test_contrast(run, scans, here):
    """With the same contrast NTG is minimised, and so lower than without."""
    ntg = {}
    for contrast in ("same", "any"):
        words = ["--contrast", contrast, "--transform", "t.txt", "--report", "r.json"]
        assert run(*words, "--overwrite", "-q") == 0
        assert apart(transforms.read("t.txt"), scans) < 0.3
        ntg[contrast] = json.loads((here / "r.json").read_text())["after"]["ntg"]
    assert ntg["same"] < ntg["any"]


def test_a_rigid_header_keeps_its_qform(run, scans):
    words = ["--dof", "rigid", "--header-only", "h.nii", "--transform", "t.tfm", "-q"]
    assert run(*words) in (0, 3)
    saved, moving = nib.load("h.nii"), nib.load(scans / "moving.nii.gz")
    assert saved.header["qform_code"] == 4
    assert np.abs(saved.get_qform() - saved.get_sform()).max() < 1e-3
    affine = np.linalg.inv(transforms.read("t.tfm")) @ moving.affine
    assert np.abs(saved.affine - affine).max() < 1e-3
    assert (np.asarray(saved.dataobj) == np.asarray(moving.dataobj)).all()


def test_scaled_voxels_keep_their_scaling(run, scans, here):
    image = nib.load(scans / "moving.nii.gz")
    stored = (image.get_fdata() / 7).astype(np.int16)
    scaled = nib.Nifti1Image(stored, image.affine)
    nib.save(scaled, here / "m.nii")
    raw = bytearray((here / "m.nii").read_bytes())
    raw[112:120] = np.array([7, -1], "<f4").tobytes()  # scl_slope, scl_inter
    (here / "m.nii").write_bytes(raw)
    words = ["--header-only", "h.nii.gz", "--no-refine", "-q"]
    assert run(*words, moving=here / "m.nii") in (0, 3)
    saved = nib.load("h.nii.gz")
    assert (saved.dataobj.slope, saved.dataobj.inter) == (7, -1)
    assert (saved.dataobj.get_unscaled() == stored).all()
    assert saved.header["sform_code"] == 4 and saved.header["qform_code"] == 4


def test_start(run, scans):
    words = ["--transform", "t.txt", "--no-refine", "-q", "--overwrite"]
    assert run(*words, "--start", "identity") == 3, "the headers lay them apart"
    assert (transforms.read("t.txt") == np.eye(4)).all()
    assert run(*words) in (0, 3)
    centres = transforms.read("t.txt")
    assert (centres[:3, :3] == np.eye(3)).all() and 5 < apart(centres, scans) < 50
    transforms.write("start.tfm", known())
    assert run(*words, "--start", "start.tfm") == 0
    assert np.abs(transforms.read("t.txt") - known()).max() < 1e-9
    near = known()
    near[:3, 3] += 3, -4, 2
    transforms.write("start.tfm", near)
    words = ["--start", "start.tfm", "--transform", "t.txt", "-q", "--overwrite"]
    assert run(*words) == 0
    assert apart(transforms.read("t.txt"), scans) < 0.3


def test_the_output_is_interpolated_and_filled_as_asked(run, scans):
    transforms.write("start.tfm", known())
    words = ["--start", "start.tfm", "--no-refine", "-q", "--interpolation", "cubic"]
    words += ["--fill", "-7", "--also", scans / "moving_series.nii.gz", "s.nii"]
    assert run(*words, "--output", "w.nii") == 0
    moving = images.load(scans / "moving.nii.gz")
    grid = images.load(scans / "fixed.nii.gz").grid
    expected = transforms.resample(
        moving.data, moving.affine, known(), grid, interpolation="cubic", fill=-7
    )
    assert np.abs(nib.load("w.nii").get_fdata() - expected).max() < 1e-3
    assert (expected == -7).any() and (nib.load("s.nii").get_fdata() == -7).any()


@pytest.mark.parametrize("name", ["caf\udce9", "n" * 244])
def test_names_that_are_long_or_not_utf_8(run, scans, here, name):
    moving = here / f"{name}.nii.gz"
    shutil.copy(scans / "moving.nii.gz", moving)
    transforms.write("start.tfm", known())
    words = ["--start", "start.tfm", "--no-refine", "--output", f"{name}_w.nii"]
    for option, ending in (
        ("--qc", ".png"), ("--report", ".json"), ("--transform", ".lta"),
        ("--inverse", ".tfm"),
    ):  # fmt: skip
        words += [option, f"{name}{ending}"]
    assert run(*words, moving=moving) == 0
    report = json.loads((here / f"{name}.json").read_text())
    assert report["inputs"]["moving"]["path"] == str(moving)
    assert nib.load(here / f"{name}_w.nii").get_fdata().any()
    again = transforms.read(here / f"{name}.lta")
    assert np.abs(again - known()).max() < 1e-9


@pytest.fixture
def in_micrometres(scans, here):
    """The two scans with micrometres in their headers, as options of `run`."""
    files = {}
    for name in ("fixed", "moving"):
        image = nib.load(scans / f"{name}.nii.gz")
        affine = np.diag([1e3, 1e3, 1e3, 1]) @ image.affine
        large = nib.Nifti1Image(np.asanyarray(image.dataobj), affine)
        large.header.set_xyzt_units("micron")
        nib.save(large, here / f"{name}.nii")
        files[name] = here / f"{name}.nii"
    return files


def test_micrometres_give_millimetres(run, scans, here, in_micrometres):
    """With micrometres in both headers, the results are those in millimetres."""
    transforms.write("start.tfm", known())
    words = ["--start", "start.tfm", "--no-refine", "-q", "--output", "w.nii"]
    words += ["--header-only", "h.nii", "--report", "r.json"]
    assert run(*words, **in_micrometres) == 0
    sound = nib.load(scans / "fixed.nii.gz")
    for name in ("w.nii", "h.nii"):
        assert nib.load(name).header.get_xyzt_units()[0] == "mm"
    assert np.allclose(nib.load("w.nii").affine, sound.affine, atol=1e-3)
    report = json.loads((here / "r.json").read_text())
    sizes = report["inputs"]["fixed"]["voxel_sizes"]
    assert np.allclose(sizes, np.linalg.norm(sound.affine[:3, :3], axis=0), atol=1e-3)


def test_a_transform_between_micrometres_is_in_millimetres(run, in_micrometres):
    words = ["--no-refine", "-q", "--transform"]
    codes = run(*words, "sound.tfm"), run(*words, "large.tfm", **in_micrometres)
    assert codes[0] == codes[1] != 1
    matrices = [transforms.read(f"{name}.tfm") for name in ("large", "sound")]
    np.testing.assert_allclose(*matrices, atol=1e-3)


def test_masks_weigh_but_do_not_crop(run, scans, here):
    image = nib.load(scans / "moving.nii.gz")
    data, mask = image.get_fdata(), np.ones(image.shape, np.uint8)
    lesion = tuple(slice(28, 40) for _ in range(3))
    data[lesion] = data.max() * (np.random.default_rng(0).random((12, 12, 12)) > 0.5)
    mask[lesion] = 0
    save(here / "m.nii", data, image.affine, np.float32, 1)
    save(here / "mask.nii", mask, image.affine, np.uint8, 1)
    words = ["--moving-mask", here / "mask.nii", "--output", "w.nii", "-q"]
    words += ["--fixed-mask", scans / "fixed_mask.nii", "--transform", "t.txt"]
    assert run(*words, moving=here / "m.nii") in (0, 3)
    # The fixed mask is wider than the brain by half a voxel of 3.5 mm, and it decides.
    assert apart(transforms.read("t.txt"), scans) < 0.75
    fixed, matrix = nib.load(scans / "fixed.nii.gz"), transforms.read("t.txt")
    grid = transforms.Grid(fixed.shape, fixed.affine)
    expected = transforms.resample(data, image.affine, matrix, grid)
    assert np.abs(nib.load("w.nii").get_fdata() - expected).max() < 0.01
    assert (np.abs(expected - fixed.get_fdata()) > 50).sum() > 1000, "the lesion is in"


def test_another_seed_gives_the_same_place(run, scans):
    assert run("--transform", "t.txt", "--seed", 5, "-q") == 0
    assert apart(transforms.read("t.txt"), scans) < 0.3


@pytest.mark.parametrize(
    ("format", "name"), [("fsl", "t.mat"), ("itk", "t.mat"), (None, "t.lta")]
)
def test_transform_formats(run, scans, format, name):
    transforms.write("start.txt", known())
    words = ["--start", "start.txt", "--no-refine", "--transform", name, "-q"]
    words += ["--inverse", f"i_{name}"]
    words += ["--transform-format", format] if format else []
    assert run(*words) == 0
    grids = [
        transforms.Grid(image.shape, image.affine)
        for image in (nib.load(scans / f"{n}.nii.gz") for n in ("fixed", "moving"))
    ]
    result = transforms.read(name, fixed=grids[0], moving=grids[1])
    back = transforms.read(f"i_{name}", fixed=grids[1], moving=grids[0])
    assert np.abs(result - known()).max() < 1e-6
    assert np.abs(back @ known() - np.eye(4)).max() < 1e-6


def test_quiet_and_verbose(run, capsys, caplog):
    words = ["--no-refine", "--start", "identity", "--transform", "t.txt"]
    assert run(*words, "-q") == 3
    output = capsys.readouterr()
    assert output.out == ""
    assert [r.levelname for r in caplog.records] == ["WARNING"]  # the verdict's
    assert "failed, as " in caplog.text
    assert run(*words, "-v", "--overwrite") == 3
    assert "voxels of" in caplog.text and "Writing t.txt" in caplog.text
    out = capsys.readouterr().out
    assert out.startswith("failed: ") and "  because " in out and "t.txt" in out


def test_force(run, capsys):
    words = ["--no-refine", "--transform", "t.txt", "-q"]
    labels = {"moving": "moving_labels.nii.gz"}
    assert run(*words, **labels) == 2
    assert "label map" in capsys.readouterr().err
    assert run(*words, "--force", **labels) in (0, 3)


def test_a_trained_network_gives_the_start(run, scans, here):
    untrained(tiny_config(here / "run"))
    words = ["--start", "run", "--transform", "t.txt", "--report", "r.json", "-q"]
    assert run(*words, "--no-refine") in (0, 3)
    matrix = transforms.read("t.txt")
    assert np.linalg.norm(matrix[:3, 3]) > 20, "no start from the headers"
    assert apart(matrix, scans) < 60, "it is near the centres' start"
    report = json.loads((here / "r.json").read_text())
    assert report["options"]["network"].endswith("step 1")
    assert report["options"]["start"] == "run"
    assert run(*words, "--overwrite") == 0
    assert apart(transforms.read("t.txt"), scans) < 0.3


def test_the_network_of_the_package_gives_the_start(run, scans, here):
    words = ["--start", "network", "--transform", "t.txt", "--report", "r.json"]
    assert run(*words, "--no-refine", "-q") in (0, 3)
    assert apart(transforms.read("t.txt"), scans) < 8
    report = json.loads((here / "r.json").read_text())
    assert report["options"]["start"] == "network"


def test_the_network_alone_is_measured_on_the_brain_of_a_real_head(whole_heads):
    """Here, as the test above needs the same program, which takes long to compile."""
    pair = "mni152-2mm", whole_heads / "lhdata/sub-02_inplaneT2.nii.gz"
    result = register(*pair, start="network", refine=False)
    assert result.pair.moving.estimated and result.alignment is None
    assert result.after.correlation > result.before.correlation
    brain, refined = named_templates.load("mni152-2mm"), register(*pair)
    assert error(result.matrix, refined.matrix, brain.data, brain.affine) < 8  # mm


MISTAKES = [
    ([], "nothing to write"),
    (["--output", "w.png"], "none of the endings"),
    (["--output", "no/w.nii"], "there is no folder"),
    (["--transform", "t.doc"], "none of the endings"),
    (["--transform", "t.mat"], "--transform-format"),
    (["--inverse", "no/t.tfm"], "there is no folder"),
    (["--qc", "q.jpg"], "does not end in .png or .html"),
    (["--report", "r.txt"], "does not end in .json"),
    (["--header-only", "h.mgz"], "does not end in .nii.gz or .nii"),
    (["--output", "MOVING"], "which is read"),
    (["--header-only", "MOVING"], "which is read"),
    (["--output", "w.nii", "--header-only", "./w.nii"], "name two files"),
    (["--transform", "t.tfm", "--inverse", "t.tfm"], "name two files"),
    (["--also", "MOVING", "--transform", "t.tfm"], "has no output"),
    (["--also", "MOVING", "a.nii", "b.nii"], "not 3 files"),
    (["--also", "no.nii", "a.nii"], "no.nii"),
    (["--moving", "no.nii.gz", "--header-only", "h.nii"], "no.nii.gz cannot be read"),
    (["--moving", "no.nii.gz", "--output", "w.nii"], "no.nii.gz cannot be read"),
    (["--also-labels", "MOVING", "a.nii"], "whole number"),
    (["--also", "LABELS", "a.nii"], "use --also-labels"),
    (["--transform", "t.tfm", "--start", "no.tfm"], "com, identity, network or a"),
    (["--transform", "t.tfm", "--fixed-mask", "MOVING"], "does not lie on the voxels"),
    (["--transform", "t.tfm", "--start", "."], "is not the folder of a run"),
    (["--transform", "t.tfm", "--start", "nowhere://b/run"], "of nowhere://b/run"),
]


@pytest.mark.parametrize(("words", "why"), MISTAKES)
def test_mistakes_get_one_sentence(run, scans, here, capsys, words, why):
    before = {p.name: p.read_bytes() for p in scans.iterdir()}
    names = {"MOVING": scans / "moving.nii.gz"}
    names["LABELS"] = scans / "moving_labels.nii.gz"
    assert run("--no-refine", *(names.get(word, word) for word in words)) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ") and why in output.err
    assert output.err.count("\n") == 1 and output.out == ""
    assert not list(here.iterdir())
    assert before == {p.name: p.read_bytes() for p in scans.iterdir()}


def test_a_damaged_file_is_not_copied(run, scans, here, capsys):
    whole = (scans / "moving.nii.gz").read_bytes()
    (here / "m.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert run("--header-only", "h.nii", moving=here / "m.nii.gz") == 2
    message = capsys.readouterr().err
    assert "m.nii.gz" in message and message.count("\n") == 1
    assert [path.name for path in here.iterdir()] == ["m.nii.gz"]


def test_an_analyze_pair_is_reported(run, scans, here):
    image = nib.load(scans / "moving.nii.gz")
    pair = nib.Nifti1Pair(image.get_fdata().astype(np.float32), image.affine)
    nib.save(pair, here / "m.img")
    words = ["--report", "r.json", "--no-refine", "-q"]
    assert run(*words, moving=here / "m.hdr") in (0, 3)
    moving = json.loads((here / "r.json").read_text())["inputs"]["moving"]
    content = (here / "m.img").read_bytes()
    assert moving["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_header_alone_of_another_format(run, scans, here, capsys):
    image = nib.load(scans / "moving.nii.gz")
    data = image.get_fdata().astype(np.float32)
    nib.save(nib.MGHImage(data, image.affine), here / "m.mgz")
    assert run("--header-only", "h.nii", moving=here / "m.mgz") == 2
    assert "is not a NIfTI file" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["m.mgz"]


def test_a_full_disk_leaves_existing_outputs(run, here, capsys, monkeypatch):
    def full(path, *arguments, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(qc, "save", full)
    (here / "w.nii").write_bytes(b"old")
    words = ["--output", "w.nii", "--transform", "t.tfm", "--qc", "q.png"]
    assert run(*words, "--no-refine") == 2
    assert "w.nii is there already" in capsys.readouterr().err
    assert run(*words, "--no-refine", "--overwrite") == 2
    output = capsys.readouterr()
    assert "No space left on device" in output.err and output.err.count("\n") == 1
    assert output.out == "" and [p.name for p in here.iterdir()] == ["w.nii"]
    assert (here / "w.nii").read_bytes() == b"old"
