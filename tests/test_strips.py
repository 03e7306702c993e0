"""The small pictures of pairs: which plane is where, and lines that lie on edges."""

import io

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from mdvit_jax.io import image
from mdvit_jax.plots import edges, planes, strips

BOX = planes.Box(np.array([-70.0, -90, -60]), np.array([70.0, 90, 60]), np.zeros(3))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "ASL", "IRP"])
@pytest.mark.parametrize(
    ("plane", "right", "up"), [(0, 0, 1), (1, 0, 2), (2, 1, 2)], ids=str
)
def test_slices_have_the_directions_of_their_letters(axes, plane, right, up):
    """Images whose value is a coordinate of the world, in files of any orientation."""
    affine = np.diag([4.0, 5, 3, 1])
    affine[:3, 3] = -80, -100, -66
    grid = np.indices((41, 41, 45)).reshape(3, -1)
    coordinates = (affine[:3, :3] @ grid + affine[:3, 3:]).reshape(3, 41, 41, 45)
    ends = "LR", "PA", "IS"
    assert planes.PLANES[plane].letters == ends[right] + ends[up][::-1]
    for axis, increases in ((right, 1), (up, 0)):
        scan = nib.Nifti1Image(coordinates[axis], affine)
        start, end = (nib.orientations.axcodes2ornt(a) for a in ("RAS", axes))
        scan = scan.as_reoriented(nib.orientations.ornt_transform(start, end))
        stored = image.from_array(scan.get_fdata(dtype=np.float32), scan.affine)
        seen = planes.sample_slices(stored, BOX)[plane]
        steps = np.diff(seen, axis=increases)
        assert (steps >= 0).all() and seen.min() < 0.2 and seen.max() > 0.8
        assert np.ptp(seen, axis=1 - increases).max() < 1e-4, "of the other axis"


def test_the_warped_image_is_the_moving_one_behind_the_matrix():
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -70, -90, -60
    data = np.zeros((71, 91, 61), np.float32)
    data[30:40, 40:50, 25:35] = 1  # -10 to 8, -10 to 8, -10 to 8 mm
    matrix = np.eye(4)
    matrix[:3, 3] = -20, 30, 0  # a point at 20, -30, 0 is seen at the moving 0, 0, 0
    scan = image.from_array(data, affine)
    axial = planes.sample_slices(scan, BOX, matrix)[0]
    up, right = np.argwhere(axial > 0.5).mean(0) * 180 / planes.ACROSS
    assert right - 70 == pytest.approx(20 - 1, abs=1)
    assert up - 90 == pytest.approx(-30 - 1, abs=1)


def test_lines_lie_on_the_edge_and_are_thin():
    up, right = np.indices((200, 180))
    radius = np.hypot(up - 97, right - 88)
    opacity = edges.line_opacity(1 / (1 + np.exp(radius - 60)))
    assert (opacity * radius).sum() / opacity.sum() == pytest.approx(60, abs=0.7)
    assert np.abs(radius[opacity > 0.5] - 60).max() < 2
    thickness = opacity.sum() / (2 * np.pi * 60)
    assert 0.8 < thickness < 1.6


@pytest.mark.parametrize("flat", [0.0, 0.4])
def test_what_is_flat_has_no_lines(flat):
    assert not edges.line_opacity(np.full((50, 60), flat)).any()


def test_strips_lie_below_each_other_and_edges_on_nothing():
    disc = np.hypot(*(np.indices((150, 221)) - 75)) < 50
    fixed, warped = [1.0 * disc] * 3, [np.full((100, 90), 0.5)] * 3
    with Image.open(io.BytesIO(strips.encode(fixed, warped))) as file:
        pixels = np.asarray(file.convert("RGBA")).astype(int)
    side = strips.SIDE
    assert pixels.shape == (3 * side, 3 * side, 4)
    first, second, lines = np.split(pixels, 3)
    assert (first[..., 3] == 255).all() and (second[..., 3] == 255).all()
    for column in range(3):
        middle = slice(column * side, (column + 1) * side)
        seen = first[:, middle, 0]
        # The disc's centre is 75 from below, and the slice in the middle of its square.
        assert seen[side - 37 - 75, 1 + 75] > 240 and seen[5, 5] < 20
        assert abs(second[side // 2, column * side + side // 2, 0] - 127) < 8
        assert second[5, column * side + 5, 0] < 20
        drawn = lines[:, middle, 3]
        assert drawn[side - 37 - 75, 1 + 75] == 0 and drawn[5, 5] == 0
        assert drawn[side - 37 - 75, 1 + 75 + 45 : 1 + 75 + 55].sum() > 150
