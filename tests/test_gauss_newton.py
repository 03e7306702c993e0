"""The Gauss-Newton steps against a slow reference, and their laws."""

import functools

import jax
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from helpers import images
from mdvit_jax.registration import DOF, gauss_newton, normalisation, sampling
from mdvit_jax.registration.gauss_newton import Level
from oracle import heads, local_correlation

START = np.array(
    [
        [1.0313, 0.0617, -0.0209, 0.3119],  # no voxel lands on the edge of another
        [-0.0507, 0.9731, 0.0411, -0.2311],
        [0.0103, -0.0309, 1.0229, 0.1703],
    ]
)
WEIGHT = 0.7
COVERAGE = 0.3  # objects of the tests are small

pytestmark = pytest.mark.usefixtures("quick_compilation")


@functools.cache
def program(dof):
    return jax.jit(functools.partial(gauss_newton.align, dof=dof))


def align(
    fixed,
    moving,
    start,
    *,
    coverage=0.0,
    steps,
    dof="affine",
    tolerance=0.0,
    stretched=False,
):
    fixed, moving = (
        Level(*(np.asarray(v, np.float32) for v in level)) for level in (fixed, moving)
    )
    start = np.asarray(start, np.float32)
    points = np.arange(fixed.image.size, dtype=np.int32)  # all voxels take part
    settings = WEIGHT, coverage, steps, tolerance, stretched
    result = program(dof)(fixed, moving, (points,) * 2, start, *settings)
    return jax.tree.map(np.asarray, result)


def level(seed, size=11):
    """An asymmetric object of noise, with weights below 1 and 0 in places."""
    x, y, z = (np.indices((size,) * 3) - (size - 1) / 2) / (size / 2)
    inside = np.clip(6 * (0.72 - np.sqrt(x**2 + y**2 * 1.2 + z**2 + 0.4 * x * y)), 0, 1)
    image = images.smooth(seed, (size,) * 3, 1.0).astype(float)
    weight = np.ones((size,) * 3)
    weight[:3, :5] = 0
    return Level(image, inside, weight)


@pytest.fixture(scope="module")
def pair():
    fixed, moving = level(0), level(1)
    weight = fixed.weight.copy()
    weight[:, 7:] = 0.4
    mixed = 0.5 * moving.image + 0.5 * fixed.image
    return fixed._replace(weight=weight), moving._replace(image=mixed)


def test_the_measures_are_those_of_the_reference(pair):
    result = align(*pair, START, coverage=COVERAGE, steps=0)
    there = local_correlation.terms(*pair, START, WEIGHT, COVERAGE)
    inverse = local_correlation.inverted(START)
    back = local_correlation.terms(*pair[::-1], inverse, WEIGHT, COVERAGE)
    assert result.steps == 0 and (result.matrix == START.astype(np.float32)).all()
    correlation = (there.correlation + back.correlation) / 2
    assert 0.05 < correlation < 0.95 and 0.05 < there.overlap < 0.95
    assert result.correlation == pytest.approx(correlation, abs=1e-5)
    outline = (there.outline + back.outline) / 2
    assert result.outline == pytest.approx(outline, abs=1e-5)
    overlap = max(there.overlap, back.overlap)
    assert result.overlap == pytest.approx(overlap, abs=1e-5)


def test_between_voxels_a_cube_is_its_cubic_spline():
    volume = images.smooth(3, (20, 20, 20), 0.5).astype(np.float32)
    random = np.random.default_rng(0)
    at = random.uniform(-5, 5, (3, 200))  # away from the borders, where it ends
    at[:, :20] = np.round(at[:, :20]) + 0.5  # on voxels
    x = np.concatenate([at, np.ones((1, 200))]).astype(np.float32)
    result = np.asarray(jax.jit(sampling.sample_cubic)(volume, x))
    expected = ndimage.map_coordinates(volume, x[:3] + 9.5, order=3)
    assert np.abs(result - expected).max() < 2e-3 * np.ptp(volume)
    i, j, k = np.round(x[:3, :20] + 9.5).astype(int)
    assert np.abs(result[:20] - volume[i, j, k]).max() < 2e-3 * np.ptp(volume)


