"""Odd and damaged files in every role of `mdvit register`; see `odd_registration`.

MDVIT_ODD_FILES is the number of files damaged at random places. If it is set, all
oddities are tried in all roles; else a few, as each takes up to a second.
"""

import functools
import gzip
import itertools
import os

import nibabel as nib
import numpy as np
import pytest

from helpers import damage, odd_registration
from helpers.odd_registration import IMAGES, ROLES, stored

MANY = "MDVIT_ODD_FILES" in os.environ
RANDOM_CASES = int(os.environ.get("MDVIT_ODD_FILES", "21"))
NAN, INF = np.nan, np.inf


@pytest.fixture
def run(tmp_path, capsys):
    """`odd_registration.run` in an empty folder."""
    return functools.partial(odd_registration.run, tmp_path, capsys)


def in_roles(name: str, oddities, every: int, roles=tuple(IMAGES)):
    """Each oddity in each role, or a regular selection of these."""
    pairs = [*itertools.product(oddities, roles)]
    return pytest.mark.parametrize((name, "role"), pairs[:: 1 if MANY else every])


@pytest.mark.parametrize("case", range(RANDOM_CASES))
def test_random_damage(run, tmp_path, case):
    random = np.random.default_rng(case)
    role = ROLES[case % len(ROLES)]
    if role == "start":
        starts = odd_registration.starts(tmp_path)
        ending, sound = starts[random.integers(len(starts))]
        how = damage.flipped if random.random() < 0.7 else damage.cut
        run(role, ending, how(sound, random), *["--no-refine"] * (case % 2))
        return
    data, affine = IMAGES[role]
    if random.random() < 0.2:
        voxels = damage.flipped(stored(role, data.astype(np.float32)), random, 352)
        run(role, ".nii", voxels)
        return
    made = damage.image(int(random.integers(15)), random, data, affine)
    run(role, made.ending, made.content, refused=made.refused)


@in_roles(
    "axes",
    [(1e-3,) * 3, (1e3,) * 3, (1e-3, 1, 1), (1, 1, 1e3), (1e-4, 1, 1e3), (0.1,) * 3,
     (10,) * 3, (0.05, 1, 1)],
    every=3,
    roles=("fixed", "moving"),
)  # fmt: skip
def test_voxels_of_another_size(run, axes, role):
    affine = IMAGES[role][1] @ np.diag([*axes, 1.0])
    assert run(role, ".nii", stored(role, affine=affine)) in (None, "failed", "check")


def odd_values(kind: str, data: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(0)
    data, index = data.astype(np.float64), np.arange(data.size).reshape(data.shape)
    holes = random.random(data.shape) < 0.02
    return {
        "zero": data * 0,
        "constant": data * 0 + 7,
        "negative": -data - 1,
        "NaN": np.where(holes, NAN, data),
        "NaN outside": np.where(data == 0, NAN, data),
        "infinite": np.where(holes, INF, np.where(data > 140, -INF, data)),
        "only NaN": data * NAN,
        "1e30": data * 1e30,
        "1e36": data * 1e36,
        "1e300": data * 1e300,
        "1e-30": data * 1e-30,
        "1e-44": data * 1e-44,
        "1e-310": data * 1e-310,
        "spikes": np.where(holes, 3e38, data),
        "both spikes": np.where(holes, 3e38, np.where(data > 140, -3e38, data)),
        "offset": data + 1e7,
        "noise": random.random(data.shape),
        "one voxel": data * (index == 5000),
        "few voxels": data * (index % 577 == 0),
        "two values": 1.0 * (data > 40),
        "labels": 3.0 * (data > 40) + 4 * (data > 100),
    }[kind]


@in_roles(
    "kind",
    ["zero", "constant", "negative", "NaN", "NaN outside", "infinite", "only NaN",
     "1e30", "1e36", "1e300", "1e-30", "1e-44", "1e-310", "spikes", "both spikes",
     "offset", "noise", "one voxel", "few voxels", "two values", "labels"],
    every=19,
)  # fmt: skip
def test_values(run, kind, role):
    dtype = np.float64 if kind in ("1e300", "1e-310") else np.float32
    with np.errstate(all="ignore"):
        data = odd_values(kind, IMAGES[role][0]).astype(dtype)
    run(role, ".nii.gz", gzip.compress(stored(role, data), 1))


@in_roles(
    "dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"], every=13
)
def test_types(run, dtype, role):
    data = np.clip(IMAGES[role][0], 0, 120).astype(dtype)
    run(role, ".nii", stored(role, data), refused=False)


@in_roles(
    "shape",
    [(24, 24), (24, 24, 1), (24, 24, 3), (1, 1, 1), (24, 24, 24, 1), (24, 24, 24, 3),
     (24, 24, 24, 1, 3), (0, 24, 24), (24, 48, 12), (4, 4, 4), (13824, 1, 1),
     (5, 24, 24)],
    every=7,
)  # fmt: skip
def test_shapes(run, shape, role):
    run(role, ".nii", stored(role, np.resize(IMAGES[role][0], shape)))


@in_roles(
    "file",
    [(".nii", b""), (".nii.gz", b""), (".nii", b"short"), (".png", b"\x89PNG"),
     (".nii", bytes(5000)), (".mgh", b"\xff" * 5000), (".hdr", bytes(348)), ("", b"x")],
    every=5,
)  # fmt: skip
def test_contents_that_are_no_image(run, file, role):
    run(role, *file, refused=True)


@in_roles(
    "fields",
    [
        {"xyzt_units": 255}, {"scl_slope": NAN}, {"scl_slope": 0},
        {"scl_slope": -0.5, "scl_inter": 7}, {"scl_slope": 1e37}, {"scl_slope": 1e-44},
        {"scl_slope": 2, "scl_inter": NAN}, {"scl_slope": 1, "scl_inter": 1e6},
        {"scl_slope": 1, "scl_inter": 1e10}, {"vox_offset": NAN}, {"vox_offset": 1e9},
        {"vox_offset": 0}, {"magic": b"ni1"}, {"sizeof_hdr": 0},
        {"sform_code": 0, "qform_code": 0}, {"sform_code": -3}, {"sform_code": 30000},
        {"sform_code": 0, "qform_code": 1, "quatern_b": NAN}, {"srow_x": (0, 0, 0, 0)},
        {"srow_x": (1e4, 0, 0, -9e4)}, {"srow_x": (8, 0, 0, 9e4)},
        {"pixdim": (NAN,) * 8}, {"pixdim": (0,) * 8},
        {"cal_max": NAN, "cal_min": INF}, {"descrip": b"\xff" * 80},
        {"intent_code": 1007}, {"dim": (0,) * 8},
        {"dim": (3, 32767, 32767, 32767, 1, 1, 1, 1)}, {"datatype": 32},
        {"datatype": 77}, {"datatype": 16},
    ],
    every=17,
)  # fmt: skip
def test_header_fields(run, fields, role):
    run(role, ".nii", stored(role, **fields))


def test_units_unknown_to_nifti(run):
    """Also with --header-only."""
    run("moving", ".nii", stored("moving", xyzt_units=255), refused=False)


@pytest.mark.parametrize("role", IMAGES)
def test_another_format(run, role):
    data = IMAGES[role][0].astype(np.float32)
    run(role, ".mgh", stored(role, data, kind=nib.MGHImage), refused=False)
