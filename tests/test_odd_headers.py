"""Odd headers of images; see `odd_image`."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from helpers import odd_image
from helpers.odd_image import AS_NIBABEL, SHAPE, SOUND, stored, values


@pytest.fixture
def hold(tmp_path, capsys):
    return odd_image.holder(tmp_path, capsys)


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


@pytest.mark.parametrize("field", range(0, 28, 4))
@pytest.mark.parametrize("word", [0, -1, 2, 7, 2**31 - 1, -(2**31)])
def test_words_of_an_mgh_header(hold, field, word):
    content = bytearray(stored(image_class=nib.MGHImage))
    content[field : field + 4] = np.array(word, ">i4").tobytes()
    hold("odd.mgh", content, AS_NIBABEL)


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