@pytest.mark.parametrize("dof", DOF)
def test_a_step_is_that_of_the_reference(pair, dof):
    size = len(pair[0].image)
    generators = np.asarray(gauss_newton.generators(dof), float)
    free = local_correlation.step(*pair, START, WEIGHT, COVERAGE, generators)
    length = size / 4 * np.linalg.norm(free)
    longest = gauss_newton._LONGEST * size / 4
    free = free * min(1, longest / (length + 1e-3))
    expected = local_correlation.moved(START, free, generators, size / 4)
    result = align(*pair, START, coverage=COVERAGE, steps=1, dof=dof).matrix
    if dof != "affine":  # of which the reference is the first order
        turn = np.tensordot(free[:3], generators[:3], 1)
        linear = Rotation.from_rotvec([turn[2, 1], turn[0, 2], turn[1, 0]]).as_matrix()
        grown = 1 + free[3] if dof == "similarity" else 1
        expected[:, :3] = grown * linear @ START[:, :3]
    assert np.abs(expected - START).max() > 0.01, "it must go somewhere"
    assert np.abs(result - expected).max() < 1e-3


@pytest.fixture(scope="module")
def moved():
    """A head at 24³ voxels of 8 mm, the same moved, and the matrix between them."""
    truth = np.eye(4)
    turn = Rotation.from_euler("xyz", [6, -4, 8], degrees=True).as_matrix()
    truth[:3, :3] = turn @ np.diag([1.05, 0.97, 1.0])
    truth[:3, 3] = 5, -6, 3
    shape, affine = heads.grid(24, 8.0)
    fixed, moving = (heads.head(shape, affine, pose) for pose in (None, truth))
    matrix = truth[:3].copy()
    matrix[:, 3] /= 8
    return whole(fixed), whole(moving), matrix


def whole(image):
    inside = np.clip(image / 0.1, 0, 1)
    return Level(ndimage.gaussian_filter(image, 0.5), inside, np.ones_like(image))


def test_steps_go_down_to_the_truth_and_stay_there(moved):
    fixed, moving, truth = moved
    start = np.eye(3, 4)
    fits = [align(fixed, moving, start, steps=n) for n in range(4)]
    loss = [1 - f.correlation + f.outline for f in fits]
    assert (np.diff(loss) < 0).all()
    end = align(fixed, moving, start, steps=25, tolerance=0.002)
    assert end.steps < 25 and end.correlation > 0.9
    points = heads.points() / 8
    assert apart(end.matrix, truth, points) < 0.2  # voxels of 8 mm
    again = align(fixed, moving, truth, steps=1)
    assert apart(again.matrix, truth, points) < 0.2


def test_extrapolated_steps_reach_what_those_of_gauss_newton_creep_to():
    """Where a step of Gauss-Newton goes 5 to 90 % of the way, by direction."""
    random = np.random.default_rng(0)
    turn = np.linalg.qr(random.standard_normal((4, 4)))[0]
    goes = (turn * [0.05, 0.1, 0.3, 0.9] @ turn.T).astype(np.float32)
    target = np.array([0.02, -0.03, 0.01, 0.02], np.float32)

    shapes = 4, 4, (gauss_newton._MEMORY, 4), (gauss_newton._MEMORY, 4)
    history = gauss_newton.History(*map(np.zeros, shapes))
    history = jax.tree.map(np.float32, history)
    at = np.zeros(4, np.float32)
    for _ in range(12):
        history = gauss_newton.extrapolate(goes @ (target - at), history)
        at = at + np.asarray(history.made)
    left = np.linalg.matrix_power(np.eye(4) - goes, 12) @ target
    assert np.linalg.norm(left) > 0.2 * np.linalg.norm(target)
    assert np.linalg.norm(target - at) < 0.02 * np.linalg.norm(left)


