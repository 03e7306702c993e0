"""The comparison itself: rows, resumption, failures and the table."""

import numpy as np
import pytest

from benchmarks.registration import __main__ as command_line
from benchmarks.registration import cases, compare, methods, plan, results, table
from benchmarks.registration.scans import image


def made() -> cases.KnownAffine:
    empty = image(np.zeros((4, 5, 6)), np.eye(4))
    return cases.KnownAffine(empty, empty, np.eye(4), np.ones((2, 3)))


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Two methods, of which one fails; and which was called."""
    called = []

    def shifted(fixed, moving):
        called.append("ours")
        matrix = np.eye(4)
        matrix[0, 3] = 2
        return matrix

    def broken(fixed, moving):
        called.append("ants")
        raise RuntimeError("no\noverlap")

    monkeypatch.setattr(methods, "METHODS", {"ours": shifted, "ants": broken})
    monkeypatch.setattr(methods, "missing", lambda name: None)
    return called


def test_a_row_for_each_case_and_method_once(calls, tmp_path):
    names = ("sub-01", "b")
    tasks = [plan.Task("known-affine", n, "gamma 1", "own", made) for n in names]
    path = tmp_path / "results.csv"
    compare.compare(tasks[:1], ["ours", "ants"], path)
    compare.compare(tasks, ["ours", "ants"], path)
    assert calls == ["ours", "ants"] * 2
    good, bad, *_ = rows = results.read(path)
    assert len(rows) == 4
    assert good.value == 2 and good.error == "" and good.cores >= 1
    assert np.array(good.matrix.split(), float).reshape(4, 4)[0, 3] == 2
    assert np.isnan(bad.value) and bad.error == "RuntimeError: no overlap"


def test_the_warm_time_leaves_the_first_run_out(calls, tmp_path):
    task = plan.Task("speed", "a", "gamma 1", "2 mm", made)
    compare.compare([task, task._replace(name="b")], ["ours"], tmp_path / "r.csv")
    assert calls == ["ours"] * 3


def row(group, contrast, method, value, *, seconds=1.0, error="", **which):
    case, voxels = which.get("case", "a"), which.get("voxels", "own")
    key = group, case, contrast, voxels, method
    return results.Row(*key, value, seconds, 1, error, "")


def test_the_table_counts_failures_as_the_worst():
    rows = [
        row("known-affine", "gamma 1", "ours", 0.1),
        row("known-affine", "gamma 1", "ours", 0.3, case="b"),
        row("known-affine", "gamma 1", "ants", 0.2),
        row("known-affine", "gamma 1", "ants", np.nan, case="b", error="fell"),
        row("regions", "gamma 1", "ours", 0.6),
        row("regions", "gamma 0.5", "ours", 0.5),
        row("orientation", "gamma 1", "ours", 0.5),
        row("orientation", "gamma 1", "ours", 80, case="b"),
        row("orientation", "gamma 1", "ours", 90, voxels="2 mm"),
        row("speed", "gamma 1", "ours", 0.6, seconds=1.26, voxels="2 mm"),
    ]
    lines = table.markdown(rows, ["ours", "ants"]).splitlines()
    assert lines == [
        "| | ours | ants |",
        "|---|---|---|",
        "| known affine, median / worst mm, γ 1 (n = 2) | 0.20 / 0.30 | "
        "inf / inf (1 failed) |",
        "| 12-region Dice over pairs, γ 1 (0.5, 2) (n = 1) | 0.600 (0.500, –) | – |",
        "| any orientation, error below 1 mm (n = 2) | 1 of 2 | – |",
        "| any orientation, error below 1 mm, at 2 mm (n = 1) | 0 of 1 | – |",
        "| seconds a pair at 2 mm, warm (n = 1) | 1.3 | – |",
    ]


def test_the_plan_has_what_was_asked_for():
    found = plan.tasks(plan.GROUPS, people=14, pairs=4)
    count = {g: sum(t.group == g for t in found) for g in plan.GROUPS}
    assert count == {
        "known-affine": 14 * 5,
        "orientation": 12,
        "regions": 4 * 3,
        "template": 14,
        "speed": 3,
        "command": 1,
    }
    assert len({t[:3] for t in found}) == len(found)
    assert {t.voxels for t in found if t.group != "speed"} == {"own"}


def test_the_plan_resamples_what_is_not_timed(monkeypatch):
    monkeypatch.setattr(cases, "to_template", lambda scan: made())
    found = plan.tasks(plan.GROUPS, people=1, pairs=1, spacing=3.0)
    voxels = {t.group: t.voxels for t in found}
    assert voxels.pop("command") == "own" and voxels.pop("speed") == "2 mm"
    assert set(voxels.values()) == {"3 mm"}
    (case,) = [t.make() for t in found if t.group == "template"]
    assert case.fixed.data.shape == case.moving.data.shape == (2, 2, 2)
    assert np.allclose(case.fixed.grid.voxel_sizes, 3)
    assert np.array_equal(case.brain_points, made().brain_points)


def test_the_command_line_writes_rows_and_table(calls, monkeypatch, tmp_path, capsys):
    task = plan.Task("orientation", "a", "gamma 1", "own", made)
    monkeypatch.setattr(plan, "tasks", lambda groups, **numbers: [task])
    missing = {"ours": None, "ants": "ants is left out."}
    monkeypatch.setattr(methods, "missing", missing.get)
    output = tmp_path / "new" / "folder"
    words = ["--methods", "ours", "ants", "--output", str(output)]
    assert command_line.main(words) == 0
    assert calls == ["ours"]
    text = (output / "table.md").read_text(encoding="utf-8")
    out, told = capsys.readouterr()
    assert text == out and "ants is left out." in told
    assert "| any orientation, error below 1 mm (n = 1) | 0 of 1 |" in text
