"""The brain in a whole head is found and aligned, either way round, in any orientation.

The head is one of MNI152's tissue maps, from which the network has not learned.
"""

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
from mdvit_jax.evaluation import metrics
from mdvit_jax.io import named_templates
from mdvit_jax.registration import brain_extraction
from mdvit_jax.registration.foreground import segment_foreground

VOXEL = 3.0
GRID = {"shape": (64, 80, 84), "voxel": (VOXEL,) * 3}


@pytest.fixture(scope="module")
def scans():
    """A brain and the noisy whole head around it, on one grid; its 4×4."""
    settings = PLAIN._replace(**GRID)
    head = label_maps.mni152_head(voxel=4.0)
    draw_person = jax.jit(scan_draw.draw_person, static_argnums=1)
    draw_scan = jax.jit(scan_draw.draw_scan, static_argnums=1)
    form = jax.jit(synthesis.form_scan, static_argnums=3)
    person = draw_person(jax.random.key(0), settings)
    draw = draw_scan(jax.random.key(1), settings)
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


def extract(data, affine):
    """The foreground, and the brain in it."""
    image = segment_foreground(data, affine, name="it")
    return image, brain_extraction.replace_heads(image, image)[0]


def dice(extracted, brain, affine):
    """Of a foreground's voxels and those of the true brain on its grid."""
    mask = np.zeros(brain.shape, bool)
    shift = np.linalg.inv(affine) @ extracted.affine
    assert np.allclose(shift[:3, :3], np.eye(3))
    start = np.rint(shift[:3, 3]).astype(int)
    box = tuple(map(slice, start, start + extracted.inside.shape))
    mask[box] = extracted.inside
    return metrics.dice(mask, brain > 0)


def test_the_brain_of_a_head_is_found(scans):
    brain, whole, affine = scans
    head, extracted = extract(whole, affine)
    assert not head.clean and extracted.clean and extracted.estimated
    assert dice(extracted, brain, affine) > 0.93
    # The background may be masked, as by a defacing program.
    inside = ndimage.binary_dilation(whole > 0.15, iterations=1)
    masked, again = extract(np.where(inside, whole, 0), affine)
    assert masked.clean and again.estimated
    assert dice(again, brain, affine) > 0.93


def test_what_lies_around_the_brain_leaves_no_trace(scans):
    """Another scalp, three times as bright, and the brain is the same."""
    brain, whole, affine = scans
    far = ndimage.binary_dilation(brain > 0, iterations=3)
    _, one = extract(whole, affine)
    _, other = extract(np.where(far, whole, np.minimum(3 * whole, 1.5)), affine)
    assert dice(one, brain, affine) > 0.93 and dice(other, brain, affine) > 0.92


def test_a_brain_stays_as_it_is(scans):
    brain, whole, affine = scans
    image, extracted = extract(brain, affine)
    assert extracted is image
    # One stripped with a wide margin, too, beside which the other one is small.
    wide = ndimage.binary_dilation(brain > 0, iterations=2)
    wide = segment_foreground(np.where(wide, whole, 0), affine, name="wide")
    small = image._replace(inside=image.inside & (image.image > 0.8))
    assert wide.volume > 1.8 * small.volume
    assert brain_extraction.replace_heads(small, wide) == (small, wide)


def test_what_is_no_head_is_aligned_as_it_is():
    """A noisy ball of the size of a mouse's head, and noise with nothing in it."""
    random = np.random.default_rng(0)
    distance = np.linalg.norm(np.indices((40, 44, 42)).T - [20, 22, 21], axis=-1).T
    ball = (distance < 14) * (1 + 0.2 * np.sin(distance))
    noisy = np.hypot(ball + random.normal(0, 0.03, ball.shape), 0.03)
    image, extracted = extract(noisy.astype(np.float32), np.diag([0.4, 0.4, 0.4, 1]))
    assert extracted is image


@pytest.mark.parametrize(
    ("degrees", "status"), [((12, -9, 15), "ok"), ((100, 20, -70), "check")]
)
def test_a_whole_head_on_a_brain(scans, degrees, status):
    brain, whole, affine = scans
    truth = pose(degrees, (14, -20, 30))
    result = register((brain, affine), (whole, truth @ affine))
    # The brain's outline is looked for as the head's is.
    assert result.pair.moving.estimated and result.pair.fixed.estimated
    assert error(result.matrix, truth, brain, affine) < 0.1 * VOXEL
    assert result.quality.status == status, result.quality


