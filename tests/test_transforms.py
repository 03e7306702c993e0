"""Transform files against nitransforms and SimpleITK, on odd grids; laws; bad files."""

import os

import h5py
import nibabel as nib
import nitransforms
import numpy as np
import pytest
import scipy.io
import SimpleITK as sitk
from nitransforms.io import fsl as fsl_peer
from nitransforms.io import itk as itk_peer
from nitransforms.io import lta as lta_peer
from scipy.spatial.transform import Rotation

from mdvit_jax import __main__, errors, transforms
from mdvit_jax.io import nifti

ENDINGS = {"itk": ".tfm", "fsl": ".mat", "lta": ".lta", "x5": ".x5", "text": ".txt"}
FILES = [*ENDINGS.items(), ("itk", ".mat")]


def grid(shape, sizes, angles, *, flip=(1, 1, 1), axes=(0, 1, 2), centre=(3, -4, 5)):
    """An oblique, anisotropic, flipped grid with permuted axes."""
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = (rotation * np.array(flip) * sizes)[:, axes]
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return transforms.Grid(shape, affine)


GRIDS = {
    "straight": grid((20, 30, 25), (1, 1, 1), (0, 0, 0)),
    "oblique": grid((17, 23, 31), (0.9, 1.1, 3), (12, -25, 40)),
    "radiological": grid((24, 18, 20), (2, 1, 1.5), (-7, 3, 9), flip=(-1, 1, 1)),
    "coronal": grid(
        (21, 19, 33), (1, 4, 0.8), (5, 6, -7), flip=(1, 1, -1), axes=(0, 2, 1)
    ),
}
PAIRS = [("straight", "oblique"), ("oblique", "radiological"), ("coronal", "oblique"),
         ("radiological", "coronal")]  # fmt: skip


def affine(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    matrix = np.eye(4)
    turn = Rotation.from_euler("xyz", random.uniform(-60, 60, 3), degrees=True)
    stretch = np.diag(random.uniform(0.8, 1.2, 3)) + np.triu(
        random.uniform(-0.1, 0.1, (3, 3)), 1
    )
    matrix[:3, :3] = turn.as_matrix() @ stretch
    matrix[:3, 3] = random.uniform(-30, 30, 3)
    return matrix


def corners(place: transforms.Grid) -> np.ndarray:
    """World coordinates [3, 8] of the corner voxels."""
    index = np.array(np.meshgrid(*[(0, n - 1) for n in place.shape])).reshape(3, -1)
    return place.affine[:3, :3] @ index + place.affine[:3, 3:]


def moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return matrix[:3, :3] @ points + matrix[:3, 3:]


def image(place: transforms.Grid) -> nib.Nifti1Image:
    data = np.arange(np.prod(place.shape), dtype=np.float32).reshape(place.shape)
    header = nib.Nifti1Image(data, place.affine)
    header.set_sform(place.affine, 1)
    header.set_qform(place.affine, 1)
    return header


# Laws


@pytest.mark.parametrize(("format", "ending"), FILES)
@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_written_transforms_come_back(tmp_path, format, ending, fixed, moving):
    grids = {"fixed": GRIDS[fixed], "moving": GRIDS[moving]}
    matrix, path = affine(1), tmp_path / f"transform{ending}"
    transforms.write(path, matrix, format=format, **grids)
    again = transforms.read(path, **grids)
    assert np.abs(again - matrix).max() < 1e-10
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("format", "ending"), FILES)
def test_swapped_images_give_the_inverse(tmp_path, format, ending):
    one, other = GRIDS["oblique"], GRIDS["coronal"]
    matrix, path = affine(2), tmp_path / f"transform{ending}"
    back = np.linalg.inv(matrix)
    transforms.write(path, back, format=format, fixed=one, moving=other)
    back = transforms.read(path, fixed=one, moving=other)
    assert np.abs(back @ matrix - np.eye(4)).max() < 1e-9


