"""The results of alignments of heads defined by formulas, and of real brains."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from benchmarks.registration import cases, contrasts, damages, scans
from mdvit_jax import register
from mdvit_jax.registration import (
    levels,
    network_start,
    refinement,
    search,
    similarity_metrics,
)
from mdvit_jax.registration.foreground import segment_foreground
from mdvit_jax.transforms import Grid, resample
from oracle import heads
from test_levels import ORDERS, reordered

POINTS = heads.points()
VOXEL = 4.0  # mm


def pose(turn, scales=(1.06, 0.95, 1.02), shift=(8, -5, 6)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = turn.as_matrix() @ np.diag(scales)
    matrix[:3, 3] = shift
    return matrix


SMALL = Rotation.from_euler("xyz", [12, -8, 15], degrees=True)
TRUTH = pose(SMALL)


def seen(matrix=None, **more):
    """A head as (array, affine)."""
    shape, affine = heads.grid(46 if matrix is None else 50, VOXEL)
    return heads.head(shape, affine, matrix, **more), affine


@pytest.fixture(scope="module")
def fixed():
    return seen()


@pytest.fixture(scope="module")
def result(fixed):
    return register(fixed, seen(TRUTH))


def apart(one, other) -> float:
    """The largest distance of a point of the surface under two matrices, mm."""
    offsets = POINTS @ (one - other)[:3, :3].T + (one - other)[:3, 3]
    return float(np.linalg.norm(offsets, axis=1).max())


def test_an_affine_is_recovered(result):
    assert apart(result.matrix, TRUTH) < 0.1 * VOXEL
    assert result.quality.status == "ok" and not result.alignment.searched
    assert result.after.correlation > result.before.correlation
    assert result.components.scale == pytest.approx([1.06, 0.95, 1.02], abs=0.01)


def test_where_the_network_is_wrong_the_centres_are_right(fixed, result, monkeypatch):
    moving = seen(TRUTH)
    far = pose(
        Rotation.from_euler("xyz", [150, 20, -40], degrees=True), shift=(60, 9, 0)
    )
    monkeypatch.setattr(network_start, "estimate", lambda *_: far)
    kept = []
    best_of = search._best_of

    def record(pair, matrices, scale):
        kept.extend(matrices)
        return best_of(pair, matrices, scale)

    monkeypatch.setattr(search, "_best_of", record)
    with_both = register(fixed, moving, start="network")
    assert apart(with_both.matrix, result.matrix) < 0.02 * VOXEL
    before = result.alignment
    assert with_both.alignment.restart_agreement == before.restart_agreement
    assert len(kept) == 3, "the refined answer, the centres and the headers"
    assert not any(np.allclose(m, far) or np.allclose(m @ far, np.eye(4)) for m in kept)
    alone = register(fixed, moving, start="network", refine=False)
    assert (alone.matrix == far).all()
    # And the other way round: no search is needed where the network is right.
    truth = pose(Rotation.from_euler("xyz", [150, 20, -40], degrees=True))
    turned = seen(truth)
    assert register(fixed, turned).alignment.searched
    monkeypatch.setattr(network_start, "estimate", lambda *_: truth)
    found = register(fixed, turned, start="network")
    assert apart(found.matrix, truth) < 0.1 * VOXEL and not found.alignment.searched


@pytest.mark.parametrize(
    "contrast", [lambda values: 0.1 + 0.9 * values**2, lambda values: 1.1 - values]
)
def test_any_contrast_is_aligned(fixed, contrast):
    result = register(fixed, seen(TRUTH, contrast=contrast))
    assert apart(result.matrix, TRUTH) < 0.15 * VOXEL
    assert result.quality.status == "ok"


@pytest.mark.parametrize(("dof", "scale"), [("rigid", 1.0), ("similarity", 1.07)])
def test_with_fewer_degrees_of_freedom(fixed, dof, scale):
    truth = pose(SMALL, [scale] * 3)
    result = register(fixed, seen(truth), dof=dof)
    assert apart(result.matrix, truth) < 0.15 * VOXEL
    linear = result.matrix[:3, :3]
    square = linear.T @ linear
    assert np.abs(square - np.trace(square) / 3 * np.eye(3)).max() < 1e-5
    if dof == "rigid":
        assert np.abs(square - np.eye(3)).max() < 1e-5


def test_a_rigid_answer_between_two_sizes(fixed):
    """Better than the headers' place, whose outlines differ a little less."""
    turn = Rotation.from_euler("xyz", [5, -3, 4], degrees=True)
    result = register(fixed, seen(pose(turn, [0.85] * 3, (3, -2, 4))), dof="rigid")
    assert result.matrix[:3, :3] == pytest.approx(turn.as_matrix(), abs=0.02)


