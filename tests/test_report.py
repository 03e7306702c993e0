"""Reports: the numbers, the three files, and what cannot be averaged."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from mdvit_jax.evaluation import report

REGIONS = ("brain stem", "caudate")


def case(method: str, index: int, **changes) -> report.Case:
    values = {
        "dsc": 0.70 + 0.02 * index,
        "hd95": 9.0 - index,
        "jaccard": 0.60 + 0.01 * index,
        "seconds": 0.5,
        "regions": {"brain stem": 0.5 + 0.01 * index, "caudate": 0.3},
    }
    return report.Case(method, "person 1", f"person {index + 2}", **(values | changes))


def write(folder, cases, **changes):
    options = {"config": {"checkpoint": "runs/a, step 300"}, "hd95_unit": "mm"}
    return report.write(folder, cases, regions=REGIONS, **(options | changes))


def test_summary_holds_the_plain_averages(tmp_path):
    cases = [case("Initial", i) for i in range(7)] + [case("MDViT", 0)]
    write(tmp_path, cases)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["description"] == {"checkpoint": "runs/a, step 300"}
    assert list(summary["methods"]) == ["Initial", "MDViT"]
    initial = summary["methods"]["Initial"]
    dsc = [0.70 + 0.02 * i for i in range(7)]
    assert initial["cases"] == initial["dsc"]["n"] == 7
    assert initial["dsc"]["mean"] == pytest.approx(np.mean(dsc))
    assert initial["dsc"]["std"] == pytest.approx(np.std(dsc))
    assert initial["dsc30"]["n"] == 3  # the lowest 30 % of 7, rounded up
    assert initial["dsc30"]["mean"] == pytest.approx(np.mean(dsc[:3]))
    assert initial["dsc30"]["std"] == pytest.approx(np.std(dsc[:3]))
    assert initial["regions"]["brain stem"]["mean"] == pytest.approx(0.53)
    assert initial["mean_of_regions"]["mean"] == pytest.approx((0.53 + 0.3) / 2)
    assert summary["methods"]["MDViT"]["dsc"] == {
        "mean": 0.7, "std": 0.0, "n": 1, "nan": 0, "infinite": 0
    }  # fmt: skip


def test_table_has_the_papers_form(tmp_path):
    cases = [case("Initial (CoM)", i) for i in range(2)]
    cases += [case("MDViT", i, dsc=0.9, hd95=2.0) for i in range(2)]
    table = write(tmp_path, cases)
    assert (tmp_path / "table.md").read_text() == table
    lines = table.splitlines()
    start = lines.index("| Method | DSC↑ | DSC30↑ | HD95↓ (mm) | Jaccard↑ |")
    assert lines[start + 2] == (
        "| Initial (CoM) | 0.710 ± 0.010 | 0.700 ± 0.000 "
        "| 8.50 ± 0.50 | 0.605 ± 0.005 |"
    )
    assert lines[start + 3].startswith("| MDViT | 0.900 ± 0.000 | 0.900 ± 0.000 | 2.00")
    start = lines.index("| Region | Initial (CoM) | MDViT |")
    assert lines[start + 2] == "| brain stem | 0.505 ± 0.005 | 0.505 ± 0.005 |"
    assert lines[start + 3] == "| caudate | 0.300 ± 0.000 | 0.300 ± 0.000 |"
    assert lines[start + 4].startswith("| mean of the regions | 0.403")
    assert "- checkpoint: runs/a, step 300" in lines
    assert "Cases: Initial (CoM) 2, MDViT 2." in table
    assert "HD95↓ (voxels)" in write(tmp_path, cases, hd95_unit="voxels")


def test_csv_gives_every_case_back(tmp_path):
    cases = [
        case("a", 0, hd95=math.inf),
        case("b, with comma", 1, regions={"caudate": 1}),
    ]
    write(tmp_path, cases)
    found = pd.read_csv(tmp_path / "cases.csv")
    assert list(found.columns) == [
        "method", "fixed", "moving", "dsc", "hd95", "jaccard", "seconds",
        "dice_brain_stem", "dice_caudate",
    ]  # fmt: skip
    assert found["method"].tolist() == ["a", "b, with comma"]
    assert found["moving"].tolist() == ["person 2", "person 3"]
    assert found["hd95"].tolist() == [math.inf, 8.0]
    np.testing.assert_allclose(found["dice_brain_stem"], [0.5, math.nan])


def test_what_cannot_be_averaged_is_counted_and_named(tmp_path):
    cases = [case("MDViT", i) for i in range(4)]
    cases += [case("MDViT", 7 + i, hd95=math.inf) for i in range(6)]
    cases += [case("MDViT", 20, dsc=math.nan, regions={"caudate": math.nan})]
    table = write(tmp_path, cases)
    summary = json.loads((tmp_path / "summary.json").read_text())["methods"]["MDViT"]
    assert summary["hd95"]["n"] == 5 and summary["hd95"]["infinite"] == 6
    assert summary["dsc"]["n"] == 10 and summary["dsc"]["nan"] == 1
    assert summary["dsc30"]["n"] == 3
    assert summary["hd95"]["mean"] == pytest.approx((9 + 8 + 7 + 6 - 11) / 5)
    assert "3.80 ± 7.47*" in table  # marked where it stands, and told below
    assert (
        "MDViT: HD95 is infinite, and left out, in 6 of 11 cases: person 9 to" in table
    )
    assert "person 13 to person 1, 1 more." in table
    assert (
        "MDViT: DSC is not a number, and left out, in 1 of 11 cases: person 22 to"
        in table
    )
    assert "Dice of caudate is not a number" in table
    assert "nan" not in table and "inf " not in table


def test_nothing_to_average_is_a_dash_and_null(tmp_path):
    lost = case("a", 0, dsc=math.nan, hd95=math.nan, jaccard=math.nan, seconds=math.nan,
                regions={})  # fmt: skip
    table = write(tmp_path, [lost])
    assert "| a | – | – | – | – |" in table and "| caudate | – |" in table
    assert "Seconds" not in table
    summary = json.loads((tmp_path / "summary.json").read_text())["methods"]["a"]
    assert summary["dsc"] == {
        "mean": None,
        "std": None,
        "n": 0,
        "nan": 1,
        "infinite": 0,
    }


def test_files_are_whole_and_alone(tmp_path):
    for _ in range(2):
        write(tmp_path / "evaluation", [case("a", 0)])
    names = sorted(path.name for path in (tmp_path / "evaluation").iterdir())
    assert names == ["cases.csv", "summary.json", "table.md"]


def test_without_regions_there_is_one_table(tmp_path):
    table = report.write(
        tmp_path, [case("a", 0)], config={}, hd95_unit="mm", regions=()
    )
    assert table.count("| --- |") == 1 and "Dice of the regions" not in table
