"""The network of the package on images in any orientation, either way round."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from configs import default
from helpers import images
from mdvit_jax import geometry, models
from mdvit_jax.data import conform, template
from mdvit_jax.geometry import turns
from mdvit_jax.models import any_orientation
from mdvit_jax.training import known_affines

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Upright; one far from all the turns; one of them.
ROTATIONS = [
    np.eye(3),
    Rotation.from_rotvec(np.deg2rad(-150) * np.array([0.6, -0.5, 0.62])).as_matrix(),
    turns.TURNS[22],
]

# Compiled whole: primitive by primitive takes ten times as long to compile.
centre_shift = jax.jit(geometry.centre_shift)
distances = jax.jit(jax.vmap(known_affines.distance_over, (None, 0, 0)))
invert = jax.jit(geometry.invert)
mean_of = jax.jit(any_orientation._mean)
scores_of = jax.jit(any_orientation._scores)


@pytest.fixture(scope="module")
def weights(quick_compilation):
    return models.pretrained("keymorph")


@pytest.fixture(scope="module")
def brain(weights):
    return conform.conform(
        *template.mni152(), size=weights.size, field_of_view=weights.field_of_view
    )


@pytest.fixture(scope="module")
def estimates(weights, brain):
    """Of the brain in each orientation, moved and a little larger, the last one as its
    negative, of itself and of nothing: the answers, those the other way round of the
    first three, and the truth.
    """

    @jax.jit
    def compute(volume):
        about = geometry.translation_matrix(geometry.centre_of_mass(volume))
        linear = jnp.float32(1.06 * np.stack(ROTATIONS))
        shift = jnp.tile(jnp.array([0.08, -0.05, 0.06]), (len(linear), 1))
        moves = geometry.compose(
            about, geometry.homogeneous(linear, shift), geometry.invert(about)
        )
        fixed = jnp.broadcast_to(volume, (5, *volume.shape))
        moved = geometry.warp_affine(fixed[:3], moves)
        negative = jnp.where(moved[2] > 0.02, 1 - moved[2], 0)
        moving = jnp.stack([*moved[:2], negative, volume, 0 * volume])
        # In one batch, as compiling takes longer than computing.
        matrices = any_orientation.estimate(
            weights.network,
            weights.params,
            jnp.concatenate([fixed, moving[:3]]),
            jnp.concatenate([moving, fixed[:3]]),
        )
        back = geometry.invert(matrices[5:])
        return fixed, moving, matrices[:5], back, geometry.invert(moves)

    return compute(jnp.asarray(brain.image))


def errors_in_mm(brain, weights, matrices, truth) -> np.ndarray:
    """Mean over the brain, of each pair."""
    apart = np.asarray(distances(jnp.asarray(brain.mask), matrices, truth))
    return apart * weights.field_of_view / 2


def test_any_orientation(weights, brain, estimates):
    fixed, moving, matrices, _, truth = estimates
    centres = centre_shift(fixed[:3], moving[:3])
    assert errors_in_mm(brain, weights, centres, truth)[1:].min() > 40
    apart = errors_in_mm(brain, weights, matrices[:3], truth)
    assert apart[:2].max() < 8
    assert apart[2] < 12, "of the negative"


def test_either_way_round(weights, brain, estimates):
    _, _, matrices, back, _ = estimates
    assert errors_in_mm(brain, weights, matrices[:3], back).max() < 0.1
    np.testing.assert_allclose(matrices[3], np.eye(4), atol=1e-5)
    assert np.isfinite(matrices[4]).all(), "of an empty image"


@pytest.fixture(scope="module")
def by_keypoints(weights):
    """Two pairs → their starts at three turns, answers and misfits."""
    config = weights.network.module.config
    answer = functools.partial(
        any_orientation._answer_by_keypoints, config, weights.params
    )

    @jax.jit
    def compute(fixed, moving):
        starts = any_orientation._starts(fixed, moving)[np.array([0, 5, 19])]
        return starts, *answer(fixed, moving, starts)

    return compute


def test_keypoints_are_looked_for_once_at_each_turn(weights, brain, by_keypoints):
    """The answers of KeyMorph, as if it were asked about every pair of images."""
    network, params = weights.network, weights.params
    fixed = jnp.stack([jnp.asarray(brain.image), jnp.asarray(brain.image)[:, ::-1]])
    moving = jnp.roll(fixed, (2, -1, 3), (1, 2, 3)) ** 2
    starts, answers, _ = by_keypoints(fixed, moving)
    ask = jax.jit(lambda a, b, start: network.apply(params, a, b, initial=start).matrix)
    for n, start in enumerate(starts):
        there = ask(fixed, moving, start)
        back = invert(ask(moving, fixed, invert(start)))
        np.testing.assert_allclose(answers[0, n], there, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(answers[1, n], back, rtol=1e-4, atol=1e-4)


def recognised(fixed, moving, answers, misfits) -> list[bool]:
    """Of each pair, whether it is taken as it is, without the turns."""
    scores = scores_of(fixed, moving, answers[:, :1])
    return any_orientation._recognise(misfits[:, :1], scores).tolist()


def test_no_turned_brain_is_recognised(estimates, by_keypoints):
    fixed, moving, matrices, *_ = estimates
    pair = fixed[:2], moving[:2]
    _, answers, misfits = by_keypoints(*pair)
    assert recognised(*pair, answers, misfits) == [True, False]
    np.testing.assert_allclose(answers[0, 0, 0], matrices[0], atol=0.05)


def test_no_thin_slab_is_recognised_turned(brain, by_keypoints):
    """Half a turn about its normal leaves a slab's keypoints where they were."""
    volume = jnp.asarray(brain.image)
    slab = jnp.zeros_like(volume).at[:, :, 15:18].set(volume[:, :, 15:18])
    pair = jnp.stack([slab, slab]), jnp.stack([slab, slab[::-1, ::-1]])
    _, answers, misfits = by_keypoints(*pair)
    assert recognised(*pair, answers, misfits) == [True, False]
    np.testing.assert_allclose(answers[0, 0, 0], np.eye(4), atol=1e-4)