def test_swapped_images_give_the_inverse(fixed, result):
    back = register(seen(TRUTH), fixed)
    assert apart(back.matrix @ result.matrix, np.eye(4)) < 1e-3  # mm


def test_from_the_headers_alone(fixed, result):
    same = register(fixed, seen(TRUTH), start="identity")
    assert apart(same.matrix, result.matrix) < 0.05 * VOXEL


def test_the_order_of_a_files_axes_does_not_matter(fixed, result):
    # test_levels checks the cubes of all 48 orders, and all else follows from these.
    for axes, flips in ORDERS[5::24]:
        again = register(fixed, reordered(*seen(TRUTH), axes, flips))
        assert apart(again.matrix, result.matrix) < 1e-4, (axes, flips)


@pytest.mark.parametrize("seed", [0, 1])  # turned by 162° and 72°
def test_any_orientation_is_recovered(fixed, seed):
    truth = pose(Rotation.random(rng=np.random.default_rng(seed)))
    result = register(fixed, seen(truth))
    assert apart(result.matrix, truth) < 0.15 * VOXEL
    # Had the header been wrong, left and right might be exchanged.
    (reason,) = result.quality.reasons
    assert result.quality.status == "check" and "left and right" in reason


def test_a_header_with_the_axes_in_a_wrong_order(fixed):
    data, placed = reordered(*seen(TRUTH), (2, 0, 1), (False,) * 3)
    wrong = np.diag([VOXEL, VOXEL, VOXEL, 1])
    result = register(fixed, (data, wrong))
    truth = wrong @ np.linalg.inv(placed) @ TRUTH
    assert apart(result.matrix, truth) < 0.15 * VOXEL


def test_a_mirrored_head_gets_no_mirroring_matrix(fixed):
    data, affine = seen(TRUTH)
    result = register(fixed, (np.ascontiguousarray(data[::-1]), affine))
    assert np.linalg.det(result.matrix[:3, :3]) > 0
    assert result.alignment.score < 0.3 and result.after.correlation < 0.6
    assert result.quality.status == "check"
    assert "the mirror image of the moving image fits better" in " ".join(
        result.quality.reasons
    )


def test_two_equally_good_orientations_are_reported():
    half = np.diag([-1.0, -1, 1, 1])
    shape, affine = heads.grid(46, VOXEL)
    both = heads.head(shape, affine) + heads.head(shape, affine, half)
    quarter = pose(Rotation.from_euler("z", 90, degrees=True), (1, 1, 1), (0, 0, 0))
    other = heads.head(shape, affine, quarter) + heads.head(
        shape, affine, quarter @ half
    )
    result = register((both, affine), (other, affine))
    assert min(apart(result.matrix, q) for q in (quarter, quarter @ half)) < 0.2 * VOXEL
    assert result.quality.status == "check"
    assert "another orientation" in result.quality.reasons[0]


def test_voxels_outside_a_mask_have_no_influence(fixed):
    data, affine = seen(TRUTH)
    index = np.moveaxis(np.indices(data.shape), 0, -1)
    at = index @ affine[:3, :3].T + affine[:3, 3]
    lesion = np.linalg.norm(at - [30, 30, 10], axis=-1) < 22
    hurt = np.where(lesion & (data > 0), np.roll(data, 3, axis=0), data)
    mask = np.linalg.norm(at - [30, 30, 10], axis=-1) > 30
    result = register(fixed, (hurt, affine), moving_mask=mask)
    assert apart(result.matrix, TRUTH) < 0.15 * VOXEL
    healthy = register(fixed, (data, affine), moving_mask=mask)
    assert apart(result.matrix, healthy.matrix) < 0.02


def test_equal_inputs_give_equal_bits(fixed, result):
    again = register(fixed, seen(TRUTH))
    assert again.matrix.tobytes() == result.matrix.tobytes()
    assert again.after == result.after


