"""Pictures: what lies where, and that odd input still gives one."""

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mdvit_jax import errors
from mdvit_jax.plots import curves, pairs

SHAPE = (26, 32, 22)


def head(shift=0) -> np.ndarray:
    """An ellipsoid with a bright spot right, anterior and superior of its middle."""
    x, y, z = np.indices(SHAPE)
    volume = ((x - 13) / 9) ** 2 + ((y - 16) / 12) ** 2 + ((z - 11) / 8) ** 2 < 1
    volume = ndimage.gaussian_filter(volume.astype(np.float32), 0.7)
    volume[13:18, 16:22, 11:16] += 1  # the middle slices cut it
    return np.roll(volume, shift, 1)


def panel(figure, row, column) -> np.ndarray:
    """The picture that is shown there, with its first row at the bottom."""
    axis = figure.axes[row * (len(figure.axes) // 3) + column]
    assert axis.images[0].origin == "lower"
    return axis.images[0].get_array()


@pytest.mark.parametrize("row", range(3))
def test_right_anterior_and_superior_are_right_and_up(row):
    volume = head()
    figure = pairs.registration_figure(volume, head(2), volume, title="a pair")
    picture = panel(figure, row, 0)
    up, right = ndimage.center_of_mass(picture > 0.75)
    middle_up, middle_right = ndimage.center_of_mass(picture > 0.1)
    assert up > middle_up and right > middle_right


def test_the_three_planes_are_those_slices():
    volume = np.zeros(SHAPE, np.float32)
    volume[5:20, 8:29, 4:15] = 1  # its centre is (12, 18, 9)
    volume += np.random.default_rng(0).uniform(0, 0.5, SHAPE) * volume
    figure = pairs.registration_figure(volume, volume, volume, title="")
    bright = np.clip(volume / np.percentile(volume[volume > 0], 99.5), 0, 1)
    box = (slice(4, 21), slice(7, 30), slice(3, 16))  # with a margin of one voxel
    expected = (bright[:, :, 9], bright[:, 18, :], bright[12, :, :])
    sides = ((0, 1), (0, 2), (1, 2))
    for row in range(3):
        whole = expected[row][box[sides[row][0]], box[sides[row][1]]]
        np.testing.assert_allclose(panel(figure, row, 0), whole.T, rtol=1e-6)


def test_the_checkerboard_shows_both_images():
    fixed, warped = np.ones((2, *SHAPE), np.float32)
    figure = pairs.registration_figure(fixed, fixed, warped, title="")
    colours = np.unique(panel(figure, 0, 3).reshape(-1, 3), axis=0)
    assert len(colours) == 2  # grey for fixed, warm for warped
    assert np.ptp(colours[1]) == 0 and colours[0][0] > colours[0][2]


def test_the_outline_follows_the_given_mask():
    volume = head()
    mask = np.zeros(SHAPE, bool)
    mask[8:18, 10:22, 6:16] = True
    figure = pairs.registration_figure(
        volume, volume, volume, title="", fixed_mask=mask
    )
    lines = np.asarray(figure.axes[0].collections[0].get_paths()[0].vertices)
    assert np.ptp(lines[:, 0]) == pytest.approx(10, abs=1)
    assert np.ptp(lines[:, 1]) == pytest.approx(12, abs=1)


def test_the_overlay_draws_the_edges_of_fixed_on_both():
    fixed, before = head(), head(4)
    figure = pairs.overlay_figure(fixed, before, fixed, title="case")
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
        pairs.registration_figure(volume, volume, volume, title="t" * 200),
        pairs.overlay_figure(volume, volume, volume, title=""),
    ):
        pairs.save(figure, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"


def test_save_leaves_one_whole_file(tmp_path):
    path = tmp_path / "new" / "case.png"
    figure = pairs.overlay_figure(head(), head(3), head(), title="case")
    pairs.save(figure, path)
    pairs.save(figure, path)
    assert [entry.name for entry in path.parent.iterdir()] == ["case.png"]
    with Image.open(path) as picture:
        assert min(picture.size) > 300


class Points:
    """The points of a drawn line."""

    def __init__(self, line):
        self.x, self.y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def rows(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_curves_use_the_later_of_two_rows_and_skip_a_cut_one(tmp_path):
    path = rows(
        tmp_path / "metrics.jsonl",
        json.dumps({"step": 10, "loss": 0.9, "learning_rate": 1e-4}),
        json.dumps({"step": 20, "loss": 0.8}),
        json.dumps({"step": 20, "validation_loss": 0.7, "dsc": 0.5, "dsc30": 0.4}),
        json.dumps({"step": 20, "loss": 0.6}),
        json.dumps({"step": 30, "loss": float("nan"), "dsc": None}),
        '{"step": 40, "lo',
    )
    left, right = curves.training_curves(path).axes
    np.testing.assert_array_equal(Points(left.lines[0]).x, [10, 20, 30])
    np.testing.assert_array_equal(Points(left.lines[0]).y, [0.9, 0.6, np.nan])
    np.testing.assert_array_equal(Points(left.lines[1]).y, [0.7])
    assert [Points(line).y[0] for line in right.lines] == [0.5, 0.4]


def test_curves_before_the_first_validation(tmp_path):
    path = rows(
        tmp_path / "metrics.jsonl", *[f'{{"step": {i}, "loss": 1}}' for i in range(200)]
    )
    left, right = curves.training_curves(path).axes
    assert len(left.lines) == 2 and not right.lines  # the rows and their running mean
    np.testing.assert_allclose(Points(left.lines[1]).y, 1)
    assert [text.get_text() for text in right.texts] == ["no validation yet"]
    pairs.save(curves.training_curves(rows(path)), tmp_path / "empty.png")


def test_curves_of_a_long_run_keep_its_extremes_and_little_memory(tmp_path):
    loss = np.random.default_rng(0).random(20_000).round(6)
    loss[7_777] = 9
    lines = [json.dumps({"step": n, "loss": v}) for n, v in enumerate(loss.tolist())]
    path = rows(tmp_path / "metrics.jsonl", *lines)
    tracemalloc.start()
    left, _ = curves.training_curves(path).axes
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 200 * len(loss)  # bytes; it was 490 when the rows were kept
    drawn = Points(left.lines[0])
    assert len(drawn.x) <= 2_000 and (np.diff(drawn.x) > 0).all()
    np.testing.assert_array_equal(drawn.y, loss[drawn.x.astype(int)])
    assert drawn.y.max() == 9 and drawn.y.min() == loss.min()
    assert len(left.lines[1].get_xdata()) <= 2_000


def test_curves_name_the_damaged_line_and_the_missing_file(tmp_path):
    path = rows(tmp_path / "metrics.jsonl", '{"step": 1, "lo', '{"step": 2, "loss": 1}')
    with pytest.raises(errors.UserError, match="line 1 is not JSON"):
        curves.training_curves(path)
    with pytest.raises(errors.UserError, match="cannot be read"):
        curves.training_curves(tmp_path / "none.jsonl")


def test_pyplot_is_never_imported():
    program = (
        "import sys, mdvit_jax.plots.pairs; "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_name_is_no_formula(tmp_path):
    volume = head(0)
    figure = pairs.overlay_figure(volume, volume, volume, title="a$x_{$ to b")
    pairs.save(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
