"""Group templates favour no scan, and bring back the poses that made the scans."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mdvit_jax import errors, transforms
from mdvit_jax.templates import group_template
from mdvit_jax.templates.group_template import build_template
from oracle import heads

POINTS = heads.points()
VOXEL = 5.0  # mm


def pose(angles, scales, shift) -> np.ndarray:
    matrix = np.eye(4)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, :3] = turn @ np.diag(scales)
    matrix[:3, 3] = shift
    return matrix


POSES = (
    pose([5, -6, 8], (1.05, 0.96, 1.02), (6, -4, 5)),
    pose([-7, 3, 2], (0.97, 1.02, 1.0), (-5, 2, -3)),
    pose([3, 8, -9], (1.0, 1.06, 0.95), (1, 7, 2)),
)
RIGID = [
    pose([4, -5, 6], (1, 1, 1), (5, -4, 3)),
    pose([-6, 2, 1], (1, 1, 1), (0, 6, 0)),
]


def seen(matrix):
    """A head in a pose, as (array, affine)."""
    shape, affine = heads.grid(40, VOXEL)
    return heads.head(shape, affine, matrix), affine


def apart(one, other) -> float:
    """How far two matrices put a point of the surface from each other, at most, mm."""
    offsets = POINTS @ (one - other)[:3, :3].T + (one - other)[:3, 3]
    return float(np.linalg.norm(offsets, axis=1).max())


@pytest.fixture(scope="module", autouse=True)
def coarse():
    """Averages on the way have voxels nearer to these scans', and take less time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_template, "_COARSE", 3.0)
        yield


@pytest.fixture(scope="module")
def group():
    return build_template([seen(matrix) for matrix in POSES])


@pytest.fixture(scope="module")
def two():
    return build_template([seen(matrix) for matrix in RIGID], dof="rigid")


def test_poses_are_recovered_and_none_is_favoured(group):
    assert group.converged
    matrices = [scan.matrix for scan in group.scans]
    assert apart(transforms.average(matrices), np.eye(4)) < 1e-6
    middle = transforms.average(POSES)  # of the head at rest
    for matrix, truth in zip(matrices, POSES, strict=True):
        assert apart(matrix, truth @ np.linalg.inv(middle)) < 0.1 * VOXEL
    assert all(scan.quality.status == "ok" for scan in group.scans)


def test_rounds_move_less_and_less(group):
    shifts = [round.shift for round in group.rounds[:-1]]
    assert len(shifts) > 2 and shifts[-1] < group_template.TOLERANCE
    assert shifts[1] < 0.3 * shifts[0] and shifts[2] < shifts[1]


def test_the_average_becomes_sharper(group):
    first, *_, last = group.rounds
    assert last.sharpness > 1.1 * first.sharpness
    # As sharp as a scan that is resampled as the template's are, nearly.
    grid = group.template.grid
    alone = transforms.resample(*seen(POSES[0]), group.scans[0].matrix, grid)
    both = alone.ravel(), group.template.data.ravel()
    assert np.corrcoef(*both)[0, 1] > 0.97


def test_its_grid_holds_the_heads_and_lies_along_the_world(group):
    grid = group.template.grid
    assert (grid.affine[:3, :3] == VOXEL * np.eye(3)).all()
    assert np.allclose(grid.affine[:3, 3] % VOXEL % VOXEL, 0, atol=1e-6)
    data = group.template.data
    faces = [np.take(data, (0, -1), axis) for axis in range(3)]
    assert data.shape == grid.shape and not any(face.any() for face in faces)


def test_two_meet_half_way(two):
    to_one, to_other = (scan.matrix for scan in two.scans)
    assert apart(to_one @ to_other, np.eye(4)) < 1e-6
    linear = to_one[:3, :3]
    assert np.abs(linear @ linear.T - np.eye(3)).max() < 1e-6
    # Voxels of 5 mm: registered to each other, they are 0.15 of one off.
    between = RIGID[1] @ np.linalg.inv(RIGID[0])
    assert apart(to_other @ np.linalg.inv(to_one), between) < 0.25 * VOXEL


def test_the_order_of_scans_does_not_matter(monkeypatch):
    monkeypatch.setattr(group_template, "_ROUNDS", 1)
    scans = [seen(matrix) for matrix in (*RIGID, np.eye(4))]
    there = build_template(scans, dof="rigid", voxel=8)
    back = build_template(scans[::-1], dof="rigid", voxel=8)
    for one, other in zip(there.scans, back.scans[::-1], strict=True):
        assert apart(one.matrix, other.matrix) < 1e-3
    assert np.allclose(there.template.data, back.template.data, atol=1e-4)
    assert there.template.grid.voxel_sizes == pytest.approx([8, 8, 8])
    assert not there.converged and len(there.rounds) == 2


def test_one_scan_is_no_group():
    with pytest.raises(errors.UserError, match="two scans or more"):
        build_template([seen(POSES[0])])