def test_the_measures(fixed):
    image = segment_foreground(*fixed, name="it")
    pair = levels.build_pair(image, image)
    same = similarity_metrics.measure(pair, np.eye(4))
    assert same.ntg < 0.01 and same.correlation > 0.98 and same.overlap > 0.9
    far = np.eye(4)
    far[:3, 3] = 12, -10, 8
    other = similarity_metrics.measure(pair, far)
    assert other.ntg > same.ntg + 0.2 and other.overlap < same.overlap
    assert other.correlation < same.correlation - 0.2
    away = np.eye(4)
    away[0, 3] = 1000
    nothing = similarity_metrics.measure(pair, away)
    assert nothing.overlap == 0 and nothing.correlation == pytest.approx(0, abs=1e-6)


def test_overlap_counts_within_the_masks_only(fixed):
    data, affine = fixed
    index = np.indices(data.shape)[0]
    skull = np.where((data == 0) & (index > 6) & (index < 40), 0.5, data)
    skull = skull.astype(np.float32)
    brain = segment_foreground(data, affine, name="it")
    head = segment_foreground(skull, affine, mask=data > 0, name="it")
    alone = segment_foreground(data, affine, mask=np.ones(data.shape, bool), name="it")
    turn = pose(Rotation.from_euler("z", 20, degrees=True), (1, 1, 1), (25, 0, 4))
    plain = levels.build_pair(brain, brain)
    whole = similarity_metrics.measure(levels.build_pair(brain, alone), turn).overlap
    assert whole == similarity_metrics.measure(plain, turn).overlap, (
        "a mask of all is none"
    )
    for pair in (levels.build_pair(brain, head), levels.build_pair(head, brain)):
        assert similarity_metrics.measure(pair, np.eye(4)).overlap > 0.87
        assert similarity_metrics.measure(pair, turn).overlap < 0.85
    unmasked = segment_foreground(skull, affine, name="it")
    assert (
        similarity_metrics.measure(
            levels.build_pair(brain, unmasked), np.eye(4)
        ).overlap
        < 0.6
    )


def test_starts_are_spread_around_the_start():
    begin = np.eye(3, 4)
    starts = search._perturb(begin, 0, 8.0)
    assert (starts[0] == begin).all() and len({s.tobytes() for s in starts}) == 12
    assert np.allclose(
        starts[:, :, :3] @ starts[:, :, :3].transpose(0, 2, 1), np.eye(3)
    )
    assert (starts == search._perturb(begin, 0, 8.0)).all()


@pytest.mark.parametrize("contrast", ["gamma 1", "inverted"])
def test_a_real_brain_moved_by_a_known_affine(real_data, contrast):
    case = cases.known_affine(1, contrast)
    result = register(case.fixed, case.moving)
    assert case.measure(result.matrix) < 0.1
    assert result.quality.status == "ok"


def test_a_person_scanned_twice(real_data):
    one, other = (scans.oasis(name).image for name in ("1003", "1023"))
    result = register(one, other)
    assert result.quality.status == "ok" and result.after.correlation > 0.8
    assert result.components.scale == pytest.approx([1, 1, 1], abs=0.01)


@pytest.fixture(scope="module")
def coarse_brain(real_data):
    """A real brain at 2 mm, with a sharp border."""
    scan = scans.person(2)
    brain = cases.resample_coarser(scan.image, 2.0)
    mask = scans.image(scan.mask.astype(np.float32), scan.image.affine)
    inside = cases.resample_coarser(mask, 2.0).data >= 0.5
    return brain._replace(data=brain.data * inside)


def moved_linearly(image, truth):
    """The brain after interpolation, which widens its dark border by half a voxel."""
    data = resample(image.data, image.affine, np.linalg.inv(truth), image.grid)
    return data, image.affine


def brain_points(image):
    return np.argwhere(image.data > 0) @ image.affine[:3, :3].T + image.affine[:3, 3]


def mean_error(matrix, truth, at):
    off = matrix - truth
    return np.linalg.norm(at @ off[:3, :3].T + off[:3, 3], axis=1).mean()


