"""Sections of the report: tables, files and the one page."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from mdvit_jax import errors
from mdvit_jax.plots import lines
from mdvit_jax.studies.report import render
from mdvit_jax.studies.report.section import Section, Table, mark_ranks

TABLE = Table(
    ("Method", "DSC ↑"),
    [("Initial", "0.600 ± 0.040"), ("Ours", "**0.940** ± 0.010*"), ("x|y", "–")],
    note="* ours: <one> left out.",
    title="OASIS",
)


def figure(title="a title"):
    curve = {"NTG": ([0.0, 1.0], [0.0, 1.0], [0.1, 0.1])}
    return lines.lines(curve, title=title, x_name="gamma", y_name="DSC")


def write(folder, name, *, title="a title", figures=None, table=TABLE, **more):
    about = {"cohort": 'OASIS & "more"', "jax": "0.10.2"}
    render.write_section(
        Section(title, "Of 3 pairs.", [table], figures or {}),
        folder,
        name=name,
        records=pd.DataFrame({"method": ["Ours"], "dsc": [0.94]}),
        about=more.get("about", about),
        command=more.get("command", "python eval.py"),
    )
    return (folder / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Attributes and text of a page; fails if a tag is not closed."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def find_all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_foreign_text_is_escaped_in_markdown():
    rows = TABLE.to_markdown().splitlines()
    assert rows[:4] == ["**OASIS**", "", "| Method | DSC ↑ |", "| --- | ---: |"]
    assert rows[5:7] == [r"| Ours | **0.940** ± 0.010\* |", r"| x\|y | – |"]
    assert rows[8:] == [r"\* ours: \<one> left out."]


def test_the_page_marks_and_escapes_cells(tmp_path):
    table = Table(
        ("a<b", "n"), [("_x_ & sub_01_a", "_0.5_ ± 0.1"), ("**y**", "1")], note="<i>"
    )
    page = write(tmp_path, "table1", table=table)
    assert "<u>x</u> &amp; sub_01_a" in page and "<b>y</b>" in page
    assert "<td><u>0.5</u> <small>± 0.1</small></td>" in page
    assert '<th scope="col">a&lt;b</th>' in page
    assert '<p class="note">&lt;i&gt;</p>' in page


@pytest.mark.parametrize(
    ("values", "lower", "marks"),
    [
        ((0.1, 0.3, 0.2), False, ("", "**", "_")),
        ((0.1, 0.3, 0.2), True, ("**", "", "_")),
        ((0.301, 0.299, 0.2), False, ("**", "**", "")),  # equal as shown: no second
        ((0.3, 0.201, 0.199), False, ("**", "_", "_")),
        ((0.3, 0.301, 0.3), False, ("", "", "")),
        ((None, math.nan, 0.2), True, ("", "", "")),
        ((None, 0.1, 0.2), True, ("", "**", "_")),
        ((math.inf, 0.1, 0.2), False, ("", "_", "**")),
    ],
)
def test_ranks_are_those_of_the_shown_digits(values, lower, marks):
    texts = ["a ± 1", "b", "c ± 1*"]
    expected = [f"{m}{t[0]}{m}{t[1:]}" for t, m in zip(texts, marks, strict=True)]
    cells = mark_ranks(values, texts, lower_is_better=lower, digits=2)
    assert cells == expected


def test_a_section_leaves_its_files(tmp_path):
    write(tmp_path / "out", "contrast", figures={"contrast_dsc": figure()})
    files = {path.name for path in (tmp_path / "out").iterdir()}
    own = {"contrast.csv", "contrast.md", "contrast.json", "contrast_dsc.png"}
    assert files == {*own, "report.html"}
    assert (tmp_path / "out/contrast.csv").read_text() == "method,dsc\nOurs,0.94\n"
    document = (tmp_path / "out/contrast.md").read_text(encoding="utf-8")
    parts = (
        "# a title\n",
        '- cohort: OASIS & "more"',
        "Of 3 pairs.",
        TABLE.to_markdown(),
    )
    places = [document.index(part) for part in parts]
    assert places == sorted(places)
    assert "](<contrast_dsc.png>)" in document
    assert "```sh\npython eval.py\n```" in document
    assert "\n\n\n" not in document


def test_the_page_needs_nothing_beside_it(tmp_path):
    drawn = {"contrast_a": figure('the "first"'), "contrast_b": figure("other")}
    page = Page(write(tmp_path, "contrast", figures=drawn))
    assert not page.find_all("script") and not page.find_all("link")
    loaded = [a["src"] for _, a in page.tags if "src" in a]
    assert len(loaded) == 2
    for stem, source in zip(drawn, loaded, strict=True):
        kind, data = source.split(",")
        assert kind == "data:image/png;base64"
        png = base64.b64decode(data, validate=True)
        assert png == (tmp_path / f"{stem}.png").read_bytes()
        Image.open(io.BytesIO(png)).verify()
    assert page.find_all("img")[0]["alt"] == 'the "first"; DSC over gamma; NTG'
    assert all(a["href"].startswith("#") for a in page.find_all("a"))
    sheet = Path(render.__file__).with_name("report.css").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import", sheet)


def test_all_text_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    page = write(
        tmp_path,
        "table1",
        title=evil,
        figures={"table1_f": figure(evil)},
        about={evil: evil},
        command=evil,
    )
    page = Page(page)
    assert not page.find_all("script") and evil in page.text
    assert page.text.count(evil) == 5  # contents, heading, name, value, command


def test_sections_keep_the_order_and_each_other(tmp_path):
    for name in ("region_overlap", "table1"):
        write(tmp_path, name, title=f"old {name}")
    before = (tmp_path / "region_overlap.json").read_bytes()
    page = Page(write(tmp_path, "table1", title="new table1"))
    assert [one["id"] for one in page.find_all("section")] == [
        "table1",
        "region_overlap",
    ]
    assert [one["href"] for one in page.find_all("a")] == ["#table1", "#region_overlap"]
    assert "new table1" in page.text and "old table1" not in page.text
    assert "old region_overlap" in page.text
    assert (tmp_path / "region_overlap.json").read_bytes() == before


def test_equal_inputs_are_equal_files(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder, "contrast", figures={"contrast_dsc": figure()})
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("content", ["", "{}", "null", '{"tables": 3}'])
def test_a_damaged_section_is_named_and_the_new_one_is_kept(tmp_path, content):
    (tmp_path / "table1.json").write_text(content)
    with pytest.raises(errors.UserError, match=r"table1\.json .* damaged .* run the"):
        write(tmp_path, "contrast")
    assert json.loads((tmp_path / "contrast.json").read_text())["name"] == "contrast"


def test_a_missing_picture_is_named(tmp_path):
    write(tmp_path, "contrast", figures={"contrast_dsc": figure()})
    (tmp_path / "contrast_dsc.png").unlink()
    with pytest.raises(errors.UserError, match=r"contrast\.json or a picture"):
        write(tmp_path, "table1")
