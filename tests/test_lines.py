"""Plots of the studies: the axes show the data."""

import numpy as np
import pytest
from PIL import Image

from mdvit_jax.plots import lines, panels

X = np.array([0.5, 1.0, 2.0])
SERIES = {
    "NTG": (X, np.array([0.90, 0.94, 0.91]), np.array([0.01, 0.02, 0.03])),
    "NCC_$x": (X, np.array([0.80, np.nan, 0.70]), np.array([0.1, np.nan, 0.1])),
}
NAMES = {"title": "a title", "x_name": "gamma", "y_name": "DSC"}


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def heights(axis) -> list[list[float]]:
    """The heights of the bars, [method][group]."""
    return [
        [bar.get_height() for bar in bars.patches] for bars in axis.containers[1::2]
    ]


def test_lines_and_bands_are_the_data():
    figure = lines.lines(SERIES, **NAMES)
    (axis,) = figure.axes
    for line, band, name in zip(axis.lines, axis.collections, SERIES, strict=True):
        x, mean, deviation = SERIES[name]
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_xdata(), x)
        np.testing.assert_array_equal(line.get_ydata(), mean)
        corners = band.get_datalim(axis.transData)
        assert corners.y0 == pytest.approx(np.nanmin(mean - deviation))
        assert corners.y1 == pytest.approx(np.nanmax(mean + deviation))
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("gamma", "DSC")
    assert figure.get_suptitle() == "a title"
    assert legend(figure) == list(SERIES)


def test_the_reference_is_a_dashed_level_line():
    figure = lines.lines(SERIES, **NAMES, reference=0.94)
    line = figure.axes[0].lines[-1]
    assert set(line.get_ydata()) == {0.94} and line.get_linestyle() == "--"
    assert legend(figure)[-1] == "reference"


@pytest.mark.parametrize("log_x", [False, True])
def test_ticks_are_plain_numbers(log_x):
    axis = lines.lines(SERIES, **NAMES, x_ticks=[0.5, 1, 2], log_x=log_x).axes[0]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["0.5", "1", "2"]
    assert axis.get_xscale() == ("log" if log_x else "linear")


def test_many_series_look_different():
    many = {f"m{n}": SERIES["NTG"] for n in range(20)}
    drawn = lines.lines(many, **NAMES).axes[0].lines
    looks = {
        (one.get_color(), one.get_marker(), str(one._dash_pattern)) for one in drawn
    }
    assert len(looks) == 20


def test_rotation_has_a_panel_for_each_axis_on_one_scale():
    degrees = np.arange(0, 361, 90.0)
    axes_of_rotation = {
        f"about {axis}": {"Ours": (degrees, np.full(5, level), np.zeros(5))}
        for axis, level in zip("xyz", (0.9, 0.8, 0.5), strict=True)
    }
    figure = lines.rotation_lines(axes_of_rotation, title="turned", y_name="DSC")
    assert [axis.get_title() for axis in figure.axes] == list(axes_of_rotation)
    assert len({axis.get_ylim() for axis in figure.axes}) == 1
    for axis, series in zip(figure.axes, axes_of_rotation.values(), strict=True):
        (line,) = axis.lines
        np.testing.assert_array_equal(line.get_xdata(), degrees)
        np.testing.assert_array_equal(line.get_ydata(), series["Ours"][1])
        assert list(axis.get_xticks()) == [0, 90, 180, 270, 360]
    assert legend(figure) == ["Ours"]


def test_bars_are_means_of_the_finite_values_and_empty_groups_are_named():
    values = {
        "ANTs": [[0.2, 0.4], [], [0.5]],
        "Ours": [[0.6, np.nan, 0.8], [np.nan], []],
    }
    figure = lines.grouped_bars(("CC", "BS", "TH"), values, title="t", y_name="Dice")
    (axis,) = figure.axes
    expected = [[0.3, np.nan, 0.5], [0.7, np.nan, np.nan]]
    np.testing.assert_allclose(heights(axis), expected)
    first = axis.containers[0].lines[2][0].get_segments()[0]  # of the error bars
    np.testing.assert_allclose(first[:, 1], [0.2, 0.4])  # ± population's deviation
    labels = [text.get_text() for text in axis.get_xticklabels()]
    assert labels == ["CC", "BS\nno value", "TH"]
    assert legend(figure) == ["ANTs", "Ours", "no value"]
    (cross,) = axis.lines[-1:]
    assert cross.get_xdata() == pytest.approx([2.21])  # where the bar would stand


def test_bars_need_values_for_each_group():
    with pytest.raises(ValueError, match="Ours has 1 groups, not 2"):
        lines.grouped_bars(("CC", "BS"), {"Ours": [[0.5]]}, title="", y_name="")


def test_figures_are_sharp_pictures_and_equal_ones_equal_files(tmp_path):
    for name in "ab":
        figure = lines.grouped_bars(("CC",), {}, title="nothing", y_name="Dice")
        panels.save_figure(figure, tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == int(figure.get_figwidth() * 192)
