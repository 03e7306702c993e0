"""Check `mdvit register` with an odd file: a right result, or one sentence.

One file of a sound registration is replaced by an odd one. The command must either
print one sentence that names the file, and write nothing; or write all outputs, right
by what nibabel reads in the inputs, with a matrix near the truth unless the verdict
warns. No other file may appear or change.
"""

import json
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np

from helpers import damage
from mdvit_jax import __main__, transforms
from mdvit_jax.transforms.resampling import background_value
from oracle import heads

SHAPE, AFFINE = heads.grid(24, 8.0)
MOVING_AFFINE = np.array(
    [[-7.5, 0.6, 0, 88], [0.5, 0, 8.5, -95], [0, -8, 0.4, 90], [0, 0, 0, 1.0]]
)
TRUTH = np.array([[0.98, -0.2, 0, 3], [0.2, 0.98, 0, -2], [0, 0, 1, 4], [0, 0, 0, 1.0]])
NEAR = 8.0  # mm, the size of a voxel

FIXED = (150 * heads.head(SHAPE, AFFINE)).astype(np.int16)
MOVING = (150 * heads.head(SHAPE, MOVING_AFFINE, TRUTH)).astype(np.int16)
LABELS = 3 * (MOVING > 40).astype(np.int16) + 4 * (MOVING > 100).astype(np.int16)
SERIES = np.stack([MOVING, MOVING // 2], -1)
MASK = np.ones(SHAPE, np.int16)
MASK[:5] = 0
IMAGES = {  # by role
    "fixed": (FIXED, AFFINE),
    "moving": (MOVING, MOVING_AFFINE),
    "fixed-mask": (MASK, AFFINE),
    "moving-mask": (MASK, MOVING_AFFINE),
    "also": (SERIES, MOVING_AFFINE),
    "also-labels": (LABELS, MOVING_AFFINE),
}
GRIDS = {
    "fixed": transforms.Grid(SHAPE, AFFINE),
    "moving": transforms.Grid(SHAPE, MOVING_AFFINE),
}
ROLES = (*IMAGES, "start")
STARTS = (
    ("itk", ".tfm"), ("itk", ".mat"), ("fsl", ".mat"), ("lta", ".lta"), ("x5", ".x5"),
    ("text", ".txt"),
)  # fmt: skip


def stored(role: str, data=None, affine=None, kind=nib.Nifti1Image, **header) -> bytes:
    sound = IMAGES[role]
    data = sound[0] if data is None else data
    affine = sound[1] if affine is None else affine
    return damage.stored(data, affine, kind, **header)


def run(folder: Path, capsys, role, ending, content, *words, refused=None):
    """Register in a folder with one file replaced; return the verdict, or None.

    Args:
        capsys: pytest's fixture.
        role: the role of the odd file, one of `IMAGES` or "start".
        ending, content: the ending of its name, and its bytes.
        words: other options.
        refused: whether it must be refused (True), must not (False), or either (None).
    """
    read, written = folder / "in", folder / "out"
    for folder in (read, written):
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
    paths = {"fixed": read / "f.nii", "moving": read / "m.nii"}
    for name, path in paths.items():
        path.write_bytes(stored(name))
    paths[role] = odd = read / f"odd{ending}"
    odd.write_bytes(content)
    outputs = {"transform": "t.txt", "report": "r.json", "output": "w.nii.gz"}
    outputs |= {role: "c.nii.gz"} if role.startswith("also") else {}
    if role == "moving" and ".nii" in ending:
        outputs["header-only"] = "h.nii"
    arguments = []
    for name, path in paths.items():
        if not name.startswith("also"):
            arguments += [f"--{name}", str(path)]
    for name, file in outputs.items():
        arguments += [f"--{name}", *[str(odd)] * name.startswith("also")]
        arguments.append(str(written / file))
    before = contents(read)
    with warnings.catch_warnings(action="error"):
        warnings.simplefilter("ignore", ResourceWarning)  # nibabel's, of mgh
        code = __main__.main(["register", *arguments, *words])
    output = capsys.readouterr()
    assert contents(read) == before
    if code == 2:
        assert refused is not False, output.err
        assert_one_sentence(output, odd)
        assert not contents(written)
        return None
    assert code in (0, 3) and not refused, "a file with a fault was taken"
    assert "Traceback" not in output.err and "error" not in output.err
    assert set(contents(written)) == set(outputs.values())
    assert_right(paths, written, role)
    word = json.loads((written / "r.json").read_text())["quality"]["status"]
    assert (word == "failed") == (code == 3)
    if word == "ok":
        assert_near(paths, transforms.read(written / "t.txt"))
    return word


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_one_sentence(message, odd: Path) -> None:
    lines = message.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), message.err
    assert lines[0].endswith((".", ".)", "?")) and not message.out
    assert str(odd) in lines[0]


def seen(path: Path):
    """Values and affine as nibabel reads them."""
    with nib.imageglobals.LoggingOutputSuppressor(), np.errstate(all="ignore"):
        image = nib.load(path)
        data = np.asanyarray(image.dataobj).astype(np.float32)
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    return np.nan_to_num(data, posinf=0, neginf=0), image.affine


def assert_right(paths, written: Path, role: str) -> None:
    """The outputs must be the inputs under the matrix."""
    fixed, affine = seen(paths["fixed"])
    grid = transforms.Grid(fixed.shape, affine)
    matrix = transforms.read(written / "t.txt")
    assert np.isfinite(matrix).all()
    carried = [("moving", "w.nii.gz")]
    carried += [(role, "c.nii.gz")] * role.startswith("also")
    for name, file in carried:
        data, place = seen(paths[name])
        result, where = seen(written / file)
        assert result.shape == fixed.shape + data.shape[3:]
        assert np.allclose(where, affine, rtol=1e-4, atol=1e-3)
        interpolation = "nearest" if name == "also-labels" else "linear"
        background = background_value(data[(..., *[0] * (data.ndim - 3))])
        for index in np.ndindex(data.shape[3:]):
            right = transforms.resample(
                data[(..., *index)],
                place,
                matrix,
                grid,
                interpolation=interpolation,
                fill=0 if name == "also-labels" else background,
            )
            off = np.abs(result[(..., *index)] - right)
            # Rounded to whole numbers, or cut off at their limits.
            assert (off <= 1.01 + 1e-3 * np.abs(right)).mean() > 0.99
    if (written / "h.nii").exists():
        result, where = nib.load(written / "h.nii"), seen(paths["moving"])[1]
        assert np.allclose(matrix @ result.affine, where, rtol=1e-3, atol=0.01)


def assert_near(paths, matrix) -> None:
    """The matrix must be near the truth by the headers, unless they mirror."""
    truth, points = TRUTH, heads.points()
    data, affine = seen(paths["moving"])
    change = affine @ np.linalg.inv(MOVING_AFFINE)
    still, fixed_affine = seen(paths["fixed"])
    fixed_change = fixed_affine @ np.linalg.inv(AFFINE)
    truth = change @ truth @ np.linalg.inv(fixed_change)
    points = points @ fixed_change[:3, :3].T + fixed_change[:3, 3]
    if np.linalg.det(truth[:3, :3]) < 0:
        return
    assert data.shape == still.shape == SHAPE, "voxels in another order fit"
    off = points @ (matrix - truth)[:3, :3].T + (matrix - truth)[:3, 3]
    size = np.linalg.norm(affine[:3, :3], axis=0).max()
    assert np.linalg.norm(off, axis=1).max() < max(NEAR, size)


def starts(folder: Path) -> list[tuple[str, bytes]]:
    """The true transform as a file of each format: ending and bytes."""
    made = []
    for format, ending in STARTS:
        file = folder / f"{format}{ending}"
        transforms.write(file, TRUTH, format=format, **GRIDS)
        made.append((ending, file.read_bytes()))
    return made
