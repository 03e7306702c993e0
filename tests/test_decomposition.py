"""A matrix into parts and back, against SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg
from scipy.spatial.transform import Rotation

from mdvit_jax.registration import rotations
from mdvit_jax.transforms import Components, decompose
from test_transforms import affine

CENTRE = np.array([12.0, -30.0, 45.0])


def random_matrix(seed):
    """A random matrix about `CENTRE`, with its rotation and scales."""
    random = np.random.default_rng(seed)
    turn = Rotation.random(rng=random)
    scale, shear = random.uniform(0.5, 2, 3), random.uniform(-0.5, 0.5, 3)
    upper = np.eye(3)
    upper[0, 1], upper[0, 2], upper[1, 2] = shear
    shift = random.uniform(-50, 50, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = turn.as_matrix() @ np.diag(scale) @ upper
    matrix[:3, 3] = CENTRE + shift - matrix[:3, :3] @ CENTRE
    return matrix, turn, scale, shear, shift


@given(st.integers(0, 2**32 - 1))
def test_the_parts_of_a_composed_matrix_are_recovered(seed):
    matrix, turn, scale, shear, shift = random_matrix(seed)
    parts = decompose(matrix, CENTRE)
    assert np.allclose(parts.scale, scale) and np.allclose(parts.shear, shear)
    assert np.allclose(parts.translation, shift, atol=1e-9)
    assert parts.angle == pytest.approx(np.degrees(turn.magnitude()), abs=1e-5)
    again = Rotation.from_euler("xyz", parts.rotation, degrees=True)
    assert (again.inv() * turn).magnitude() < 1e-6
    assert np.allclose(parts.matrix(CENTRE), matrix, atol=1e-6)


def test_the_rotation_is_about_x_then_y_then_z():
    x, y, z = (
        Rotation.from_euler(axis, angle, degrees=True).as_matrix()
        for axis, angle in (("x", 10), ("y", -20), ("z", 30))
    )
    matrix = np.eye(4)
    matrix[:3, :3] = z @ y @ x
    assert np.allclose(decompose(matrix, CENTRE).rotation, [10, -20, 30])


def test_the_identity_has_neutral_parts():
    parts = decompose(np.eye(4), CENTRE)
    expected = Components(np.zeros(3), np.zeros(3), 0.0, np.ones(3), np.zeros(3))
    for result, value in zip(parts, expected, strict=True):
        assert np.allclose(result, value)


def test_the_volume_is_the_product_of_scales():
    matrix = affine(3)
    scale = decompose(matrix, CENTRE).scale
    assert np.prod(scale) == pytest.approx(np.linalg.det(matrix[:3, :3]))


@pytest.mark.parametrize("linear", [np.diag([-1.0, 1, 1]), np.diag([1.0, 1, 0])])
def test_a_mirror_or_a_plane_has_no_parts(linear):
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    with pytest.raises(ValueError, match="mirrors"):
        decompose(matrix, CENTRE)


@pytest.mark.parametrize("seed", range(5))
def test_the_angle_between_matrices_is_that_of_their_rotations(seed):
    one, other = affine(seed)[:3, :3], affine(seed + 10)[:3, :3]
    turns = [Rotation.from_matrix(linalg.polar(linear)[0]) for linear in (one, other)]
    expected = np.degrees((turns[0].inv() * turns[1]).magnitude())
    assert rotations.angle(one, other) == pytest.approx(expected)
    np.testing.assert_allclose(rotations.nearest(one), turns[0].as_matrix(), atol=1e-12)


def test_rotations_are_spread_over_all_orientations():
    spread = Rotation.from_matrix(rotations.spread(200))
    assert (rotations.spread(200) == rotations.spread(200)).all()
    for turn in Rotation.random(500, rng=np.random.default_rng(0)):
        assert np.degrees((spread * turn.inv()).magnitude().min()) < 35
