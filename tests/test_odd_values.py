"""Odd values, types and shapes of images; see `odd_image`."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from helpers import odd_image
from helpers.odd_image import AFFINE, SHAPE, SOUND, stored, values

NAN, INF = np.nan, np.inf


@pytest.fixture
def hold(tmp_path, capsys):
    return odd_image.holder(tmp_path, capsys)


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
    hold("odd.nii", stored(data), data, refused=labels and dtype[0] == "f",
         labels=labels)  # fmt: skip


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


def test_images_that_are_no_labels(hold):
    data = values(np.float32) + np.float32(0.3)
    hold("odd.nii", stored(data), refused=True, labels=True)
    content = stored(scl_slope=0.3, scl_inter=0.1)
    hold("odd.nii", content, refused=True, labels=True)
    series = np.stack([SOUND, SOUND + 0.5], -1).astype(np.float32)  # the last of them
    hold("odd.nii", stored(series), refused=True, labels=True)