# Against other programs


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
@pytest.mark.parametrize("format", ["itk", "fsl", "lta"])
def test_nitransforms_reads_the_same(tmp_path, format, fixed, moving):
    fixed, moving = GRIDS[fixed], GRIDS[moving]
    matrix, path = affine(3), tmp_path / f"transform{ENDINGS[format]}"
    transforms.write(path, matrix, format=format, fixed=fixed, moving=moving)
    reader = {
        "itk": itk_peer.ITKLinearTransform,
        "fsl": fsl_peer.FSLLinearTransform,
        "lta": lta_peer.FSLinearTransform,
    }[format]
    result = reader.from_filename(path).to_ras(
        moving=image(moving), reference=image(fixed)
    )
    points = corners(fixed)
    assert np.abs(moved(result, points) - moved(matrix, points)).max() < 1e-4


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
@pytest.mark.parametrize("format", ["itk", "fsl", "lta"])
def test_files_of_nitransforms_are_read_the_same(tmp_path, format, fixed, moving):
    fixed, moving = GRIDS[fixed], GRIDS[moving]
    matrix, path = affine(4), tmp_path / f"transform{ENDINGS[format]}"
    writer = {
        "itk": itk_peer.ITKLinearTransform,
        "fsl": fsl_peer.FSLLinearTransform,
        "lta": lta_peer.FSLinearTransform,
    }[format]
    made = writer.from_ras(matrix, moving=image(moving), reference=image(fixed))
    if format == "lta":
        matrix = made.to_ras()
    made.to_filename(path)
    result = transforms.read(path, fixed=fixed, moving=moving)
    points = corners(fixed)
    assert np.abs(moved(result, points) - moved(matrix, points)).max() < 1e-4


def test_x5_is_that_of_nitransforms(tmp_path):
    matrix = affine(5)
    transforms.write(tmp_path / "ours.x5", matrix)
    result = nitransforms.linear.load(tmp_path / "ours.x5", fmt="X5")
    assert np.abs(result.matrix - matrix).max() < 1e-12
    nitransforms.linear.Affine(matrix).to_filename(tmp_path / "peer.x5", fmt="X5")
    assert np.abs(transforms.read(tmp_path / "peer.x5") - matrix).max() < 1e-12


def test_voxel_to_voxel_lta(tmp_path):
    fixed, moving, matrix = GRIDS["oblique"], GRIDS["radiological"], affine(6)
    path = tmp_path / "ras.lta"
    transforms.write(path, matrix, fixed=fixed, moving=moving)
    voxels = np.linalg.inv(matrix @ fixed.affine) @ moving.affine
    lines = path.read_text().replace("type      = 1", "type      = 0").split("\n")
    at = lines.index("1 4 4") + 1
    lines[at : at + 4] = [" ".join(map(str, row)) for row in voxels]
    (tmp_path / "voxels.lta").write_text("\n".join(lines))
    assert np.abs(transforms.read(tmp_path / "voxels.lta") - matrix).max() < 1e-9
    peer = lta_peer.FSLinearTransform.from_filename(tmp_path / "voxels.lta").to_ras()
    points = corners(fixed)
    assert np.abs(moved(peer, points) - moved(matrix, points)).max() < 1e-3  # float32


@pytest.mark.parametrize(
    "name", ["moving.nii.gz", "of two words.nii.gz", "caf\udce9.nii", None]
)
def test_an_lta_names_both_files_and_their_grids(tmp_path, name):
    path = tmp_path / "t.lta"
    file = name and str(tmp_path / name)
    grids = [GRIDS["coronal"]._replace(file="f.mgz"), GRIDS["oblique"]]
    moving = grids[1]._replace(file=file)
    transforms.write(path, affine(6), fixed=grids[0], moving=moving)
    peer = lta_peer.FSLinearTransform.from_filename(path)
    for part, place in zip(("dst", "src"), grids, strict=True):
        result = peer[part]
        assert tuple(result["volume"]) == place.shape
        assert np.abs(result.as_affine() - place.affine).max() < 1e-5
    message = file if name == "moving.nii.gz" else "unknown"
    assert peer["dst"]["filename"] == os.path.abspath("f.mgz")
    assert peer["src"]["filename"] == message


