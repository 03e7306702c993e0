"""Damaged image files, and files that are not images; see `odd_image`.

MDVIT_ODD_FILES is the number of files damaged at random places.
"""

import gzip
import os
import zlib

import nibabel as nib
import numpy as np
import pytest
from nibabel import spm2analyze

from helpers import damage, odd_image
from helpers.odd_image import AFFINE, AS_NIBABEL, SHAPE, SOUND, stored, values
from mdvit_jax import __main__, transforms

RANDOM_CASES = int(os.environ.get("MDVIT_ODD_FILES", "60"))


@pytest.fixture
def hold(tmp_path, capsys):
    return odd_image.holder(tmp_path, capsys)


@pytest.mark.parametrize("case", range(RANDOM_CASES))
def test_random_damage(hold, case):
    random = np.random.default_rng(case)
    data = values(shape=(*SHAPE, 3)) if random.random() < 0.3 else SOUND
    made = damage.image(case, random, data, AFFINE)
    right = data if made.same else AS_NIBABEL
    hold(f"odd{made.ending}", made.content, right, refused=made.refused)


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
def test_contents_that_contradict_the_name(hold, name, content, right):
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


def test_lengths_beyond_nifti_1(tmp_path, capsys):
    image = nib.Nifti2Image(values(np.uint8, (40000, 1, 1)), np.eye(4))
    image.to_filename(tmp_path / "long.nii")
    transforms.write(tmp_path / "t.txt", np.eye(4))
    words = ["apply", "--transform", "t.txt", "--moving", "long.nii"]
    words += ["--reference", "long.nii", "--output"]
    words = [str(tmp_path / word) if "." in word else word for word in words]
    assert __main__.main([*words, str(tmp_path / "w.nii")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "counts to 32767" in message
    assert __main__.main([*words, str(tmp_path / "w.mgz")]) == 0
    saved = np.asanyarray(nib.load(tmp_path / "w.mgz").dataobj)
    np.testing.assert_array_equal(saved, np.asanyarray(image.dataobj))
