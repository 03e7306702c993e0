"""Odd and damaged image files: a right result, or one sentence that names the file.

Each file goes through `mdvit apply` with the identity, as the image and as its
reference, where the output must be the input; where it may have a fault, as the
reference of a sound image too; and through the reader. MDVIT_ODD_FILES says how many
files are damaged at random places.
"""

import gzip
import importlib
import os
import tracemalloc
import warnings
import zlib

import nibabel as nib
import numpy as np
import pytest
from nibabel import spm2analyze

from mdvit_jax import __main__, errors
from mdvit_jax.data import nifti
from mdvit_jax.registration import transforms
from oracle import damage

RANDOM_CASES = int(os.environ.get("MDVIT_ODD_FILES", "60"))
SHAPE = (12, 14, 16)
AFFINE = np.array([[-2, 0, 0, 10], [0, 0.5, 0.1, -20], [0, 0, 3, 5], [0, 0, 0, 1.0]])
MOST_BYTES = 20e6  # beside which a volume of the shape above is nothing
AS_NIBABEL = "what nibabel reads"


def values(dtype=np.int16, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 120, shape).astype(dtype)


SOUND = values()


def stored(data=SOUND, affine=AFFINE, image_class=nib.Nifti1Image, **header) -> bytes:
    return damage.stored(data, affine, image_class, **header)


# Lest what it imports be counted as memory that the first file takes.
importlib.import_module("mdvit_jax.registration.apply")


@pytest.fixture
def hold(tmp_path, capsys):
    """Put a file through everything; returns whether it was taken.

    Its arguments: the file's name; its bytes, or None where it is there; what is in it;
    and whether it must be refused (True), must not (False), or either (None).
    """
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "identity.txt").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    (tmp_path / "sound.nii").write_bytes(stored())

    def apply(moving, reference, *more):
        """The output, or None where there was one sentence."""
        output = folder / "w.nii"
        output.unlink(missing_ok=True)
        words = ["--transform", tmp_path / "identity.txt", "--moving", moving]
        words += ["--reference", reference, "--output", output, *more]
        code = __main__.main(["apply", *map(str, words)])
        lines = capsys.readouterr().err.splitlines()
        if code == 0:
            assert not lines and os.listdir(folder) == ["w.nii"]
            image = nib.load(output)
            return nifti.Volume(np.array(np.asanyarray(image.dataobj)), image.affine)
        assert code == 2 and not os.listdir(folder)
        assert len(lines) == 1 and lines[0].startswith("error: "), lines
        assert lines[0].endswith((".", ".)")) and str(tmp_path / "odd") in lines[0]
        return None

    def hold(file, content, right=None, *, refused=None, labels=False) -> bool:
        path = tmp_path / file
        assert file.startswith("odd")
        if content is not None:
            path.write_bytes(content)
        placed = None
        if refused is not False:  # it doubles the time, and sound files are small
            tracemalloc.start()
        try:
            with warnings.catch_warnings(action="error"):
                warnings.simplefilter("ignore", ResourceWarning)  # nibabel's, of mgh
                found = apply(path, path, *["--labels"][:labels])
                if refused is not False:
                    placed = apply(tmp_path / "sound.nii", path)
                loaded = read(nifti.load_labels if labels else nifti.load, path)
            assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
        finally:
            tracemalloc.stop()
        if found is None:
            assert refused is not False and not loaded
            return False
        assert not refused, "a file with a fault was taken"
        assert placed is None or placed.data.shape == found.data.shape[:3]
        if right is AS_NIBABEL:
            with nib.imageglobals.LoggingOutputSuppressor():
                image = nib.load(path)
            right = np.asanyarray(image.dataobj)
            assert np.allclose(found.affine, image.affine, rtol=1e-4, atol=1e-3)
        with np.errstate(over="ignore"):
            right = np.nan_to_num(right.astype(np.float32), posinf=0, neginf=0)
        while right.ndim > 3 and right.shape[-1] == 1:
            right = right[..., 0]
        np.testing.assert_array_equal(found.data.astype(np.float32), right)
        return True

    def read(reader, path) -> bool:
        try:
            volume = reader(path)
        except errors.UserError:
            return False
        assert np.isfinite(volume.data).all() and np.isfinite(volume.affine).all()
        return True

    return hold


@pytest.mark.parametrize("case", range(RANDOM_CASES))
def test_random_damage(hold, case):
    random = np.random.default_rng(case)
    data = values(shape=(*SHAPE, 3)) if random.random() < 0.3 else SOUND
    made = damage.image(case, random, data, AFFINE)
    right = data if made.same else AS_NIBABEL
    hold(f"odd{made.ending}", made.content, right, refused=made.refused)


