"""The comparison itself: rows, resumption, failures and the table."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.registration import __main__ as command_line
from benchmarks.registration import cases, compare, plan, table
from benchmarks.registration.scans import image
from mdvit_jax.evaluation import methods


def make_case() -> cases.KnownAffine:
    empty = image(np.zeros((4, 5, 6)), np.eye(4))
    return cases.KnownAffine(empty, empty, np.eye(4), np.ones((2, 3)))


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Replace the methods by stubs; list their calls; "ants" fails."""
    called = []

    def align_pair(name, fixed, moving):
        called.append(name)
        if name == "ants":
            raise RuntimeError("no\noverlap")
        matrix = np.eye(4)
        matrix[0, 3] = 2
        return matrix

    monkeypatch.setattr(compare, "align_pair", align_pair)
    return called


def test_a_row_for_each_case_and_method_once(calls, tmp_path):
    names = ("sub-01", "b")
    tasks = [plan.Task("known-affine", n, "gamma 1", "own", make_case) for n in names]
    path = tmp_path / "results.jsonl"
    compare.compare(tasks[:1], ["register", "ants"], path)
    rows = compare.compare(tasks, ["register", "ants"], path)
    assert calls == ["register", "ants"] * 2
    assert rows["case"].tolist() == ["sub-01", "sub-01", "b", "b"]
    good, bad = rows.iloc[0], rows.iloc[1]
    assert good.value == 2 and good.error == "" and good.cores >= 1
    assert np.array(good.matrix.split(), float).reshape(4, 4)[0, 3] == 2
    assert np.isnan(bad.value) and bad.error == "RuntimeError: no overlap"
    only_ants = compare.compare(tasks[:1], ["ants"], path)
    assert len(only_ants) == 4  # all of the file


def test_the_warm_time_leaves_the_first_run_out(calls, tmp_path):
    task = plan.Task("speed", "a", "gamma 1", "2 mm", make_case)
    compare.compare([task, task._replace(name="b")], ["register"], tmp_path / "r")
    assert calls == ["register"] * 3


def row(group, contrast, method, value, *, seconds=1.0, error="", **which):
    row = {"group": group, "contrast": contrast, "method": method, "value": value}
    row |= {"case": "a", "voxels": "own", "seconds": seconds, "error": error}
    return row | which


def test_the_table_counts_failures_as_the_worst():
    rows = [
        row("known-affine", "gamma 1", "register", 0.1),
        row("known-affine", "gamma 1", "register", 0.3, case="b"),
        row("known-affine", "gamma 1", "ants", 0.2),
        row("known-affine", "gamma 1", "ants", np.nan, case="b", error="fell"),
        row("regions", "gamma 1", "register", 0.6),
        row("regions", "gamma 0.5", "register", 0.5),
        row("orientation", "gamma 1", "register", 0.5),
        row("orientation", "gamma 1", "register", 80, case="b"),
        row("orientation", "gamma 1", "register", 90, voxels="2 mm"),
        row("speed", "gamma 1", "register", 0.6, seconds=1.26, voxels="2 mm"),
    ]
    made = table.make_table(pd.DataFrame(rows), ["register", "ants"])
    lines = made.to_markdown().splitlines()
    assert lines == [
        "|  | register | ants |",
        "| --- | ---: | ---: |",
        "| known affine, median / worst mm, γ 1 (n = 2) | 0.20 / 0.30 | "
        "inf / inf (1 failed) |",
        "| 12-region Dice over pairs, γ 1 (0.5, 2) (n = 1) | 0.600 (0.500, –) | – |",
        "| any orientation, error below 1 mm (n = 2) | 1 of 2 | – |",
        "| any orientation, error below 1 mm, at 2 mm (n = 1) | 0 of 1 | – |",
        "| seconds a pair at 2 mm, warm (n = 1) | 1.3 | – |",
    ]


def test_the_plan_has_the_requested_cases():
    tasks = plan.tasks(plan.GROUPS, people=14, pairs=4)
    count = {g: sum(t.group == g for t in tasks) for g in plan.GROUPS}
    assert count == {
        "known-affine": 14 * 5,
        "damage": 14 * 9,
        "copy": 14 * 4,
        "orientation": 12,
        "regions": 4 * 3,
        "template": 14,
        "heads": 8 * 5 + 6,
        "speed": 3,
        "command": 1,
    }
    assert len({t[:3] for t in tasks}) == len(tasks)
    assert {t.voxels for t in tasks if t.group != "speed"} == {"own"}


def test_the_held_out_are_others():
    limits = {"people": 40, "pairs": 238}
    groups = set(plan.GROUPS) - {"speed", "command"}
    held_out = plan.tasks(groups, **limits, cohort=plan.HELD_OUT)
    seen = {task.key for task in plan.tasks(groups, **limits)}
    shared = {"regions", "template"}  # all scans of oasis1_malf were seen in these
    assert not seen & {t.key for t in held_out if t.group not in shared}
    count = {g: sum(t.group == g for t in held_out) for g in groups}
    assert count == {
        "known-affine": 4 * 5,
        "damage": 4 * 9,
        "copy": 4 * 4,
        "orientation": 4,
        "regions": 20 * 3,
        "template": 5,
        "heads": 8 * 5 + 2,
    }


def test_the_plan_resamples_what_is_not_timed(monkeypatch):
    monkeypatch.setattr(cases, "to_template", lambda scan: make_case())
    tasks = plan.tasks(plan.GROUPS, people=1, pairs=1, spacing=3.0)
    voxels = {t.group: t.voxels for t in tasks}
    assert voxels.pop("command") == voxels.pop("heads") == "own"
    assert voxels.pop("speed") == "2 mm"
    assert set(voxels.values()) == {"3 mm"}
    (case,) = [t.make() for t in tasks if t.group == "template"]
    assert case.fixed.data.shape == case.moving.data.shape == (2, 2, 2)
    assert np.allclose(case.fixed.grid.voxel_sizes, 3)
    assert np.array_equal(case.brain_points, make_case().brain_points)


def test_the_command_line_writes_rows_and_table(calls, monkeypatch, tmp_path, capsys):
    task = plan.Task("orientation", "a", "gamma 1", "own", make_case)
    monkeypatch.setattr(plan, "tasks", lambda groups, **options: [task])
    missing = {"register": None, "ants": "ants is left out."}
    monkeypatch.setattr(methods, "missing_package", missing.get)
    output = tmp_path / "new" / "folder"
    words = ["--methods", "register", "ants", "--output", str(output)]
    assert command_line.main(words) == 0
    assert calls == ["register"]
    text = (output / "table.md").read_text(encoding="utf-8")
    out, err = capsys.readouterr()
    assert text == out and "ants is left out." in err
    assert "| any orientation, error below 1 mm (n = 1) | 0 of 1 |" in text
