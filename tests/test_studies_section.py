"""Sections of the studies' report: tables, files and the one page."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from mdvit_jax import errors
from mdvit_jax.plots import lines as plots
from mdvit_jax.studies import html, section

ORDER = ("table1", "contrast", "regions")
TABLE = section.Table(
    ("Method", "DSC ↑"),
    [("Initial", "0.600 ± 0.040"), ("Ours", "**0.940** ± 0.010*"), ("x|y", "–")],
    note="* ours: <one> left out.\nsub_01_a",
    title="OASIS",
)


def figure(title="a title"):
    line = {"NTG": ([0.0, 1.0], [0.0, 1.0], [0.1, 0.1])}
    return plots.lines(line, title=title, x_name="gamma", y_name="DSC")


def write(folder, name, *, title="a title", figures=None, **more):
    one = section.Section(name, title, "Of 3 pairs.", [TABLE], figures or {})
    about = {"cohort": 'OASIS & "more"', "jax": "0.10.2"}
    section.write(
        one,
        folder,
        rows="method,dsc\nOurs,0.94\n",
        about=more.get("about", about),
        command=more.get("command", "python eval.py"),
        order=ORDER,
    )
    return (folder / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Attributes and text of a page, and whether all that was opened is closed."""

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

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_markdown_escapes_what_is_not_ours():
    lines = TABLE.markdown().splitlines()
    assert lines[:4] == ["**OASIS**", "", "| Method | DSC ↑ |", "| --- | ---: |"]
    assert lines[5:7] == [r"| Ours | **0.940** ± 0.010\* |", r"| x\|y | – |"]
    assert lines[8:] == [r"\* ours: \<one> left out.", "", "sub_01_a"]


def test_html_marks_and_escapes():
    told = section.Table(
        ("a<b", "n"), [("_x_ & sub_01_a", "_0.5_ ± 0.1"), ("**y**", "1")]
    ).html()
    assert "<u>x</u> &amp; sub_01_a" in told and "<b>y</b>" in told
    assert '<td class="n"><u>0.5</u> <small>± 0.1</small></td>' in told
    assert '<th scope="col">a&lt;b</th><th scope="col" class="n">n</th>' in told
    Page(told)


def test_rows_are_as_long_as_the_heads():
    with pytest.raises(ValueError, match="zip"):
        section.Table(("a", "b"), [("1",)]).html()


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
    found = section.ranked(values, texts, lower_is_better=lower, digits=2)
    assert found == expected


def test_a_section_leaves_its_files(tmp_path):
    write(tmp_path / "out", "contrast", figures={"contrast_dsc": figure()})
    files = {path.name for path in (tmp_path / "out").iterdir()}
    own = {"contrast.csv", "contrast.md", "contrast.json", "contrast_dsc.png"}
    assert files == {*own, "report.html"}
    assert (tmp_path / "out/contrast.csv").read_text() == "method,dsc\nOurs,0.94\n"
    told = (tmp_path / "out/contrast.md").read_text(encoding="utf-8")
    parts = ("# a title\n", '- cohort: OASIS & "more"', "Of 3 pairs.", TABLE.markdown())
    places = [told.index(part) for part in parts]
    assert places == sorted(places)
    assert "](<contrast_dsc.png>)" in told and "```sh\npython eval.py\n```" in told


def test_the_page_needs_nothing_beside_it(tmp_path):
    drawn = {"contrast_a": figure('the "first"'), "contrast_b": figure("other")}
    page = Page(write(tmp_path, "contrast", figures=drawn))
    assert not page.of("script") and not page.of("link")
    loaded = [a["src"] for _, a in page.tags if "src" in a]
    assert len(loaded) == 2
    for stem, source in zip(drawn, loaded, strict=True):
        kind, data = source.split(",")
        assert kind == "data:image/png;base64"
        png = base64.b64decode(data, validate=True)
        assert png == (tmp_path / f"{stem}.png").read_bytes()
        Image.open(io.BytesIO(png)).verify()
    assert page.of("img")[0]["alt"] == 'the "first"; DSC over gamma; NTG'
    assert all(a["href"].startswith("#") for a in page.of("a"))
    assert not re.search(r"url\(|@import", html._CSS)


def test_all_text_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    told = write(
        tmp_path,
        "table1",
        title=evil,
        figures={"table1_f": figure(evil)},
        about={evil: evil},
        command=evil,
    )
    page = Page(told)
    assert not page.of("script") and evil in page.text
    assert page.text.count(evil) == 5  # contents, heading, name, value, command


def test_sections_keep_the_order_and_each_other(tmp_path):
    for name in ("regions", "table1"):
        write(tmp_path, name, title=f"old {name}")
    before = (tmp_path / "regions.json").read_bytes()
    page = Page(write(tmp_path, "table1", title="new table1"))
    assert [one["id"] for one in page.of("section")] == ["table1", "regions"]
    assert [one["href"] for one in page.of("a")] == ["#table1", "#regions"]
    assert "new table1" in page.text and "old table1" not in page.text
    assert "old regions" in page.text
    assert (tmp_path / "regions.json").read_bytes() == before


def test_equal_inputs_are_equal_files(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder, "contrast", figures={"contrast_dsc": figure()})
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_unknown_studies_are_refused(tmp_path):
    with pytest.raises(ValueError, match="figure9 is none of the studies"):
        write(tmp_path, "figure9")


@pytest.mark.parametrize(
    "content",
    [
        *("", "{}", "[]", "null", '{"tables": 3}'),
        '{"title": "", "text": "", "about": 1, "figures": [], "tables": []}',
        '{"tables": [{"heads": ["a", "b"], "rows": [["1"]]}]}',
    ],
)
def test_a_damaged_section_is_told_and_the_new_one_is_kept(tmp_path, content):
    (tmp_path / "table1.json").write_text(content)
    with pytest.raises(errors.UserError, match=r"table1\.json is damaged; run the"):
        write(tmp_path, "regions")
    assert json.loads((tmp_path / "regions.json").read_text())["name"] == "regions"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_text("no picture"), "is not a PNG picture"),
    ],
)
def test_a_missing_picture_is_told(tmp_path, damage, told):
    write(tmp_path, "contrast", figures={"contrast_dsc": figure()})
    damage(tmp_path / "contrast_dsc.png")
    with pytest.raises(errors.UserError, match=f"contrast_dsc.png, .* {told}; run"):
        write(tmp_path, "regions")