DIM = (3, *SHAPE, 1, 1, 1, 1)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("dim", "right"),
    [
        ((0, *SHAPE, 1, 1, 1, 1), None),
        ((1, *SHAPE, 1, 1, 1, 1), None),
        ((2, *SHAPE, 1, 1, 1, 1), None),
        ((8, *SHAPE, 1, 1, 1, 1), None),
        ((-1, *SHAPE, 1, 1, 1, 1), None),
        (DIM, SOUND),
        *(((n, *SHAPE, 1, 1, 1, 1), SOUND) for n in range(4, 8)),
        ((3, *SHAPE, 0, 0, 0, 0), SOUND),
        ((3, *SHAPE, -5, 9, 0, 0), SOUND),
        ((4, *SHAPE, 0, 1, 1, 1), None),
        ((4, *SHAPE, -1, 1, 1, 1), None),
        ((4, 12, 14, 4, 4, 1, 1, 1), AS_NIBABEL),
        ((5, 12, 14, 4, 1, 4, 1, 1), None),
        ((5, 12, 14, 4, 4, 1, 1, 1), AS_NIBABEL),
        ((3, 0, 14, 16, 1, 1, 1, 1), None),
        ((3, 12, 14, 0, 1, 1, 1, 1), None),
        ((3, -12, 14, 16, 1, 1, 1, 1), None),
        ((3, -12, -14, 16, 1, 1, 1, 1), None),
        ((3, 12, 14, 15, 1, 1, 1, 1), AS_NIBABEL),
        ((3, 14, 12, 16, 1, 1, 1, 1), AS_NIBABEL),
        ((3, 2688, 1, 1, 1, 1, 1, 1), AS_NIBABEL),
        ((3, 12, 14, 17, 1, 1, 1, 1), None),
        ((3, 800, 800, 800, 1, 1, 1, 1), None),
        ((3, 32767, 32767, 1, 1, 1, 1, 1), None),
        ((3, 32767, 32767, 32767, 1, 1, 1, 1), None),
        ((4, 100, 100, 100, 4294, 1, 1, 1), None),
        ((4, 100, 100, 100, 32767, 1, 1, 1), None),
        ((7, *[32767] * 7), None),
    ],
)  # fmt: skip
def test_dimensions(hold, ending, dim, right):
    content = stored(dim=dim)
    content = gzip.compress(content) if ending == ".nii.gz" else content
    hold(f"odd{ending}", content, right, refused=right is None)


@pytest.mark.parametrize("bitpix", [0, 16])
@pytest.mark.parametrize(
    ("code", "taken"),
    [(2, True), (4, True), (256, True), (512, True), (8, False), (16, False),
     (64, False), (768, False), (1024, False), (1280, False), (0, False), (1, False),
     (32, False), (128, False), (255, False), (1536, False), (1792, False),
     (2048, False), (2304, False), (77, False), (-1, False)],
)  # fmt: skip
def test_types_against_what_is_stored(hold, code, taken, bitpix):
    content = stored(datatype=code, bitpix=bitpix)
    hold("odd.nii", content, AS_NIBABEL, refused=not taken)


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("fields", "right"),
    [
        *(({"vox_offset": v}, None) for v in (NAN, INF, -INF, 1e9, 3e38, -1e9, -352)),
        *(({"vox_offset": v}, None) for v in (353, 368)),
        ({"vox_offset": 0}, None),
        *(({"scl_slope": v}, SOUND) for v in (NAN, INF, -INF, 0, 1)),
        ({"scl_slope": 0, "scl_inter": NAN}, SOUND),
        ({"scl_slope": 0, "scl_inter": 5}, SOUND),
        *(({"scl_slope": 2, "scl_inter": v}, None) for v in (NAN, INF, -INF)),
        ({"scl_slope": -0.5, "scl_inter": 7}, SOUND * -0.5 + 7),
        ({"scl_slope": 1e37}, SOUND * np.float64(np.float32(1e37))),
        ({"scl_slope": 1e-44}, AS_NIBABEL),
        ({"magic": b"ni1"}, None),
        ({"magic": b"n+2"}, None),
        ({"magic": b""}, None),
        *(({"sizeof_hdr": v}, None) for v in (0, 540, -1, 1543569408)),
        ({"xyzt_units": 255}, SOUND),
        ({"intent_code": -1}, SOUND),
        ({"intent_code": 1007}, SOUND),
        ({"dim_info": 255, "slice_code": 99, "slice_end": -3}, SOUND),
        ({"cal_max": NAN, "cal_min": INF, "toffset": NAN}, SOUND),
    ],
)
@pytest.mark.parametrize("series", [False, True])
def test_header_fields(hold, fields, right, series):
    if right is not None and right is not AS_NIBABEL and series:
        right = np.stack([right] * 3, -1)
    data = np.stack([SOUND] * 3, -1) if series else SOUND
    refused = right is None
    if "sizeof_hdr" in fields or "magic" in fields:
        right, refused = AS_NIBABEL, None  # nibabel knows some from what else is there
    hold("odd.nii", stored(data, **fields), right, refused=refused)


