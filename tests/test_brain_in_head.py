"""A brain alone on a whole head, either way round, in any orientation."""

import sys

import jax
import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mdvit_jax import register
from mdvit_jax.data import label_maps, scan_draw, synthesis
from mdvit_jax.data.scan_settings import PLAIN
from mdvit_jax.io import named_templates
from mdvit_jax.registration import network_start, rotations, search
from mdvit_jax.registration.foreground import segment_foreground

VOXEL = 3.0
GRID = {"shape": (64, 80, 84), "voxel": (VOXEL,) * 3}


@pytest.fixture(scope="module")
def scans():
    """A brain and the noisy whole head around it, on one grid; its 4×4."""
    settings = PLAIN._replace(**GRID)
    head = label_maps.mni152_head(voxel=4.0)
    person = scan_draw.draw_person(jax.random.key(0), settings)
    draw = scan_draw.draw_scan(jax.random.key(1), settings)
    form = jax.jit(synthesis.form_scan, static_argnums=3)
    scan = jax.device_get(form(head, person, draw, settings))
    affine = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
    affine[:3, 3] = -VOXEL * (np.array(GRID["shape"]) - 1) / 2
    noise = np.random.default_rng(0).normal(0, 0.02, (2, *GRID["shape"]))
    whole = np.hypot(scan.image + noise[0], noise[1])
    brain = np.where(scan.mask, scan.brain, 0)
    return brain.astype(np.float32), whole.astype(np.float32), affine


def pose(degrees, shift):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, :3] @= np.diag([1.05, 0.97, 1.02])
    matrix[:3, 3] = shift
    return matrix


def error(matrix, truth, brain, affine):
    """Mean distance over the brain, mm."""
    points = np.argwhere(brain > 0)[::50] @ affine[:3, :3].T + affine[:3, 3]
    off = (matrix - truth)[:3]
    return np.linalg.norm(points @ off[:, :3].T + off[:, 3], axis=1).mean()


@pytest.mark.parametrize(
    ("degrees", "status"), [((12, -9, 15), "ok"), ((100, 20, -70), "check")]
)
def test_a_whole_head_on_a_brain(scans, degrees, status):
    brain, whole, affine = scans
    truth = pose(degrees, (14, -20, 30))
    result = register((brain, affine), (whole, truth @ affine))
    assert not result.pair.outlines
    assert error(result.matrix, truth, brain, affine) < 0.1 * VOXEL
    assert result.quality.status == status, result.quality


def test_a_brain_on_a_whole_head(scans):
    brain, whole, affine = scans
    truth = pose((-8, 10, 5), (-10, 5, 12))
    result = register((whole, affine), (brain, truth @ affine), dof="affine")
    assert error(result.matrix, truth, brain, affine) < 0.1 * VOXEL
    assert result.quality.status == "ok", result.quality
    assert not result.alignment.searched  # the network's place was enough
    back = register((brain, truth @ affine), (whole, affine))
    assert np.allclose(back.matrix @ result.matrix, np.eye(4), atol=1e-9)


@pytest.mark.parametrize("dof", ["rigid", "affine"])
def test_one_person_is_exact_whatever_the_stripping(scans, dof):
    """Inverted, and stripped with a margin of the head, which the ring is not."""
    brain, whole, affine = scans
    truth = pose((7, 9, -11), (8, -6, 15))
    if dof == "rigid":
        u, _, vt = np.linalg.svd(truth[:3, :3])
        truth[:3, :3] = u @ vt
    wide = ndimage.binary_dilation(brain > 0, iterations=2)
    inverted = np.where(wide, 1.2 - whole, 0).astype(np.float32)
    result = register((inverted, affine), (whole, truth @ affine), dof=dof)
    assert error(result.matrix, truth, brain, affine) < 0.1 * VOXEL


def test_two_heads_start_from_the_network(scans, monkeypatch):
    """One of them with a cut neck; the centres are far apart."""
    _, whole, affine = scans
    truth = pose((14, -12, 9), (18, -25, 30))
    cut = whole.copy()
    cut[:, :, : whole.shape[2] // 3] = 0

    def no_search(*arguments, search=True, **options):
        assert not search
        return align(*arguments, search=search, **options)

    align = search.align
    monkeypatch.setattr(search, "align", no_search)
    result = register((whole, affine), (cut, truth @ affine))
    assert error(result.matrix, truth, whole, affine) < 0.3 * VOXEL


def test_the_network_alone_is_measured_around_the_brain(scans):
    brain, whole, affine = scans
    truth = pose((5, -4, 8), (14, -20, 30))
    pair = (brain, affine), (whole, truth @ affine)
    result = register(*pair, start="network", refine=False)
    assert error(result.matrix, truth, brain, affine) < 15
    assert not result.pair.outlines and result.alignment is None
    assert result.after.correlation > result.before.correlation


def test_a_wrong_start_is_no_ok(scans):
    """From the caller's start only, which is far from the brain, as the headers are."""
    brain, whole, affine = scans
    wrong = pose((150, 0, 40), (20, 30, -30))
    moved = pose((0, 90, 0), (50, 0, 0))
    result = register((brain, affine), (whole, moved @ affine), start=wrong)
    assert result.quality.status in ("check", "failed")


def test_the_network_is_near_in_its_orientations(scans):
    brain, whole, affine = scans
    truth = pose((8, -5, 12), (6, -9, 4))
    turns = rotations.axis_turns()
    assert len(turns) == 24 and (turns[0] == np.eye(3)).all()
    truth[:3] = turns[5] @ truth[:3]
    foregrounds = [
        segment_foreground(data, matrix, name="it")
        for data, matrix in ((brain, affine), (whole, truth @ affine))
    ]
    matrices = network_start.estimate(*foregrounds, turns)
    errors = [error(matrix, truth, brain, affine) for matrix in matrices]
    assert errors[5] == min(errors) < 12 and errors[0] > 40


def test_without_flax_a_message_says_what_is_missing(scans, monkeypatch, caplog):
    brain, whole, affine = scans
    truth = pose((12, -9, 15), (14, -20, 30))
    network_start._network.cache_clear()
    monkeypatch.setitem(sys.modules, "mdvit_jax.models", None)
    monkeypatch.delattr("mdvit_jax.models", raising=False)
    result = register((brain, affine), (whole, truth @ affine))
    right = error(result.matrix, truth, brain, affine) < 0.5  # mm
    assert result.pair.outlines and right == (result.quality.status == "ok")
    assert "pip install 'mdvit-jax[register]'" in caplog.text


@pytest.mark.parametrize("scan", ["sub-01_T1w", "sub-02_inplaneT2"])
def test_real_heads_on_mni152(real_data, scan):
    """The two ways agree, and where the brain is, is known from a look at pictures."""
    path = real_data / "lhdata" / f"{scan}.nii.gz"
    if not path.is_file():
        pytest.skip(f"no whole heads: {path} is not there")
    head = nib.load(path)
    result = register("mni152-2mm", head)
    assert result.quality.status == "ok", result.quality
    back = register(head, "mni152-2mm")
    template = named_templates.load("mni152-2mm")
    apart = error(back.inverse, result.matrix, template.data, template.affine)
    assert apart < 0.5