def test_interpolation_does_not_change_the_size_of_a_brain(coarse_brain):
    at = brain_points(coarse_brain)
    turn = Rotation.from_euler("xyz", [8, -5, 12], degrees=True).as_matrix()
    linear = turn @ np.diag([1.05, 0.97, 1.03])
    truth = cases.affine_about(at.mean(0), linear, [6.0, -9, 4])
    moving = moved_linearly(coarse_brain, truth)
    result = register(coarse_brain, moving)
    assert mean_error(result.matrix, truth, at) < 0.05
    assert result.quality.status == "ok"
    back = register(moving, coarse_brain)
    assert mean_error(back.matrix @ result.matrix, np.eye(4), at) < 1e-3


def smoothed(data, affine):
    return ndimage.gaussian_filter(data, 4 / 2.355 / 2), affine


def with_faint_noise(data, affine):
    """Noise of a millionth in half of the background."""
    random = np.random.default_rng(0)
    half = (data == 0) & (np.arange(len(data))[:, None, None] < len(data) // 2)
    return np.where(half, 1e-6 * random.random(data.shape), data), affine


def ringing(image, truth):
    """The brain after cubic splines, which ring far into the background."""
    wide = 16
    affine = image.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, wide)
    matrix = np.linalg.inv(truth @ image.affine) @ affine
    data = ndimage.affine_transform(
        image.data.astype(np.float64),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=tuple(np.add(image.data.shape, 2 * wide)),
        order=3,
    ).astype(np.float32)
    assert np.mean(data != 0) > 1.2 * np.mean(data > 0.1)
    return data, affine


@pytest.mark.parametrize(
    ("move", "most"),
    [
        (lambda image, truth: smoothed(*moved_linearly(image, truth)), (0.23, 0.41)),
        (ringing, (0.08, 0.15)),
        (lambda *pair: with_faint_noise(*moved_linearly(*pair)), (0.05, 0.1)),
    ],
    ids=["smoothed", "ringing", "faint noise"],
)
def test_what_is_around_a_brain_does_not_bias_the_matrix(coarse_brain, move, most):
    """Nothing depends on a background of exact zeros, either way round."""
    at = brain_points(coarse_brain)
    turn = Rotation.from_euler("xyz", [-7, 5, 9], degrees=True).as_matrix()
    linear = turn @ np.diag([0.96, 1.04, 1.02])
    truth = cases.affine_about(at.mean(0), linear, [-5.0, 8, 3])
    moving = move(coarse_brain, truth)
    result = register(coarse_brain, moving)
    off = (result.matrix - truth)[:3]
    distances = np.linalg.norm(at @ off[:, :3].T + off[:, 3], axis=1)
    assert distances.mean() < most[0] and distances.max() < most[1]
    assert result.quality.status == "ok"
    back = register(moving, coarse_brain)
    assert mean_error(back.matrix @ result.matrix, np.eye(4), at) < 1e-3


def painted_head(brain):
    """Fluid, skull and scalp around a brain, and a neck; the brain's mask with it."""
    wide = 24
    data, affine = np.pad(brain.data, wide), brain.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, wide)
    inside = data > 0
    around = ndimage.distance_transform_edt(~inside, brain.grid.voxel_sizes)
    for low, high, value in ((0, 4, 0.12), (4, 10, 0.04), (10, 18, 0.7)):
        data[(around > low) & (around <= high)] = value
    world = np.moveaxis(np.indices(data.shape), 0, -1) @ affine[:3, :3].T
    offset = world + affine[:3, 3] - brain_points(brain).mean(axis=0)
    across = np.linalg.norm(offset[..., :2] + [0, 10], axis=-1)
    neck = (across < 50) & (offset[..., 2] < -35) & (around > 6) & (data < 0.3)
    data[neck] = 0.45
    return scans.image(data, affine), scans.image(inside.astype(np.float32), affine)


def as_acquired(head, deviation, dtype, seed):
    """A field of view with Rician noise in whole numbers, and zeros around it."""
    noise = np.random.default_rng(seed).normal(0, deviation, (2, *head.data.shape))
    data = np.rint(np.hypot(250 * head.data + noise[0], noise[1])).clip(0, 255)
    seen = np.zeros_like(data)
    field = tuple(slice(8 + 4 * seed, size - 10) for size in data.shape)
    seen[field] = data[field]
    return seen.astype(dtype), head.affine