def as_lps(points):
    return points * np.array([[-1], [-1], [1]])


@pytest.mark.parametrize("ending", [".tfm", ".mat"])
def test_simpleitk_moves_points_the_same(tmp_path, ending):
    matrix, path = affine(7), tmp_path / f"transform{ending}"
    transforms.write(path, matrix, format="itk")
    peer, points = sitk.ReadTransform(str(path)), corners(GRIDS["oblique"])
    result = [peer.TransformPoint(p) for p in as_lps(points).T.tolist()]
    assert np.abs(as_lps(np.array(result).T) - moved(matrix, points)).max() < 1e-9


def itk_transforms():
    centre, shift = (5.0, -8.0, 3.0), (1.0, 2.0, -4.0)
    linear = [1.1, 0.1, 0, -0.2, 0.9, 0.1, 0, 0.05, 1]
    full = sitk.AffineTransform(linear, shift, centre)
    euler = sitk.Euler3DTransform(centre, 0.3, -0.5, 0.8, shift)
    other_order = sitk.Euler3DTransform(centre, 0.3, -0.5, 0.8, shift)
    other_order.SetComputeZYX(True)
    versor = sitk.VersorRigid3DTransform((1, 2, 3), 0.7, shift, centre)
    similar = sitk.Similarity3DTransform(1.3, (1, 2, 3), 0.7, shift, centre)
    several = sitk.CompositeTransform([full, euler, versor])
    stretched = sitk.ScaleVersor3DTransform()
    stretched.SetParameters((0.1, -0.2, 0.3, *shift, 1.2, 0.9, 1.1))
    skewed = sitk.ScaleSkewVersor3DTransform()
    skews = (0.01, 0.02, -0.03, 0.04, 0.05, -0.06)
    skewed.SetParameters((0.1, -0.2, 0.3, *shift, 1.2, 0.9, 1.1, *skews))
    composed = sitk.ComposeScaleSkewVersor3DTransform()
    composed.SetParameters((0.1, -0.2, 0.3, *shift, 1.2, 0.9, 1.1, *skews[:3]))
    scale, turn = sitk.ScaleTransform(3, (1.1, 0.8, 1.3)), sitk.VersorTransform()
    turn.SetParameters((0.3, 0.4, -0.1))
    for transform in (stretched, skewed, composed, scale, turn):
        transform.SetFixedParameters(centre)
    return [full, euler, other_order, versor, similar, several,
            sitk.TranslationTransform(3, shift), stretched, skewed, composed, scale,
            turn]  # fmt: skip


@pytest.mark.parametrize("number", range(12))
def test_every_kind_that_simpleitk_writes(tmp_path, number):
    peer, points = itk_transforms()[number], corners(GRIDS["oblique"])
    sitk.WriteTransform(peer, str(tmp_path / "peer.tfm"))
    expected = [peer.TransformPoint(p) for p in as_lps(points).T.tolist()]
    result = moved(transforms.read(tmp_path / "peer.tfm"), points)
    assert np.abs(as_lps(np.array(expected).T) - result).max() < 1e-9
    sitk.WriteTransform(peer, str(tmp_path / "peer.h5"))
    result = moved(transforms.read(tmp_path / "peer.h5"), points)
    assert np.abs(as_lps(np.array(expected).T) - result).max() < 1e-9
    if number not in (2, 5):  # level 4 holds neither an order of angles nor several
        sitk.WriteTransform(peer, str(tmp_path / "peer.mat"))
        result = moved(transforms.read(tmp_path / "peer.mat"), points)
        assert np.abs(as_lps(np.array(expected).T) - result).max() < 1e-9