@pytest.mark.parametrize("step", [NAN, INF, -2.5, 0, 1e30])
def test_time_steps(hold, step):
    data = np.stack([SOUND] * 3, -1)
    content = stored(data, pixdim=(1, 2, 0.5, 3, step, 1, 1, 1))
    hold("odd.nii", content, data, refused=False)


ROWS = {"sform_code": 1, "qform_code": 0}
TURN = {"sform_code": 0, "qform_code": 1}
SIZES = {"sform_code": 0, "qform_code": 0}


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({**ROWS, "srow_x": (0, 0, 0, 0)}, False),
        ({**ROWS, "srow_x": (NAN, 0, 0, 0)}, False),
        ({**ROWS, "srow_x": (1, 0, 0, NAN)}, False),
        ({**ROWS, "srow_x": (INF, 0, 0, 0)}, False),
        ({**ROWS, "srow_x": (1, 0, 0, -INF)}, False),
        ({**ROWS, "srow_x": (0, 0.5, 0.1, 0)}, False),
        ({**ROWS, "srow_x": (1e30, 0, 0, 0)}, False),
        ({**ROWS, "srow_x": (3e38, 3e38, 3e38, 3e38)}, False),
        ({**ROWS, "srow_x": (1e-30, 0, 0, 0)}, False),
        ({**ROWS, "srow_x": (1e-44, 1e-44, 0, 0)}, False),
        ({**ROWS, "srow_x": (-2, 1.5, -4, 9)}, True),
        ({**ROWS, "srow_x": (1e4, 0, 0, -9e4)}, True),
        ({**ROWS, "srow_x": (0.001, 0, 0, 0)}, True),
        ({"sform_code": 1, "qform_code": 1, "quatern_b": NAN}, True),
        ({"sform_code": 1, "qform_code": 1, "quatern_b": 9}, True),
        ({"sform_code": -3, "qform_code": 77}, None),
        ({**TURN, "quatern_b": NAN}, False),
        ({**TURN, "quatern_c": INF}, False),
        ({**TURN, "quatern_b": 0.9, "quatern_c": 0.9}, False),
        ({**TURN, "qoffset_x": NAN}, False),
        ({**TURN, "qoffset_x": 1e30}, False),
        ({**TURN, "qoffset_x": 123}, True),
        *(
            ({**TURN, "pixdim": (q, 1, 2, 3, 1, 1, 1, 1)}, None)
            for q in (0, NAN, -1, 5)
        ),
        *(({**TURN, "pixdim": (1, v, 2, 3, 1, 1, 1, 1)}, None) for v in (0, NAN, INF)),
        *(({**TURN, "pixdim": (1, v, 2, 3, 1, 1, 1, 1)}, None) for v in (-1, 1e30)),
        *(({**SIZES, "pixdim": (1, v, 2, 3, 1, 1, 1, 1)}, None) for v in (0, NAN, INF)),
        *(({**SIZES, "pixdim": (1, v, 2, 3, 1, 1, 1, 1)}, None) for v in (-1, 1e30)),
    ],
)
def test_places(hold, fields, taken):
    refused = None if taken is None else not taken
    hold("odd.nii.gz", gzip.compress(stored(**fields)), AS_NIBABEL, refused=refused)


REAL = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", REAL)
def test_types(hold, dtype, order, labels):
    image = nib.Nifti1Image(values(dtype), AFFINE, dtype=dtype)
    header = image.header.as_byteswapped(order)
    content = nib.Nifti1Image(values(dtype), AFFINE, header).to_bytes()
    hold("odd.nii", content, values(dtype), refused=False, labels=labels)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("dtype", REAL)