def test_a_network_without_keypoints():
    """Of an MDViT the first stages, here the only one, say which turns to ask for."""
    config = default.get_config().model
    config.update(embedding=16, depth=1, patches=(3,), strides=(2,))
    network = models.create(config)
    fixed, moving = (
        jnp.asarray(np.pad(images.smooth(seed, (6, 6, 6)), 1), jnp.float32)[None]
        for seed in (0, 1)
    )
    leaves, tree = jax.tree.flatten(network.init(jax.random.key(0), fixed, moving))
    random = np.random.default_rng(0)
    params = tree.unflatten(
        [leaf + 0.02 * random.normal(size=leaf.shape) for leaf in leaves]
    )
    estimate = jax.jit(lambda *pair: any_orientation.estimate(network, params, *pair))
    there, back = estimate(fixed, moving), estimate(moving, fixed)
    assert np.abs(there - np.eye(4)).max() > 0.05
    np.testing.assert_allclose(geometry.invert(back), there, atol=1e-3)


def test_the_mean_of_matrices():
    random = np.random.default_rng(0)
    matrices = np.tile(np.eye(4, dtype=np.float32), (4, 2, 1, 1))
    matrices[..., :3, :] += random.normal(0, 0.1, (4, 2, 3, 4))
    of_inverses = mean_of(invert(matrices))
    np.testing.assert_allclose(invert(of_inverses), mean_of(matrices), atol=1e-5)
    # Of two that commute it is the geometric mean: half the turn, the root of scales.
    turn, scale = Rotation.from_rotvec([0.2, -0.1, 0.3]), np.diag([1.2, 1.0, 0.9])
    for whole, half in (
        (turn.as_matrix(), Rotation.from_rotvec([0.1, -0.05, 0.15]).as_matrix()),
        (scale, np.sqrt(scale)),
    ):
        pair = geometry.homogeneous(
            jnp.stack([jnp.eye(3), jnp.float32(whole)]), jnp.zeros((2, 3))
        )
        mean = mean_of(pair[:, None])[0, :3, :3]
        np.testing.assert_allclose(mean, half, atol=1e-5)


def test_information_against_histograms():
    """Of values in the middle of bins it is that of numpy's joint histogram."""
    random = np.random.default_rng(1)
    bins = any_orientation._BINS
    one = random.integers(0, bins, (7, 8, 9))
    other = (one + random.integers(0, 4, one.shape)) % bins
    seen = (one > 0) | (other > 0)
    joint, *_ = np.histogram2d(one[seen], other[seen], np.arange(bins + 1))
    joint /= joint.sum()

    def entropy(shares):
        return -sum(p * np.log(p) for p in shares.ravel() if p > 0)

    expected = (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint)
    values = (jnp.asarray(v, jnp.float32) / (bins - 1) for v in (one, other))
    actual = any_orientation._normalised_information(*values)
    assert float(actual) == pytest.approx(expected, rel=1e-4)


def test_a_mirror_image_is_no_answer(brain):
    """A brain is so symmetric that its mirror image would fit."""
    volume = jnp.asarray(brain.image)[None]
    mirror = np.diag(np.float32([-1, 1, 1, 1]))
    matrices = jnp.stack([jnp.eye(4), jnp.asarray(mirror)])[None, :, None]
    scores = np.asarray(scores_of(volume, volume, matrices))
    assert scores.shape == (1, 2, 1)
    assert scores[0, 0, 0] > 1 and scores[0, 1, 0] == 0