def test_eight_stretched_and_plain_steps_do_what_sixteen_plain_ones_do():
    def left(share):
        return ((1 - gauss_newton._STRETCH * share) * (1 - share)) ** 4

    shares = np.linspace(0, 1, 101)
    assert np.abs(left(shares) - (1 - shares) ** 16).max() < 0.04


def test_plain_steps_are_stretched_in_turn(moved):
    fixed, moving, truth = moved

    def end(start, steps, stretched):
        settings = {"steps": steps, "stretched": stretched, "coverage": COVERAGE}
        return align(fixed, moving, start, **settings).matrix

    start = truth + 0.01 * np.eye(3, 4)
    first = end(start, 1, False)  # nothing is there yet to extrapolate from
    change = first[:, :3] @ np.linalg.inv(start[:, :3]) - np.eye(3)
    linear = (np.eye(3) + 3 * change) @ start[:, :3]
    shift = start[:, 3:] + 3 * (first - start)[:, 3:]
    once = end(start, 1, True)
    assert np.allclose(once, np.hstack([linear, shift]), atol=2e-5)
    assert np.allclose(end(start, 2, True), end(once, 1, False), atol=2e-5)


def test_an_image_on_itself_does_not_move(moved):
    same = np.eye(3, 4)
    result = align(moved[0], moved[0], same, steps=1)
    assert result.correlation == pytest.approx(1, abs=5e-3) and result.outline < 0.01
    assert np.abs(result.matrix - same).max() < 2e-3


def apart(one, other, points):
    offsets = points @ (one - other)[:, :3].T + (one - other)[:, 3]
    return np.linalg.norm(offsets, axis=1).max()


@pytest.mark.parametrize("dof", ["rigid", "similarity"])
def test_the_linear_part_stays_in_the_group_of_dof(pair, dof):
    start = np.eye(3, 4)
    start[:, :3] = Rotation.from_euler("xyz", [12, -8, 16], degrees=True).as_matrix()
    result = align(*pair, start, coverage=COVERAGE, steps=12, dof=dof).matrix
    linear = result[:, :3].astype(float)
    square = linear.T @ linear
    scale = np.trace(square) / 3
    assert np.abs(square - scale * np.eye(3)).max() < 1e-5
    assert np.abs(linear - start[:, :3]).max() > 0.05
    assert (abs(scale - 1) < 1e-5) == (dof == "rigid")


def test_swapped_images_give_the_inverse(moved):
    fixed, moving, _ = moved
    start = np.eye(3, 4)
    there = align(fixed, moving, start, steps=25, tolerance=1e-4).matrix
    back = align(moving, fixed, start, steps=25, tolerance=1e-4).matrix
    inverse = local_correlation.inverted(there)
    assert apart(back, inverse, heads.points() / 8) < 2e-3


def test_border_voxels_do_not_count_where_neighbourhoods_must_be_covered(moved):
    fixed = moved[0]
    inside = fixed.inside > 0.5
    border = inside & ~ndimage.binary_erosion(inside)
    changed = fixed._replace(image=np.where(border, 3.0, fixed.image))
    covered = [normalisation.normalise(f, 0.9) for f in (fixed, changed)]
    assert 0.05 * inside.sum() < covered[0].counted.sum() < 0.5 * inside.sum()
    assert (np.asarray(covered[0].image) == covered[1].image).all()
    whole = [normalisation.normalise(f, 0.0) for f in (fixed, changed)]
    assert (np.asarray(whole[0].counted) == inside).all()
    assert np.abs(whole[0].image - whole[1].image).max() > 0.5


def test_an_inverted_contrast_changes_nothing(moved):
    fixed, moving, _ = moved
    inverted = moving._replace(image=1 - moving.image)
    result = [align(fixed, m, np.eye(3, 4), steps=10) for m in (moving, inverted)]
    assert np.abs(result[0].matrix - result[1].matrix).max() < 2e-4
    assert result[0].correlation == pytest.approx(result[1].correlation, abs=1e-4)


def test_equal_inputs_give_equal_bits(moved):
    one, other = (align(*moved[:2], np.eye(3, 4), steps=6) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert a.tobytes() == b.tobytes()