def test_half_a_turn_about_any_axis(tmp_path):
    """For half of them SimpleITK writes a versor that is 4e-16 longer than 1."""
    random, longer = np.random.default_rng(0), 0
    for number in range(60):
        axis = random.normal(size=3)
        peer = sitk.VersorRigid3DTransform(tuple(axis), np.pi)
        longer += np.sum(np.square(peer.GetParameters()[:3])) > 1
        path = tmp_path / f"{number}.tfm"
        sitk.WriteTransform(peer, str(path))
        matrix = transforms.read(path)
        axis = as_lps(axis[:, None] / np.linalg.norm(axis))
        assert np.allclose(matrix[:3, :3], 2 * axis @ axis.T - np.eye(3), atol=1e-7)
    assert longer > 5


def test_fsl_counts_in_the_voxel_sizes_of_the_header(tmp_path):
    """FLIRT's point is the voxel index times pixdim, whatever the sform's columns."""
    grids = {}
    for name, key in (("fixed", "oblique"), ("moving", "radiological")):
        file = nib.Nifti1Image(np.ones(GRIDS[key].shape, np.uint8), GRIDS[key].affine)
        file.set_sform(GRIDS[key].affine, 1)
        file.header["qform_code"] = 0
        file.header["pixdim"][1:4] *= (1.05, 0.97, 1.01)
        nib.save(file, tmp_path / f"{name}.nii")
        grids[name] = nifti.read_grid(tmp_path / f"{name}.nii")
        assert not np.allclose(grids[name].pixdim, grids[name].voxel_sizes)
    matrix = affine(10)
    transforms.write(tmp_path / "t.mat", matrix, format="fsl", **grids)
    flirt = np.loadtxt(tmp_path / "t.mat")
    to_world = {}
    for name, grid in grids.items():
        index = np.diag([*1 / grid.pixdim, 1])
        if np.linalg.det(grid.affine[:3, :3]) > 0:
            index[0] = [-1 / grid.pixdim[0], 0, 0, grid.shape[0] - 1]
        to_world[name] = grid.affine @ index
    point = np.array([20.0, 30, 10, 1])  # of FLIRT's moving space
    there = to_world["fixed"] @ flirt @ point
    assert np.abs(matrix @ there - to_world["moving"] @ point).max() < 1e-6
    again = transforms.read(tmp_path / "t.mat", **grids)
    assert np.abs(again - matrix).max() < 1e-9