@pytest.fixture(scope="module")
def two_heads(coarse_brain):
    """A painted head and the mask of its brain, both also moved; and the truth."""
    both = painted_head(coarse_brain)
    turn = Rotation.from_euler("xyz", [8, -5, 12], degrees=True).as_matrix()
    linear = turn @ np.diag([1.05, 0.97, 1.03])
    middle = brain_points(coarse_brain).mean(0)
    truth = cases.affine_about(middle, linear, [6.0, -9, 4])
    return both, [scans.image(*moved_linearly(image, truth)) for image in both], truth


@pytest.mark.parametrize(
    ("noise", "masked", "most"),
    [
        ((25.0, np.int16), False, (0.12, 0.25)),
        ((25.0, np.int16), True, (0.12, 0.25)),
        ((0.6, np.uint8), False, (0.04, 0.08)),
    ],
    ids=["padded", "padded, masks", "8 bits"],
)
def test_a_whole_head_in_a_padded_field_of_view(
    coarse_brain, two_heads, noise, masked, most
):
    (head, inside), (moved, moved_inside), truth = two_heads
    at = brain_points(coarse_brain)
    masks = {}
    if masked:
        masks["fixed_mask"] = (inside.data, inside.affine)
        masks["moving_mask"] = (np.rint(moved_inside.data), moved_inside.affine)
    result = register(
        as_acquired(head, *noise, 0), as_acquired(moved, *noise, 1), **masks
    )
    off = (result.matrix - truth)[:3]
    distances = np.linalg.norm(at @ off[:, :3].T + off[:, 3], axis=1)
    assert distances.mean() < most[0] and distances.max() < most[1]
    assert result.quality.status == "ok"


@pytest.mark.parametrize("change", ["gamma 2", "inverted", "stripped 4 mm tighter"])
def test_contrast_and_stripping_do_not_bias_the_matrix(coarse_brain, change):
    """All three move the outline, by up to 4 mm."""
    at = brain_points(coarse_brain)
    brain = coarse_brain.data > 0
    if change in contrasts.CONTRASTS:
        data = contrasts.change(coarse_brain.data, brain, change)
        changed = coarse_brain._replace(data=data)
    else:
        changed = damages.apply(damages.SCAN_DAMAGES[change], coarse_brain, brain, 0)
    turn = Rotation.from_euler("xyz", [-7, 5, 9], degrees=True).as_matrix()
    linear = turn @ np.diag([0.96, 1.04, 1.02])
    truth = cases.affine_about(at.mean(0), linear, [-5.0, 8, 3])
    result = register(coarse_brain, moved_linearly(changed, truth))
    assert mean_error(result.matrix, truth, at) < 0.08
    assert result.quality.status == "ok"


@pytest.mark.parametrize("slices", [12, 6])
def test_a_slab_of_echo_planar_slices_is_no_failure(coarse_brain, slices):
    """Slices of 3.5 mm in another contrast, rigidly: right, and not called failed."""
    at = brain_points(coarse_brain)
    turn = Rotation.from_euler("xyz", [8, -5, 12], degrees=True).as_matrix()
    truth = cases.affine_about(at.mean(0), turn, [6.0, -9, 4])
    brain = coarse_brain.data > 0
    data = contrasts.change(coarse_brain.data, brain, "T2-like")
    matrix = np.diag([3.0, 3, 0.5, 1])
    shape = 72, 84, 7 * slices
    centre = truth[:3] @ [*at.mean(0), 1]
    matrix[:3, 3] = centre - matrix[:3, :3] @ np.array(shape) / 2
    fine = resample(
        data, coarse_brain.affine, np.linalg.inv(truth), Grid(shape, matrix)
    )
    slab = fine.reshape(72, 84, slices, 7).mean(-1)
    matrix = matrix @ np.diag([1, 1, 7, 1])
    matrix[2, 3] += 1.5
    result = register(coarse_brain, (slab, matrix), dof="rigid")
    height = at @ truth[2, :3] + truth[2, 3] - matrix[2, 3]  # above the first slice
    shown = (height > 0) & (height < 3.5 * (slices - 1))
    assert mean_error(result.matrix, truth, at[shown]) < 0.2
    assert result.quality.status in ("ok", "check")


def test_an_image_on_itself_is_the_identity(coarse_brain):
    assert (register(coarse_brain, coarse_brain).matrix == np.eye(4)).all()


