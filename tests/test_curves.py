"""Curves of a training run, from its metrics file."""

import json
import tracemalloc

import numpy as np
import pytest

from mdvit_jax import errors
from mdvit_jax.plots import curves, panels


class Points:
    """Records the points of the lines that are drawn."""

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
    panels.save_figure(curves.training_curves(rows(path)), tmp_path / "empty.png")


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
