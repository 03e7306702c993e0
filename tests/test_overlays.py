"""Pictures: what lies where, and that odd input still gives a picture."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mdvit_jax.plots import overlays, panels

SHAPE = (26, 32, 22)


def head(shift=0) -> np.ndarray:
    """An ellipsoid with a bright spot to the right, front and top of its centre."""
    x, y, z = np.indices(SHAPE)
    volume = ((x - 13) / 9) ** 2 + ((y - 16) / 12) ** 2 + ((z - 11) / 8) ** 2 < 1
    volume = ndimage.gaussian_filter(volume.astype(np.float32), 0.7)
    volume[13:18, 16:22, 11:16] += 1  # the middle slices cut it
    return np.roll(volume, shift, 1)


def panel(figure, row, column) -> np.ndarray:
    """The picture in a panel, first row at the bottom."""
    axis = figure.axes[row * (len(figure.axes) // 3) + column]
    assert axis.images[0].origin == "lower"
    return axis.images[0].get_array()


@pytest.mark.parametrize("row", range(3))
def test_right_anterior_and_superior_are_right_and_up(row):
    volume = head()
    figure = overlays.registration_figure(volume, head(2), volume, title="a pair")
    picture = panel(figure, row, 0)
    up, right = ndimage.center_of_mass(picture > 0.75)
    middle_up, middle_right = ndimage.center_of_mass(picture > 0.1)
    assert up > middle_up and right > middle_right


def test_the_three_planes_are_those_slices():
    volume = np.zeros(SHAPE, np.float32)
    volume[5:20, 8:29, 4:15] = 1  # its centre is (12, 18, 9)
    volume += np.random.default_rng(0).uniform(0, 0.5, SHAPE) * volume
    figure = overlays.registration_figure(volume, volume, volume, title="")
    bright = np.clip(volume / np.percentile(volume[volume > 0], 99.5), 0, 1)
    box = (slice(4, 21), slice(7, 30), slice(3, 16))  # with a margin of one voxel
    expected = (bright[:, :, 9], bright[:, 18, :], bright[12, :, :])
    sides = ((0, 1), (0, 2), (1, 2))
    for row in range(3):
        whole = expected[row][box[sides[row][0]], box[sides[row][1]]]
        np.testing.assert_allclose(panel(figure, row, 0), whole.T, rtol=1e-6)


def test_the_checkerboard_shows_both_images():
    fixed, warped = np.ones((2, *SHAPE), np.float32)
    figure = overlays.registration_figure(fixed, fixed, warped, title="")
    colours = np.unique(panel(figure, 0, 3).reshape(-1, 3), axis=0)
    assert len(colours) == 2  # grey for fixed, warm for warped
    assert np.ptp(colours[1]) == 0 and colours[0][0] > colours[0][2]


def test_the_outline_follows_the_mask():
    volume = head()
    mask = np.zeros(SHAPE, bool)
    mask[8:18, 10:22, 6:16] = True
    figure = overlays.registration_figure(
        volume, volume, volume, title="", fixed_mask=mask
    )
    lines = np.asarray(figure.axes[0].collections[0].get_paths()[0].vertices)
    assert np.ptp(lines[:, 0]) == pytest.approx(10, abs=1)
    assert np.ptp(lines[:, 1]) == pytest.approx(12, abs=1)


def test_the_overlay_draws_the_edges_of_fixed_on_both():
    fixed, before = head(), head(4)
    figure = overlays.overlay_figure(fixed, before, fixed, title="case")
    assert len(figure.axes) == 6
    first, second = (
        np.concatenate([path.vertices for path in axis.collections[0].get_paths()])
        for axis in figure.axes[:2]
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(panel(figure, 0, 0), panel(figure, 0, 1))


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_constant_volumes_still_give_a_picture(tmp_path, value):
    volume = np.full(SHAPE, value, np.float32)
    for figure in (
        overlays.registration_figure(volume, volume, volume, title="t" * 200),
        overlays.overlay_figure(volume, volume, volume, title=""),
    ):
        panels.save_figure(figure, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"


def test_save_leaves_one_whole_file(tmp_path):
    path = tmp_path / "new" / "case.png"
    figure = overlays.overlay_figure(head(), head(3), head(), title="case")
    panels.save_figure(figure, path)
    panels.save_figure(figure, path)
    assert [entry.name for entry in path.parent.iterdir()] == ["case.png"]
    with Image.open(path) as picture:
        assert min(picture.size) > 300


def test_pyplot_is_never_imported():
    program = (
        "import sys, mdvit_jax.plots.overlays; "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_dollar_in_a_name_is_no_formula(tmp_path):
    volume = head(0)
    figure = overlays.overlay_figure(volume, volume, volume, title="a$x_{$ to b")
    panels.save_figure(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