def test_a_brain_on_a_whole_head(scans):
    brain, whole, affine = scans
    truth = pose((-8, 10, 5), (-10, 5, 12))
    result = register((whole, affine), (brain, truth @ affine), dof="affine")
    assert error(result.matrix, truth, brain, affine) < 0.1 * VOXEL
    assert result.quality.status == "ok", result.quality
    assert not result.alignment.searched
    back = register((brain, truth @ affine), (whole, affine))
    assert np.allclose(back.matrix @ result.matrix, np.eye(4), atol=1e-9)


@pytest.mark.parametrize("dof", ["rigid", "affine"])
def test_one_person_is_exact_whatever_the_stripping(scans, dof):
    """Inverted, and stripped with a margin of the head."""
    brain, whole, affine = scans
    truth = pose((7, 9, -11), (8, -6, 15))
    if dof == "rigid":
        u, _, vt = np.linalg.svd(truth[:3, :3])
        truth[:3, :3] = u @ vt
    wide = ndimage.binary_dilation(brain > 0, iterations=2)
    inverted = np.where(wide, 1.2 - whole, 0).astype(np.float32)
    result = register((inverted, affine), (whole, truth @ affine), dof=dof)
    assert error(result.matrix, truth, brain, affine) < 0.1 * VOXEL


@pytest.mark.parametrize("degrees", [(0, 0, 0), (35, -20, 160)])
def test_a_head_is_looked_at_in_any_frame(scans, degrees):
    """The brain is the same one, wherever the head lies, if the network is told how."""
    _, whole, affine = scans
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    frame = np.eye(4)
    frame[:3, :3] = turn
    heads = [
        segment_foreground(whole, placed, name="head")
        for placed in (affine, frame @ affine)
    ]
    upright = brain_extraction.extract_brain(heads[0])
    turned = brain_extraction.extract_brain(heads[1], turn.T)
    assert turned.volume == pytest.approx(upright.volume, rel=1e-3)
    np.testing.assert_allclose(turned.centre, turn @ upright.centre, atol=0.05)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_turned_head_is_looked_at_again(scans, swapped):
    """So its brain is that of the upright head, and the answer the same."""
    brain, whole, affine = scans
    truth = pose((20, -30, 150), (20, -15, 10))
    upright = register((brain, affine), (whole, affine))
    pair = (brain, affine), (whole, truth @ affine)
    result = register(*(pair[::-1] if swapped else pair))
    matrix = np.linalg.inv(result.matrix) if swapped else result.matrix
    assert error(matrix, truth @ upright.matrix, brain, affine) < 0.3
    seen = result.pair.fixed if swapped else result.pair.moving
    expected = upright.pair.moving.volume * np.linalg.det(truth)
    assert abs(seen.volume / expected - 1) < 0.01


def test_two_heads_are_aligned_by_their_brains(scans):
    """One of them with a cut neck; the centres are far apart."""
    brain, whole, affine = scans
    truth = pose((14, -12, 9), (18, -25, 30))
    cut = whole.copy()
    cut[:, :, : whole.shape[2] // 3] = 0
    result = register((whole, affine), (cut, truth @ affine))
    assert not result.alignment.searched
    assert error(result.matrix, truth, brain, affine) < 0.1 * VOXEL


def test_the_network_alone_is_measured_on_the_brain(scans):
    brain, whole, affine = scans
    truth = pose((5, -4, 8), (14, -20, 30))
    pair = (brain, affine), (whole, truth @ affine)
    result = register(*pair, start="network", refine=False)
    assert error(result.matrix, truth, brain, affine) < 15
    assert result.pair.moving.estimated and result.alignment is None
    assert result.after.correlation > result.before.correlation


def test_a_wrong_start_is_no_ok(scans):
    """From the caller's start only, which is far from the brain, as the headers are."""
    brain, whole, affine = scans
    wrong = pose((150, 0, 40), (20, 30, -30))
    moved = pose((0, 90, 0), (50, 0, 0))
    result = register((brain, affine), (whole, moved @ affine), start=wrong)
    assert result.quality.status in ("check", "failed")


def test_without_flax_a_message_says_what_is_missing(scans, monkeypatch, caplog):
    brain, whole, affine = scans
    truth = pose((12, -9, 15), (14, -20, 30))
    monkeypatch.setitem(sys.modules, "mdvit_jax.models", None)
    monkeypatch.delattr("mdvit_jax.models", raising=False)
    # Nothing is compiled or kept in a file yet.
    monkeypatch.setattr(
        brain_extraction, "_program", lambda: brain_extraction._find_share
    )
    result = register((brain, affine), (whole, truth @ affine))
    right = error(result.matrix, truth, brain, affine) < 0.5  # mm
    assert not result.pair.moving.estimated
    assert right == (result.quality.status == "ok")
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