def test_extreme_values(hold, dtype, labels):
    data = values(dtype)
    limits = np.iinfo(dtype) if data.dtype.kind in "iu" else np.finfo(dtype)
    data[0, 0, 0], data[3, 3, 3] = limits.min, limits.max
    hold("odd.nii", stored(data), data, refused=labels and dtype[1] in "84" and dtype
         not in ("i4",), labels=labels)  # fmt: skip


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(
    "shape",
    [(12, 14, 1), (1, 14, 16), (12, 1, 16), (1, 1, 1), (5, 1, 1), (2, 2, 2),
     (*SHAPE, 1), (*SHAPE, 5), (*SHAPE, 1, 1), (*SHAPE, 5, 1), (1, 1, 1, 7),
     (300, 2, 2)],
)  # fmt: skip
def test_shapes(hold, shape, labels):
    data = values(shape=shape) + np.int16(1)
    content = gzip.compress(stored(data))
    hold("odd.nii.gz", content, data, refused=False, labels=labels)


@pytest.mark.parametrize(
    "shape", [(0, 14, 16), (12, 14), (12,), (*SHAPE, 0), (*SHAPE, 1, 3), (*SHAPE, 2, 2)]
)
def test_shapes_that_are_no_volumes(hold, shape):
    hold("odd.nii", stored(np.zeros(shape, np.float32)), refused=True)


def special(kind: str) -> np.ndarray:
    data = values(np.float64)
    holes = np.random.default_rng(1).random(SHAPE) < 0.3
    return {
        "zero": data * 0,
        "constant": data * 0 + 7,
        "negative": -data - 1,
        "NaN": np.where(holes, NAN, data),
        "infinite": np.where(holes, INF, np.where(data > 90, -INF, data)),
        "only NaN": data * NAN,
        "1e30": data * 1e30,
        "1e300": data * 1e300,
        "1e-310": data * 1e-310,
        "huge and tiny": np.where(holes, 3e38, 1e-38),
    }[kind]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(
    "kind", ["zero", "constant", "negative", "NaN", "infinite", "only NaN", "1e30",
             "1e300", "1e-310", "huge and tiny"],
)  # fmt: skip
def test_values(hold, kind, labels, dtype):
    with np.errstate(all="ignore"):
        data = special(kind).astype(dtype)
    right = np.rint(data) if labels else data
    finite = data[np.isfinite(data)]
    refused = labels and finite.size and np.abs(finite).max() > 2**31
    hold("odd.nii.gz", gzip.compress(stored(data)), right, refused=bool(refused),
         labels=labels)  # fmt: skip


@pytest.mark.parametrize(
    "dtype", [np.complex64, np.complex128, [(c, "u1") for c in "RGB"],
              [(c, "u1") for c in "RGBA"]],
)  # fmt: skip
def test_types_that_are_no_numbers(hold, dtype):
    hold("odd.nii", stored(np.zeros(SHAPE, dtype)), refused=True)


def test_labels_that_are_none(hold):
    data = values(np.float32) + np.float32(0.3)
    hold("odd.nii", stored(data), refused=True, labels=True)
    content = stored(scl_slope=0.3, scl_inter=0.1)
    hold("odd.nii", content, refused=True, labels=True)
    series = np.stack([SOUND, SOUND + 0.5], -1).astype(np.float32)  # the last of them
    hold("odd.nii", stored(series), refused=True, labels=True)


@pytest.mark.parametrize(
    ("name", "content", "right"),
    [
        ("odd.nii.gz", stored(), None),
        ("odd.nii", gzip.compress(stored()), None),
        ("odd.nii.gz", gzip.compress(gzip.compress(stored())), None),
        ("odd.mgz", stored(image_class=nib.MGHImage), None),
        ("odd.mgh", gzip.compress(stored(image_class=nib.MGHImage)), None),
        ("odd.mgh", stored(), None),
        ("odd.nii", stored(image_class=nib.MGHImage), None),
        ("odd.nii", stored(image_class=nib.Nifti2Image), SOUND),
        ("odd.NII.GZ", gzip.compress(stored()), SOUND),
        ("odd näme with spaces.nii", stored(), SOUND),
        ("odd.nii.gz", gzip.compress(stored()) + bytes(100), SOUND),
        ("odd.nii.gz", gzip.compress(stored()) + b"rest", None),
        ("odd.nii.gz", gzip.compress(stored()[:99]) + gzip.compress(stored()[99:]),
         SOUND),
        ("odd.nii.gz", gzip.compress(stored() + bytes(3 << 20)), SOUND),
        ("odd.nii", stored() + b"rest", SOUND),
        ("odd.nii.gz", gzip.compress(b"", mtime=0), None),  # names the test: no date
        ("odd.nii.gz", b"\x1f\x8b", None),
        ("odd.nii.gz", zlib.compress(stored()), None),
        ("odd.nii", b"", None),
        ("odd.nii.gz", b"", None),
        ("odd.mgz", b"", None),
        ("odd.nii", b"version https://git-lfs.github.com/spec/v1\n" * 20, None),
        ("odd.nii", b"short", None),
        ("odd.nii", bytes(5000), None),
        ("odd.nii", b"\xff" * 5000, None),
        ("odd.mgh", bytes(5000), None),
        ("odd.mgh", b"\xff" * 5000, None),
        ("odd.mgh", b"short", None),
        ("odd.png", b"\x89PNG", None),
        ("odd.hdr", stored()[:348], None),
        ("odd.img", stored()[352:], None),
    ],
)  # fmt: skip
def test_contents_against_names(hold, name, content, right):
    hold(name, content, right, refused=right is None)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mgz", ".mgh", ".hdr", ".img"])
