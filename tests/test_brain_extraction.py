"""The brain in a whole head is found and aligned, either way round, in any orientation.

The head is one of MNI152's tissue maps, from which the network has not learned.
"""

import functools
import sys
from types import SimpleNamespace

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
from mdvit_jax.registration import (
    brain_alignment,
    brain_extraction,
    levels,
    similarity_metrics,
)
from mdvit_jax.registration import search as searches
from mdvit_jax.registration.foreground import segment_foreground

VOXEL = 3.0
GRID = {"shape": (64, 80, 84), "voxel": (VOXEL,) * 3}


@pytest.fixture(scope="module")
def scans():
    """A brain and the noisy whole head around it, on one grid; its 4×4."""
    settings = PLAIN._replace(**GRID)

    def make(head):
        person = scan_draw.draw_person(jax.random.key(0), settings)
        draw = scan_draw.draw_scan(jax.random.key(1), settings)
        return synthesis.form_scan(head, person, draw, settings)

    # One program without optimisation: it is used once.
    quick = {"xla_backend_optimization_level": 0}
    quick["xla_llvm_disable_expensive_passes"] = True
    made = jax.jit(make, compiler_options=quick)(label_maps.mni152_head(voxel=4.0))
    scan = jax.device_get(made)
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


def test_a_head_is_looked_at_in_any_frame(scans):
    """The brain is the same one, wherever the head lies, if the network is told how."""
    _, whole, affine = scans
    turn = Rotation.from_euler("xyz", (35, -20, 160), degrees=True).as_matrix()
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


@pytest.mark.parametrize("voxel", [1.0, 1.5])
def test_rounding_does_not_choose_what_the_network_sees(scans, monkeypatch, voxel):
    """Columns of a turned affine are a little longer or shorter than voxels."""
    brain, _, affine = scans
    small = np.diag([voxel / VOXEL] * 3 + [1.0])
    image = segment_foreground(brain, small @ affine, name="it")
    image = image._replace(radius=100.0)  # as a head's: voxels of 3 mm are wanted
    shapes, original = set(), levels.network_volume

    def record(coarse, *rest):
        shapes.add(coarse.image.shape)
        return original(coarse, *rest)

    monkeypatch.setattr(levels, "network_volume", record)
    nothing = np.zeros((brain_extraction._SIZE,) * 3)
    monkeypatch.setattr(brain_extraction, "_program", lambda: lambda *_: nothing)
    for turn in Rotation.random(20, rng=np.random.default_rng(0)).as_matrix():
        assert brain_extraction.find_brain(image, turn) is None
    assert len(shapes) == 1


def test_a_turned_head_is_looked_at_again(scans):
    """So its brain is that of the upright head, and the answer the same."""
    brain, whole, affine = scans
    truth = pose((20, -30, 150), (20, -15, 10))
    upright = register((brain, affine), (whole, affine))
    pair = (brain, affine), (whole, truth @ affine)
    result = register(*pair)
    assert error(result.matrix, truth @ upright.matrix, brain, affine) < 0.3
    expected = upright.pair.moving.volume * np.linalg.det(truth)
    assert result.pair.moving.volume == pytest.approx(expected, rel=0.01)
    back = register(*pair[::-1])
    assert error(back.inverse, result.matrix, brain, affine) < 1e-3
    assert back.pair.fixed.volume == pytest.approx(result.pair.moving.volume)


def aligned(score, correlation=0.3, matrix=None):
    """A result of `brain_alignment._align` of two brains that are only names."""
    alignment = searches.Alignment(
        np.eye(4) if matrix is None else matrix, 0.1, False, score, score - 0.2
    )
    measures = similarity_metrics.Measures(0.5, correlation, 0.9)
    return brain_alignment.BrainAlignment(
        SimpleNamespace(fixed="f", moving="m"), alignment, measures
    )


@pytest.mark.parametrize(("better", "taken"), [(0.05, False), (0.07, True)])
def test_the_networks_brains_of_stripped_ones(monkeypatch, better, taken):
    """They are taken where outlines and interior together fit clearly better."""
    stripped = SimpleNamespace(estimated=False)
    results = {"f": aligned(0.1), "network's": aligned(0.1 + better + 0.1, 0.2)}
    patch = functools.partial(monkeypatch.setattr, brain_extraction)
    patch("replace_heads", lambda *both: both)
    patch("extract_brains", lambda *both: ("network's", "network's"))
    monkeypatch.setattr(
        brain_alignment,
        "_align",
        lambda one, *_, **options: results["f" if one is stripped else one],
    )
    result = brain_alignment.align(stripped, stripped, lambda *_: np.eye(4)[None])
    assert (result is results["network's"]) == taken