# Files that people edit


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace(" ", ", "),
        lambda text: text.replace(" ", ";"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "# greedy\n" + text + "\n\n",
        lambda text: "\n".join(
            " ".join(float(word).hex() for word in line.split())
            for line in text.splitlines()
        ),
    ],
    ids=["BOM", "commas", "semicolons", "CRLF", "comment", "hexadecimal"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_numbers_as_people_and_programs_write_them(tmp_path, edit, encoding):
    grids = {"fixed": GRIDS["oblique"], "moving": GRIDS["coronal"]}
    for format, ending in (("fsl", ".mat"), ("text", ".txt")):
        path = tmp_path / f"t{ending}"
        transforms.write(path, affine(12), format=format, **grids)
        path.write_bytes(edit(path.read_text()).encode(encoding))
        matrix = transforms.read(path, **grids)
        assert np.abs(matrix - affine(12)).max() < 1e-9


def test_greedys_matrix_is_read_as_text_or_the_choice_is_explained(tmp_path, caplog):
    grids = {"fixed": GRIDS["oblique"], "moving": GRIDS["coronal"]}
    transforms.write(tmp_path / "t.txt", affine(13))
    (tmp_path / "t.txt").rename(tmp_path / "greedy.mat")
    matrix = transforms.read(tmp_path / "greedy.mat", format="text")
    assert np.abs(matrix - affine(13)).max() < 1e-12
    with pytest.raises(errors.UserError, match="as greedy and ITK-SNAP write it"):
        transforms.read(tmp_path / "greedy.mat")
    with caplog.at_level("INFO"):
        transforms.read(tmp_path / "greedy.mat", **grids)
    assert "greedy.mat is taken for FSL's" in caplog.text
    # With such a shift it cannot be a matrix of FSL.
    far = grids["moving"]._replace(affine=grids["moving"].affine.copy())
    far.affine[:3, 3] += 500
    matrix = np.eye(4)
    matrix[:3, 3] = 500
    np.savetxt(tmp_path / "far.mat", matrix)
    caplog.clear()
    transforms.read(tmp_path / "far.mat", fixed=grids["fixed"], moving=far)
    assert "by which the two images do not meet" in caplog.text
    assert caplog.records[0].levelname == "WARNING"


def test_an_lta_without_volume_info(tmp_path):
    fixed, moving = GRIDS["oblique"], GRIDS["coronal"]
    transforms.write(tmp_path / "t.lta", affine(14), fixed=fixed, moving=moving)
    text = (tmp_path / "t.lta").read_text()
    (tmp_path / "t.lta").write_text(text.partition("src volume info")[0].rstrip())
    assert np.abs(transforms.read(tmp_path / "t.lta") - affine(14)).max() < 1e-9
    voxels = text.replace("type      = 1", "type      = 0").partition("src volume")[0]
    (tmp_path / "v.lta").write_text(voxels)
    with pytest.raises(errors.UserError, match="grid of its src volume is missing"):
        transforms.read(tmp_path / "v.lta")


def test_a_matlab_file_of_level_5(tmp_path):
    transforms.write(tmp_path / "a.mat", affine(15), format="itk")
    variables = scipy.io.loadmat(tmp_path / "a.mat")
    kept = {name: v for name, v in variables.items() if not name.startswith("__")}
    for compressed in (False, True):
        scipy.io.savemat(tmp_path / "b.mat", kept, do_compression=compressed)
        assert np.abs(transforms.read(tmp_path / "b.mat") - affine(15)).max() < 1e-12


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", '(Transform "AffineTransform")\n', "parameter file of elastix"),
        ("a.xfm", "MNI Transform File\n", "a transform of MINC"),
        ("a.1D", "# 3dAllineate matrices (DICOM-to-DICOM)\n1 0 0\n", "of AFNI"),
        ("a.mat", b"MATLAB 7.3 MAT-file" + bytes(600), "MATLAB 7.3"),
        ("a.mat", bytes(range(256)), "binary, of no known kind"),
        ("a.h5", b"\x89HDF\r\n\x1a\n1234", "damaged"),
    ],
)
def test_files_of_other_programs_are_named(tmp_path, name, content, why):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(errors.UserError, match=why) as caught:
        transforms.read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_spms_matrix_and_other_hdf5_are_named(tmp_path):
    scipy.io.savemat(tmp_path / "spm.mat", {"M": np.eye(4)})
    with pytest.raises(errors.UserError, match="it is SPM's"):
        transforms.read(tmp_path / "spm.mat")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.ones(3)
    with pytest.raises(errors.UserError, match="neither X5 nor ITK's"):
        transforms.read(tmp_path / "other.h5")


# Bad files


