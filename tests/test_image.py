"""Reading image files: values and grids, and all that can be wrong with a file."""

import contextlib
import gzip
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from nibabel import spm2analyze

from mdvit_jax import errors
from mdvit_jax.io import image

SHAPE = (7, 5, 6)
AFFINE = np.array([[-2, 0, 0, 10], [0, 0.5, 0.1, -20], [0, 0, 3, 5], [0, 0, 0, 1.0]])


def values(dtype=np.float32) -> np.ndarray:
    return np.arange(np.prod(SHAPE), dtype=dtype).reshape(SHAPE)


def save(path, data=None, affine=AFFINE, image_class=nib.Nifti1Image, **header):
    """Write an image, then set header fields without nibabel's checks."""
    image_class(values() if data is None else data, affine).to_filename(path)
    if header:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rb") as stream:
            content = stream.read()
        raw = nib.Nifti1Header(content[:348], check=False)
        for field, value in header.items():
            raw[field] = value
        with opened(path, "wb") as stream:
            stream.write(raw.binaryblock + content[348:])
    return path


def refusal(path, read=image.load) -> str:
    with pytest.raises(errors.UserError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path.parent) in message and "\n" not in message
    assert message.endswith((".", ")."))
    return message


@pytest.mark.parametrize(
    ("name", "image_class"),
    [
        ("a.nii", nib.Nifti1Image),
        ("a.nii.gz", nib.Nifti1Image),
        ("two.nii.gz", nib.Nifti2Image),
        ("A.NII.GZ", nib.Nifti1Image),
        ("a.mgz", nib.MGHImage),
        ("a.mgh", nib.MGHImage),
        ("a.hdr", nib.Nifti1Pair),
        ("a.img", nib.Nifti1Pair),
        ("a.img.gz", nib.Nifti1Pair),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_formats_and_types(tmp_path, name, image_class, dtype):
    save(tmp_path / name, values(dtype), image_class=image_class)
    volume = image.load(tmp_path / name)
    assert volume.data.dtype == dtype and volume.affine.dtype == np.float64
    np.testing.assert_array_equal(volume.data, values())
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    labels = image.load_labels(tmp_path / name)
    assert labels.data.dtype == (np.int32 if dtype == np.float32 else dtype)
    np.testing.assert_array_equal(labels.data, values(np.int32))


@pytest.mark.parametrize("ending", [".hdr", ".img", ".img.gz"])
def test_analyze_with_gzipped_voxels_as_lpba40_has_it(tmp_path, ending):
    data = values(np.int16)[..., None]  # with a fourth axis of length 1
    save(tmp_path / "a.img", data, image_class=spm2analyze.Spm2AnalyzeImage)
    expected = nib.load(tmp_path / "a.img").affine
    for left_over in tmp_path.glob("*.mat"):
        left_over.unlink()
    (tmp_path / "a.img.gz").write_bytes(
        gzip.compress((tmp_path / "a.img").read_bytes())
    )
    (tmp_path / "a.img").unlink()
    volume = image.load(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(volume.data, values())
    assert volume.affine[0, 0] == -2 and expected.shape == (4, 4)
    (tmp_path / "a.img.gz").unlink()
    assert "a.img is missing" in refusal(tmp_path / "a.hdr")


def test_scaling_is_applied(tmp_path):
    path = save(tmp_path / "a.nii.gz", values(np.int16), scl_slope=0.5, scl_inter=3)
    np.testing.assert_allclose(image.load(path).data, values() / 2 + 3)
    assert "not whole numbers" in refusal(path, image.load_labels)
    path = save(tmp_path / "b.nii.gz", values(np.int16), scl_slope=2, scl_inter=-3)
    np.testing.assert_array_equal(image.load_labels(path).data, values() * 2 - 3)


@pytest.mark.parametrize("slope", [np.nan, np.inf, -np.inf])
def test_a_slope_that_is_no_number_is_reported(tmp_path, caplog, slope):
    path = save(tmp_path / "a.nii", values(np.int16), scl_slope=slope)
    np.testing.assert_array_equal(image.load(path).data, values())
    assert str(path) in caplog.text and "scl_slope" in caplog.text


def test_an_intercept_that_is_no_number_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", values(np.int16), scl_slope=1, scl_inter=np.nan)
    refusal(path)


def test_sound_files_cause_no_warning(tmp_path, caplog, real_data):
    image.load(save(tmp_path / "a.nii.gz"))
    image.load(real_data / "oasis1_malf/1000_SS.nii.gz")
    image.load(real_data / "ds002748/sub-01_T1w.nii.gz")
    assert not caplog.records


def test_every_broken_gzip_stream_is_refused(tmp_path):
    random = np.random.default_rng(0)
    data = random.standard_normal((11, 9, 10)).astype(np.float32)
    path = save(tmp_path / "a.nii.gz", data)
    sound = path.read_bytes()
    for byte in random.integers(10, len(sound), 150):  # 10: after the gzip header
        damaged = bytearray(sound)
        damaged[byte] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        refusal(path)
    for length in random.integers(0, len(sound), 40):
        path.write_bytes(sound[:length])
        refusal(path)
    path.write_bytes(sound)
    np.testing.assert_array_equal(image.load(path).data, data)


def test_no_damage_to_a_plain_header_escapes(tmp_path):
    """Any byte changed: a volume of finite values, or one error."""
    random = np.random.default_rng(1)
    path = save(tmp_path / "a.nii", values(np.int16))
    sound = path.read_bytes()
    loaded = 0
    for byte in range(348):
        damaged = bytearray(sound)
        damaged[byte] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        for read in (image.load, image.load_labels):
            with contextlib.suppress(errors.UserError):
                volume = read(path)
                loaded += 1
                assert np.isfinite(volume.data).all()
                assert np.isfinite(volume.affine).all()
    assert 400 < loaded < 680


@pytest.mark.parametrize(
    ("dim", "words"),
    [
        ((3, 32767, 32767, 32767, 1, 1, 1, 1), "more than a scan of a head can have"),
        ((3, 800, 800, 800, 1, 1, 1, 1), "ends before"),
        ((3, 7, 5, 7, 1, 1, 1, 1), "ends before"),
        ((3, 0, 5, 6, 1, 1, 1, 1), "not a volume"),
        ((3, -7, 5, 6, 1, 1, 1, 1), "not a volume"),
        ((0, 7, 5, 6, 1, 1, 1, 1), "not a volume"),
        ((2, 42, 5, 1, 1, 1, 1, 1), "not a volume"),
        ((4, 7, 5, 3, 2, 1, 1, 1), "2 volumes"),
    ],
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_impossible_dimensions(tmp_path, ending, dim, words):
    path = save(tmp_path / f"a{ending}", dim=dim)
    assert words in refusal(path)


def test_one_volume_in_four_or_five_dimensions(tmp_path):
    for shape in ((*SHAPE, 1), (*SHAPE, 1, 1)):
        path = save(tmp_path / "a.nii.gz", values().reshape(shape))
        np.testing.assert_array_equal(image.load(path).data, values())
    path = save(
        tmp_path / "b.mgz", np.stack([values()] * 3, -1), image_class=nib.MGHImage
    )
    assert "3 volumes" in refusal(path)


@pytest.mark.parametrize(
    "row",
    [[0, 0, 0, 0], [np.nan, 0, 0, 0], [0, 1, 0, 0], [0, 0.5, 0.1, 0], [1e30, 0, 0, 0]],
)
def test_affines_without_a_volume(tmp_path, row):
    path = save(tmp_path / "a.nii", qform_code=0, sform_code=1, srow_x=row)
    assert "affine" in refusal(path)


def test_the_sform_wins_and_disagreement_is_reported_in_mm(tmp_path, caplog):
    def write(shift):
        written = nib.Nifti1Image(values(), None)
        written.set_sform(np.diag([2, 2, 2, 1.0]), 1)
        qform = np.diag([2, 2, 2, 1.0])
        qform[0, 3] = shift
        written.set_qform(qform, 1)
        written.to_filename(tmp_path / "a.nii")

    write(0.9)
    np.testing.assert_array_equal(
        image.load(tmp_path / "a.nii").affine, np.diag([2, 2, 2, 1])
    )
    assert not caplog.records
    write(7.25)
    np.testing.assert_array_equal(
        image.load(tmp_path / "a.nii").affine, np.diag([2, 2, 2, 1])
    )
    assert "7.2 mm apart" in caplog.text and "a.nii" in caplog.text
    caplog.clear()
    path = save(tmp_path / "b.nii", sform_code=0, qform_code=1)
    np.testing.assert_allclose(image.load(path).affine, nib.load(path).get_qform())
    path = save(tmp_path / "c.nii", sform_code=0, qform_code=0)
    assert not caplog.records
    assert image.load(path).affine[0, 0] == -2
    assert "how it lies in space" in caplog.text


def test_values_that_are_no_numbers_become_background(tmp_path, caplog):
    data = values()
    data[0, 1, 2], data[1, 1, 1], data[2, 2, 2] = np.nan, np.inf, -np.inf
    path = save(tmp_path / "a.nii.gz", data)
    expected = np.where(np.isfinite(data), data, 0)
    np.testing.assert_array_equal(image.load(path).data, expected)
    assert "3 voxels" in caplog.text and str(path) in caplog.text
    np.testing.assert_array_equal(image.load_labels(path).data, expected)
    data = values(np.float64)
    data[0, 0, 0] = 1e300  # infinite as float32
    path = save(tmp_path / "b.nii.gz", data)
    np.testing.assert_array_equal(image.load(path).data, values())


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan])
def test_constant_images_are_refused(tmp_path, value):
    path = save(tmp_path / "a.nii", np.full(SHAPE, value, np.float32))
    assert "everywhere" in refusal(path)


def test_colours_and_complex_numbers_are_refused(tmp_path):
    colour = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "colours" in refusal(save(tmp_path / "a.nii", colour))
    assert "complex" in refusal(save(tmp_path / "b.nii", values(np.complex64)))


def test_labels(tmp_path):
    path = save(tmp_path / "a.nii.gz", values() + np.float32(0.25))
    assert "not a label map" in refusal(path, image.load_labels)
    path = save(tmp_path / "b.nii.gz", values(np.float64) * 1e8)
    assert "32 bits" in refusal(path, image.load_labels)
    path = save(tmp_path / "c.nii.gz", np.zeros(SHAPE, np.uint8))
    assert "no label, only 0" in refusal(path, image.load_labels)


def test_files_that_are_no_images(tmp_path):
    assert "No such file" in refusal(tmp_path / "missing.nii.gz")
    (tmp_path / "folder.nii").mkdir()
    assert "Is a directory" in refusal(tmp_path / "folder.nii")
    (tmp_path / "empty.nii.gz").touch()
    assert "empty" in refusal(tmp_path / "empty.nii.gz")
    (tmp_path / "a.txt").write_text("hello")
    assert "endings" in refusal(tmp_path / "a.txt")
    (tmp_path / "a.nii").write_text("version https://git-lfs.github.com/spec/v1\n" * 20)
    assert "damaged" in refusal(tmp_path / "a.nii")
    (tmp_path / "b.mgh").write_bytes(b"short")
    assert "damaged" in refusal(tmp_path / "b.mgh")


def test_names_that_mislead_about_compression(tmp_path):
    plain = save(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(plain)
    assert "is not a gzip file" in refusal(tmp_path / "b.nii.gz")
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain))
    assert "is a gzip file" in refusal(tmp_path / "c.nii")


def test_no_memory_is_allocated_for_missing_voxels(tmp_path):
    path = save(tmp_path / "a.nii.gz", dim=(3, 1000, 1000, 1000, 1, 1, 1, 1))
    tracemalloc.start()
    refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_messages_of_nibabel_are_not_shown(tmp_path, capfd):
    """They name no file, so they would not help."""
    image.load(save(tmp_path / "a.nii", qform_code=77))
    refusal(save(tmp_path / "b.nii", datatype=77))
    assert not capfd.readouterr().err


def test_a_mask_may_be_full_but_not_empty(tmp_path):
    save(tmp_path / "full.nii", np.ones((4, 5, 6), np.uint8))
    save(tmp_path / "empty.nii", np.zeros((4, 5, 6), np.uint8))
    assert image.load_mask(tmp_path / "full.nii").data.all()
    assert "nothing in it" in refusal(tmp_path / "empty.nii", image.load_mask)


def test_the_label_that_does_not_fit_is_named(tmp_path):
    data = np.zeros((4, 5, 6), np.float64)
    data[0] = -3e9
    save(tmp_path / "a.nii", data)
    message = refusal(tmp_path / "a.nii", image.load_labels)
    assert "the label -3000000000" in message