def test_paths_without_a_file(hold, tmp_path, ending):
    hold(f"odd{ending}", None, refused=True)
    (tmp_path / f"odd{ending}").symlink_to(tmp_path / "nowhere")
    hold(f"odd{ending}", None, refused=True)
    (tmp_path / f"odd{ending}").unlink()
    (tmp_path / f"odd{ending}").mkdir()
    hold(f"odd{ending}", None, refused=True)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(hold, tmp_path):
    (tmp_path / "odd.nii").write_bytes(stored())
    (tmp_path / "odd.nii").chmod(0)
    hold("odd.nii", None, refused=True)


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, spm2analyze.Spm2AnalyzeImage])
@pytest.mark.parametrize("length", [0, 100, None])
def test_pairs(hold, tmp_path, kind, length):
    kind(SOUND, None).to_filename(tmp_path / "odd.img")
    voxels = (tmp_path / "odd.img").read_bytes()
    hold("odd.img", voxels[:length], AS_NIBABEL, refused=length is not None)
    hold("odd.hdr", None, AS_NIBABEL, refused=length is not None)
    (tmp_path / "odd.hdr").write_bytes((tmp_path / "odd.hdr").read_bytes()[:200])
    hold("odd.img", voxels, refused=True)


@pytest.mark.parametrize("field", range(0, 28, 4))
@pytest.mark.parametrize("word", [0, -1, 2, 7, 2**31 - 1, -(2**31)])
def test_words_of_an_mgh_header(hold, field, word):
    content = bytearray(stored(image_class=nib.MGHImage))
    content[field : field + 4] = np.array(word, ">i4").tobytes()
    hold("odd.mgh", content, AS_NIBABEL)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 4), (1, 1, 1)])
def test_mgz_versions(hold, dtype, shape):
    data = values(dtype, shape)
    content = stored(data, image_class=nib.MGHImage)
    hold("odd.mgz", gzip.compress(content), data, refused=False)
    footer = content[: 284 + data.nbytes]  # old files end with the voxels
    hold("odd.mgh", footer, data, refused=False)
    hold("odd.mgh", content[: 284 + data.nbytes - 1], refused=True)
    unplaced = bytearray(content)
    unplaced[28:30] = b"\0\0"  # without an affine
    hold("odd.mgh", unplaced, AS_NIBABEL, refused=False)


@pytest.mark.parametrize("size", [-16, 0, 7, 8, 16, 2**31 - 1])
def test_extensions_of_odd_sizes(hold, size):
    content = bytearray(stored())
    content[348] = 1
    content[352:352] = np.array([size, 4], "<i4").tobytes() + bytes(8)
    content[108:112] = np.array(368, "<f4").tobytes()
    hold("odd.nii", content, SOUND)


def test_a_length_beyond_what_a_header_can_say(hold):
    data = values(np.uint8, (40, 1, 1))
    header = {"dim": (3, 2**40, 1, 1, 1, 1, 1, 1)}
    hold("odd.nii", stored(data, image_class=nib.Nifti2Image, **header), refused=True)


def test_lengths_that_nifti_1_has_not_got(tmp_path, capsys):
    image = nib.Nifti2Image(values(np.uint8, (40000, 1, 1)), np.eye(4))
    image.to_filename(tmp_path / "long.nii")
    transforms.write(tmp_path / "t.txt", np.eye(4))
    words = ["apply", "--transform", "t.txt", "--moving", "long.nii"]
    words += ["--reference", "long.nii", "--output"]
    words = [str(tmp_path / word) if "." in word else word for word in words]
    assert __main__.main([*words, str(tmp_path / "w.nii")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "counts to 32767" in told
    assert __main__.main([*words, str(tmp_path / "w.mgz")]) == 0
    found = np.asanyarray(nib.load(tmp_path / "w.mgz").dataobj)
    np.testing.assert_array_equal(found, np.asanyarray(image.dataobj))
