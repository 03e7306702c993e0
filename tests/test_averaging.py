"""The mean of affines: laws that hold for whatever matrices."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mdvit_jax import errors, transforms
from mdvit_jax.transforms import averaging


def random_affine(key, *, turn=25.0, stretch=0.2):
    random = np.random.default_rng(key)
    matrix = np.eye(4)
    turned = Rotation.from_rotvec(np.radians(turn) * random.uniform(-1, 1, 3))
    matrix[:3, :3] = turned.as_matrix() @ (
        np.eye(3) + stretch * random.uniform(-1, 1, (3, 3))
    )
    matrix[:3, 3] = random.uniform(-40, 40, 3)
    return matrix


MATRICES = [random_affine(key) for key in range(5)]


def test_parts_of_the_way():
    for matrix in MATRICES:
        half = transforms.power(matrix, 0.5)
        assert np.allclose(half @ half, matrix, atol=1e-9)
        assert np.allclose(transforms.power(matrix, -1), np.linalg.inv(matrix))
        assert np.allclose(transforms.power(matrix, 0), np.eye(4))


def test_a_rigid_way_stays_rigid():
    rigid = [random_affine(key, stretch=0) for key in range(4)]
    for matrix in (transforms.power(rigid[0], 0.3), transforms.average(rigid)):
        assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)


def test_the_mean_is_in_the_middle():
    mean = transforms.average(MATRICES)
    back = np.linalg.inv(mean)
    logs = [averaging.logarithm(back @ matrix) for matrix in MATRICES]
    assert np.abs(np.mean(logs, axis=0)).max() < 1e-9
    assert np.linalg.det(mean) == pytest.approx(
        np.exp(np.mean([np.log(np.linalg.det(m)) for m in MATRICES]))
    )


def test_of_two_it_is_half_way():
    one, other = MATRICES[:2]
    half = one @ transforms.power(np.linalg.inv(one) @ other, 0.5)
    assert np.allclose(transforms.average([one, other]), half, atol=1e-8)


def test_it_favours_none_and_no_world():
    mean = transforms.average(MATRICES)
    left, right = random_affine(8), random_affine(9)
    for other, expected in (
        (MATRICES[::-1], mean),
        ([left @ matrix @ right for matrix in MATRICES], left @ mean @ right),
        ([np.linalg.inv(matrix) for matrix in MATRICES], np.linalg.inv(mean)),
    ):
        assert np.allclose(transforms.average(other), expected, atol=1e-7)


@pytest.mark.parametrize("diagonal", [(-1, -1, 1, 1), (-1, 1, 1, 1)])
def test_half_a_turn_has_no_middle(diagonal):
    with pytest.raises(errors.UserError, match="half a turn, or mirrors"):
        transforms.average([np.eye(4), np.diag(np.array(diagonal, float))])