def test_the_best_of_three_looks_is_taken(monkeypatch):
    """With what the first one says of other orientations; below 30° there is none."""
    turned = pose((0, 0, 40), (0, 0, 0))
    looks = []

    def look(head, turn):
        looks.append((head, turn))
        return None if head == "fixed" else "upright"

    monkeypatch.setattr(brain_extraction, "extract_brain", look)
    again = aligned(0.5, matrix=turned)
    again = again._replace(
        alignment=again.alignment._replace(restart_agreement=1.0, mirror_score=0.0)
    )
    monkeypatch.setattr(brain_alignment, "_align", lambda *both, **options: again)
    ask = functools.partial(
        brain_alignment._look_again, "fixed", "moving", dof="affine", seed=0
    )
    first = aligned(0.2, matrix=turned)
    result = ask(first)
    (moving, back), (fixed, there) = looks
    assert (moving, fixed) == ("moving", "fixed") and (back == there.T).all()
    assert Rotation.from_matrix(there).magnitude() == pytest.approx(np.radians(40), 0.1)
    assert result.alignment == again.alignment._replace(
        restart_agreement=0.1, runner_up_score=0.0
    )
    worse = aligned(0.6, matrix=turned)
    assert ask(worse) is worse
    looks.clear()
    small = aligned(0.2, matrix=pose((0, 0, 25), (0, 0, 0)))
    assert ask(small) is small and not looks


def test_two_heads_are_aligned_by_their_brains(scans):
    """One of them with a cut neck; the centres are far apart."""
    brain, whole, affine = scans
    truth = pose((14, -12, 9), (18, -25, 30))
    cut = whole.copy()
    cut[:, :, : whole.shape[2] // 3] = 0
    result = register((whole, affine), (cut, truth @ affine))
    assert not result.alignment.searched
    assert error(result.matrix, truth, brain, affine) < 0.1 * VOXEL


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


def test_a_head_and_its_brain_lie_alike_on_mni152(scans):
    """The head is that of the template's tissue maps, a little deformed."""
    brain, whole, affine = scans
    template = named_templates.load("mni152-2mm")
    answers = [register("mni152-2mm", (data, affine)) for data in (brain, whole)]
    assert all(answer.quality.status == "ok" for answer in answers)
    one, other = (answer.matrix for answer in answers)
    assert error(one, other, template.data, template.affine) < 1
    grid = np.argwhere(template.data > 0)
    at = grid @ template.affine[:3, :3].T + template.affine[:3, 3]
    inside = np.linalg.inv(affine) @ other
    near = np.rint(at @ inside[:3, :3].T + inside[:3, 3]).astype(int)
    within = ((near >= 0) & (near < brain.shape)).all(1)
    shared = np.count_nonzero(brain[tuple(near[within].T)])
    size = np.count_nonzero(brain) / np.linalg.det(inside @ template.affine)
    assert 2 * shared / (len(grid) + size) > 0.93


@pytest.mark.parametrize("scan", ["lhdata/sub-02_inplaneT2", "open_ms/patient01_FLAIR"])
def test_real_heads_on_a_whole_head_template(whole_heads, scans, scan):
    """In any contrast they lie on the template's head as on its brain."""
    brain, whole, affine = scans
    head = nib.load(whole_heads / f"{scan}.nii.gz")
    on_head = register((whole, affine), head)
    on_brain = register((brain, affine), head)
    assert on_head.quality.status in ("ok", "check")
    assert error(on_head.matrix, on_brain.matrix, brain, affine) < 2


@pytest.mark.parametrize("scan", ["sub-01_T1w", "sub-02_inplaneT2"])
def test_real_heads_on_mni152(whole_heads, scan):
    """The two ways agree, and where the brain is, is known from a look at pictures."""
    head = nib.load(whole_heads / "lhdata" / f"{scan}.nii.gz")
    result = register("mni152-2mm", head)
    assert result.quality.status == "ok", result.quality
    back = register(head, "mni152-2mm")
    template = named_templates.load("mni152-2mm")
    apart = error(back.inverse, result.matrix, template.data, template.affine)
    assert apart < 1e-3