def test_two_people_agree_from_several_starts(coarse_brain):
    """Starts that are turned by 8 to 15° and shifted by 9 to 20 mm from the answer."""
    other = cases.resample_coarser(scans.person(5).image, 2.0)
    at = brain_points(coarse_brain)
    answer = register(coarse_brain, other).matrix
    back = register(other, coarse_brain).matrix
    assert mean_error(back @ answer, np.eye(4), at) < 1e-3
    for angles, shift in (([9, -12, 4], [12, -16, 0]), ([-5, 4, 7], [-4, 5, 7])):
        turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        start = answer @ cases.affine_about(at.mean(0), turn, np.array(shift, float))
        other_answer = register(coarse_brain, other, start=start).matrix
        assert mean_error(other_answer, answer, at) < 0.3  # mm


def test_large_voxels_do_not_make_two_people_one(coarse_brain):
    """Without details their interiors are alike as those of one person are."""
    other = cases.resample_coarser(scans.person(5).image, 2.0)
    answer = register(coarse_brain, other).matrix
    large = [cases.resample_coarser(image, 6.0) for image in (coarse_brain, other)]
    result = register(*large)
    assert mean_error(result.matrix, answer, brain_points(coarse_brain)) < 1.5
    assert result.quality.status == "ok"


def noise(shape):
    return np.random.default_rng(0).normal(0, 0.1, shape)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: ndimage.gaussian_filter(data, 4 / 2.355 / 2),
        lambda data: np.where(data > 0, 1.1 - data, 0),
        lambda data: (
            data + (data > 0) * np.random.default_rng(0).normal(0, 0.1, data.shape)
        ),
    ],
    ids=["smoothed", "inverted", "noisy"],
)
def test_a_changed_copy_stays_in_place(coarse_brain, change):
    moving = change(coarse_brain.data).astype(np.float32), coarse_brain.affine
    result = register(coarse_brain, moving)
    at = brain_points(coarse_brain)
    assert mean_error(result.matrix, np.eye(4), at) < 0.08
    assert result.quality.status == "ok"
    # Never worse than the start, which was perfect.
    assert result.after.correlation > result.before.correlation - 0.005
    assert result.after.ntg < result.before.ntg + 0.01


@pytest.mark.parametrize(
    "names",
    [
        ("lhdata/sub-01_T1w", "lhdata/sub-01_inplaneT2"),
        ("open_ms/patient01_T1W", "open_ms/patient01_FLAIR"),
    ],
)
def test_two_contrasts_of_a_whole_head_agree_from_two_starts(whole_heads, names):
    """T1 and T2 or FLAIR of one session; starts 15° and 20 mm away."""
    one, other = (whole_heads / f"{name}.nii.gz" for name in names)
    about = np.array([0.0, 10, 20])
    answers = []
    for axis, shift in (([0.6, 0, 0.8], [12, -16, 0]), ([0, -0.8, 0.6], [0, 16, -12])):
        turn = Rotation.from_rotvec(np.radians(15) * np.array(axis)).as_matrix()
        start = cases.affine_about(about, turn, shift)
        result = register(one, other, dof="rigid", start=start)
        assert result.quality.status != "failed"
        answers.append(result.matrix)
    assert apart(*answers) < 0.1  # mm


def test_several_starts_are_aligned_as_each_alone(result):
    starts = search._perturb(result.pair.to_voxels(np.eye(4), 24), 0, 8.0)
    together = refinement.fit(result.pair, 24, starts, dof="affine")
    for number in (0, 4, 11):
        alone = refinement.fit(result.pair, 24, starts[number], dof="affine")
        np.testing.assert_allclose(together.matrix[number], alone.matrix, atol=1e-4)
        assert together.steps[number] == alone.steps


def test_headers_that_place_objects_apart_do_not_win(fixed, result):
    """Without overlap no outlines differ, which must not count as a good score."""
    data, affine = seen(TRUTH)
    far = affine.copy()
    far[:3, 3] += 400
    moved = register(fixed, (data, far))
    shift = np.eye(4)
    shift[:3, 3] = 400
    assert apart(moved.matrix, shift @ result.matrix) < 0.2 * VOXEL
    none = refinement.fit(
        moved.pair, 48, moved.pair.to_voxels(np.eye(4), 48), dof="affine", steps=0
    )
    assert search.rate(none) == -np.inf
