"""Ratings read into a table; a wrong file is refused, and nothing is written."""

import pytest

from mdvit_jax import __main__
from mdvit_jax.cli.batch import results_csv
from mdvit_jax.cli.review import ratings_csv

ROW = dict.fromkeys(results_csv.COLUMNS, "") | {"status": "ok", "fixed": "f.nii"}
RESULTS = {name: ROW | {"name": name, "inputs": f"of {name}"} for name in ("a", "b")}


@pytest.fixture
def folder(tmp_path):
    results_csv.write(tmp_path / "results.csv", RESULTS.values())
    return tmp_path


def run(folder, text):
    (folder / "ratings.csv").write_text(text)
    path = folder / "ratings.csv"
    return __main__.main(["batch", "--ratings", str(path), "--output", str(folder)])


def test_ratings_come_into_the_table(folder, capsys):
    assert run(folder, "rating;name;comment\nPASS;a;\n;b;look again\n") == 0
    results = results_csv.read(folder / "results.csv")
    assert [results[name]["rating"] for name in "ab"] == ["pass", ""]
    assert results["b"]["comment"] == "look again"
    assert "1 pass, 0 fail, 1 comment" in capsys.readouterr().out
    assert "look again" in (folder / "index.html").read_text()
    assert run(folder, "name,rating\na,\n") == 0
    assert results_csv.read(folder / "results.csv")["a"]["rating"] == "", "taken back"


def test_a_rating_of_an_older_result_is_left_out(folder, capsys):
    assert run(folder, "name,rating,inputs\na,pass,of a\nb,fail,older\n") == 0
    results = results_csv.read(folder / "results.csv")
    assert [results[name]["rating"] for name in "ab"] == ["pass", ""]
    assert "looked at: b." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name,rating\na,pass\nb,good\n", 'has the rating "good" in row 3'),
        ("name,rating\nc,pass\n", 'rates a pair "c" in row 2'),
        ("name,ratings\na,pass\n", "no column rating"),
        ("", "is empty"),
    ],
)
def test_a_wrong_file_changes_nothing(folder, capsys, text, why):
    before = (folder / "results.csv").read_bytes()
    assert run(folder, text) == 2
    message = capsys.readouterr().err
    assert why in message and message.count("\n") == 1
    assert (folder / "results.csv").read_bytes() == before
    assert not (folder / "index.html").exists()


def test_a_folder_without_a_table(tmp_path, capsys):
    (tmp_path / "r.csv").write_text("name,rating\na,pass\n")
    words = ["--ratings", str(tmp_path / "r.csv"), "--output", str(tmp_path / "no")]
    assert __main__.main(["batch", *words]) == 2
    assert "has no results.csv" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_the_summary_names_few_of_many():
    rated = ratings_csv.Rated({}, {"pass": 0, "fail": 0, "": 2}, [*"abcdefg"])
    lines = ratings_csv.summarise(rated).splitlines()
    assert lines[0] == "0 pass, 0 fail, 2 comments alone."
    assert lines[1].endswith("looked at: a, b, c, d, e and 2 more.")
