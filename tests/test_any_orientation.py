"""The network of the package on images in any orientation, either way round."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mdvit_jax import geometry, models
from mdvit_jax.data import conform, template
from mdvit_jax.geometry import turns
from mdvit_jax.models import any_orientation
from mdvit_jax.training import known_affines

pytestmark = pytest.mark.usefixtures("quick_compilation")

HALF = 128.0  # mm, of the field of view
# Upright; one of the turns; one far from all of them.
ROTATIONS = [
    np.eye(3),
    turns.TURNS[22],
    Rotation.from_rotvec(np.deg2rad(-150) * np.array([0.6, -0.5, 0.62])).as_matrix(),
]


@pytest.fixture(scope="module")
def brain():
    weights = models.pretrained()
    return conform.conform(
        *template.mni152(), size=weights.size, field_of_view=weights.field_of_view
    )


@pytest.fixture(scope="module")
def turned(brain):
    """The brain; it in each orientation, moved and a little larger; the truth."""
    volume = jnp.asarray(brain.image)
    about = geometry.translation_matrix(geometry.centre_of_mass(volume))
    shift = jnp.array([0.08, -0.05, 0.06])
    moves = jnp.stack(
        [
            geometry.compose(
                about,
                geometry.homogeneous(jnp.float32(1.06 * rotation), shift),
                geometry.invert(about),
            )
            for rotation in ROTATIONS
        ]
    )
    fixed = jnp.broadcast_to(volume, (len(moves), *volume.shape))
    return fixed, geometry.warp_affine(fixed, moves), geometry.invert(moves)


@pytest.fixture(scope="module")
def estimate():
    weights = models.pretrained()
    return jax.jit(
        lambda fixed, moving: any_orientation.estimate(
            weights.network, weights.params, fixed, moving
        )
    )


def errors_in_mm(brain, matrices, truth) -> np.ndarray:
    """Mean over the brain, of each pair."""
    over = jax.vmap(known_affines.distance_over, (None, 0, 0))
    return HALF * np.asarray(over(jnp.asarray(brain.mask), matrices, truth))


def test_any_orientation_either_way_round(brain, turned, estimate):
    fixed, moving, truth = turned
    centres = errors_in_mm(brain, geometry.centre_shift(fixed, moving), truth)
    assert centres[1:].min() > 40
    matrices = estimate(fixed, moving)
    assert errors_in_mm(brain, matrices, truth).max() < 8
    back = geometry.invert(estimate(moving, fixed))
    assert errors_in_mm(brain, matrices, back).max() < 0.1


def test_any_orientation_of_the_negative(brain, turned, estimate):
    fixed, moving, truth = turned
    negative = jnp.where(moving > 0.02, 1 - moving, 0)
    assert errors_in_mm(brain, estimate(fixed, negative), truth).max() < 12


def test_the_mean_of_matrices():
    random = np.random.default_rng(0)
    matrices = np.tile(np.eye(4, dtype=np.float32), (4, 2, 1, 1))
    matrices[..., :3, :] += random.normal(0, 0.1, (4, 2, 3, 4))
    mean = any_orientation._mean(jnp.asarray(matrices))
    of_inverses = any_orientation._mean(geometry.invert(jnp.asarray(matrices)))
    np.testing.assert_allclose(geometry.invert(of_inverses), mean, atol=1e-5)
    # Of two that commute it is the geometric mean: half the turn, the root of scales.
    turn, scale = Rotation.from_rotvec([0.2, -0.1, 0.3]), np.diag([1.2, 1.0, 0.9])
    for whole, half in (
        (turn.as_matrix(), Rotation.from_rotvec([0.1, -0.05, 0.15]).as_matrix()),
        (scale, np.sqrt(scale)),
    ):
        pair = geometry.homogeneous(
            jnp.stack([jnp.eye(3), jnp.float32(whole)]), jnp.zeros((2, 3))
        )
        mean = any_orientation._mean(pair[:, None])[0, :3, :3]
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