GOOD = "0.9 0 0 1\n0 1 0 2\n0 0 1.1 3\n0 0 0 1\n"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.txt", "", "holds no affine"),
        ("a.txt", "1 2 3\n", "not 4×4"),
        ("a.txt", GOOD.replace("0.9", "nine"), "holds no affine"),
        ("a.txt", GOOD.replace("0.9", "nan"), "finite"),
        ("a.txt", GOOD.replace("0.9", "0"), "no inverse"),
        ("a.txt", GOOD.replace("0 0 0 1", "0 0 1 1"), "last row"),
        ("a.mat", GOOD, "needs the grids"),
        ("a.tfm", "#Insight Transform File V1.0\n", "no transform"),
        (
            "a.tfm",
            "#Insight Transform File V1.0\nTransform: BSplineTransform_double_3_3\n"
            "Parameters: 1 2\nFixedParameters: 1\n",
            "neither affine nor",
        ),
        ("a.lta", "type = 1\nnxforms = 1\nsrc volume info\n", "matrix is missing"),
        ("a.x5", b"\x89HDF\r\n\x1a\n1234", "damaged"),
        ("a.tfm", b"\xff\xfe\x00", "holds no affine"),
    ],
)
def test_bad_files_get_one_sentence(tmp_path, name, content, why):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(errors.UserError, match=why) as caught:
        transforms.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("format", "ending"), FILES)
def test_damaged_files_never_crash(tmp_path, format, ending):
    """Cut anywhere, or with a byte changed: one sentence, or an affine."""
    grids = {"fixed": GRIDS["oblique"], "moving": GRIDS["coronal"]}
    path = tmp_path / f"whole{ending}"
    transforms.write(path, affine(8), format=format, **grids)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    damaged = [whole[:n] for n in random.integers(0, len(whole), 20)]
    for at, value in random.integers(0, (len(whole), 256), (20, 2)):
        damaged.append(whole[:at] + bytes([value]) + whole[at + 1 :])
    for content in damaged:
        path.write_bytes(content)
        try:
            matrix = transforms.read(path, **grids)
        except errors.UserError:
            continue
        assert np.isfinite(matrix).all() and matrix.shape == (4, 4)


def test_refused_writes_leave_no_file(tmp_path):
    for path, options, why in (
        (tmp_path / "a.mat", {}, "choose the format itk or fsl"),
        (tmp_path / "a.nii", {}, "has none of the endings"),
        (tmp_path / "a.lta", {}, "needs the grids"),
        (tmp_path / "a.txt", {"format": "ants"}, "is not a format"),
        (tmp_path / "missing/a.txt", {}, "cannot be written"),
    ):
        with pytest.raises(errors.UserError, match=why):
            transforms.write(path, np.eye(4), **options)
    with pytest.raises(errors.UserError, match="no inverse"):
        transforms.write(tmp_path / "a.txt", np.diag([1.0, 1, 0, 1]))
    assert not any(tmp_path.iterdir())


# The command


def test_convert(tmp_path, capsys):
    fixed, moving, matrix = GRIDS["oblique"], GRIDS["radiological"], affine(9)
    for name, place in (("fixed", fixed), ("moving", moving)):
        nib.save(image(place), tmp_path / f"{name}.nii.gz")
    images = [f"--{n}={tmp_path / n}.nii.gz" for n in ("fixed", "moving")]
    transforms.write(tmp_path / "a.tfm", matrix)

    def convert(source, target, *options):
        names = [f"--input={tmp_path / source}", f"--output={tmp_path / target}"]
        return __main__.main(["convert", *names, *options])

    assert convert("a.tfm", "b.mat", "--to=fsl", *images) == 0
    assert convert("b.mat", "c.lta", *images) == 0
    assert convert("c.lta", "d.x5", "--invert") == 0
    assert convert("d.x5", "e.txt", "--invert") == 0
    result = transforms.read(tmp_path / "e.txt")
    points = corners(fixed)
    assert np.abs(moved(result, points) - moved(matrix, points)).max() < 1e-3
    assert convert("b.mat", "f.txt") == 2
    assert "needs the grids of both images" in capsys.readouterr().err
    assert convert("a.tfm", "g.x5") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'g.x5'}: {tmp_path / 'a.tfm'}\n"
    for target in ("./a.tfm", "fixed.nii.gz", "no/a.txt"):
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        assert convert("a.tfm", target, "--to=text", *images) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ") and message.count("\n") == 1
        assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
