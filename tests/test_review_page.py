"""The page of a batch in a real browser: what it shows, its keys, and ratings."""

import csv
import functools
import http.server
import io
import re
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from mdvit_jax import __main__
from mdvit_jax.cli.batch import results_csv
from mdvit_jax.cli.review import review_page
from mdvit_jax.plots import strips

NASTY = "<script>document.title = 'hacked'</script> & \"ä\" 'é' </script>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def picture() -> bytes:
    """Fixed is white and warped dark grey, so that a screenshot shows which is seen."""
    square = np.ones((150, 150))
    return strips.encode([square] * 3, [0.3 * square] * 3)


def result(name: str, status: str, correlation: float, **cells: str) -> dict[str, str]:
    """A row of the table, as a batch writes it."""
    row = dict.fromkeys(results_csv.COLUMNS, "")
    row |= {"name": name, "status": status, "inputs": f"of {name}", "seconds": "3"}
    row |= {"fixed": "/data/mni152.nii.gz", "moving": f"/data/{name}.nii.gz"}
    if status != "error":
        row |= {"correlation_before": "0.1", "correlation_after": str(correlation)}
        row |= {"overlap_before": "0.5", "overlap_after": "0.92"}
        row |= {"ntg_before": "0.7", "ntg_after": "0.4", "rotation_degrees": "5"}
        row |= {f"scale_{axis}": "1.1" for axis in "xyz"}
        row |= {f"translation_{axis}_mm": "3" for axis in "xyz"}
        row |= {"transform": f"{name}.tfm", "thumbnail": "pictures/a b.webp"}
    return row | cells


RESULTS = [
    result("sub-1", "ok", 0.40),
    result("sub-2", "check", 0.30, reasons=NASTY),
    result("sub-3", "failed", 0.20),
    result("sub-4", "ok", 0.35),
    result("sub-10", "ok", 0.45),
    result("sub-11", "error", 0, reasons=f"{NASTY} cannot be read."),
]


@pytest.fixture
def folder(tmp_path):
    """The folder of a batch: its table, page, and the picture of its pairs."""
    write(tmp_path, RESULTS)
    return tmp_path


def write(folder, results):
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / "pictures/a b.webp").write_bytes(picture())
    results_csv.write(folder / "results.csv", results)
    review_page.write_batch(folder, results)


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium or Chrome is installed to open the page in")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open pages as one person, whose browser stores ratings; no script may fail."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    errors = []

    def visit(address):
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.goto(address)
        return page

    yield visit
    context.close()
    assert not errors


@pytest.fixture
def page(visit, folder):
    return visit((folder / "index.html").as_uri())


def names(page) -> list[str]:
    return page.locator(".card h2").all_inner_texts()


def brightness(locator) -> float:
    """Of what is seen in the middle of an element."""
    with Image.open(io.BytesIO(locator.screenshot())) as shot:
        pixels = np.asarray(shot.convert("L"))
    height, width = (n // 2 for n in pixels.shape)
    return float(pixels[height - 10 : height + 10, width - 10 : width + 10].mean())


def test_the_worst_are_first_and_others_can_be(page):
    assert page.title() == "6 images on mni152.nii.gz"
    assert names(page) == ["sub-11", "sub-3", "sub-2", "sub-4", "sub-1", "sub-10"]
    page.select_option("#sort", "name")
    assert names(page) == ["sub-1", "sub-2", "sub-3", "sub-4", "sub-10", "sub-11"]
    page.select_option("#sort", "correlation")
    assert names(page) == ["sub-3", "sub-2", "sub-4", "sub-1", "sub-10", "sub-11"]
    page.check("#reverse")
    assert names(page) == ["sub-11", "sub-10", "sub-1", "sub-4", "sub-2", "sub-3"]


def test_pairs_are_chosen_by_verdict_name_measure_and_rating(page):
    page.click("#statuses .failed")
    assert names(page) == ["sub-3"]
    page.click("#statuses .check")
    assert names(page) == ["sub-3", "sub-2"]
    assert page.inner_text("#count") == "2 of 6"
    page.click("#clear")
    page.fill("#search", "B-1")
    assert names(page) == ["sub-11", "sub-1", "sub-10"]
    page.get_by_label("local correlation, from").fill("0.42")
    page.get_by_label("local correlation, from").blur()
    assert names(page) == ["sub-10"]
    page.click("#clear")
    page.click(".card >> nth=2 >> .rating .pass")
    page.click("#ratings .pass")
    assert names(page) == ["sub-2"]
    page.click("#ratings .pass")
    page.click("#ratings .fail")
    assert names(page) == [] and page.inner_text("#ratings .fail") == "fail 0"


def test_what_was_written_by_others_is_text(page):
    assert page.title() == "6 images on mni152.nii.gz"
    assert page.inner_text(".card >> nth=2 >> .reasons") == NASTY
    assert page.inner_text(".card >> nth=0 >> .sentence") == f"{NASTY} cannot be read."
    assert page.locator(".card >> nth=0 >> img").count() == 0


def test_flicker_and_edges_by_keys_and_the_pointer(page):
    page.keyboard.press("j")
    card = page.locator(".card[aria-current]")
    assert card.locator("h2").inner_text() == "sub-3"
    strip = card.locator(".strip")
    page.mouse.move(0, 0)
    assert brightness(strip) == pytest.approx(0.3 * 255, abs=6)
    page.keyboard.press(" ")
    assert brightness(strip) > 250
    page.keyboard.press(" ")
    assert brightness(strip) < 90
    edges = card.locator(".edges")
    assert edges.is_visible()
    page.keyboard.press("e")
    assert not edges.is_visible() and not page.is_checked("#edges")
    page.keyboard.press("j")
    page.hover(".card[aria-current] .look")
    scan = page.locator(".card[aria-current] .scan")
    animation = "node => getComputedStyle(node).animationName"
    assert scan.evaluate(animation) == "flicker"
    places = "node => node.getAnimations().map(a => a.effect.getKeyframes().length)"
    assert scan.evaluate(places) == [3]


def test_keys_mean_a_pair_at_once(page):
    page.keyboard.press("f")
    assert page.get_attribute(".card >> nth=0 >> .fail", "aria-pressed") == "true"
    page.fill("#search", "sub-1")  # the next one, sub-3, is not among these
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    page.keyboard.press("p")
    assert page.get_attribute(".card >> nth=1 >> .pass", "aria-pressed") == "true"
    page.fill("#search", "none is called so")
    page.keyboard.press("Enter")
    for key in "jkpfuc ":
        page.keyboard.press(key)
    assert page.inner_text("#ratings") == "unrated 4\npass 1\nfail 1"


def test_escape_leaves_a_comment_and_then_the_large_view(page):
    page.keyboard.press("Enter")
    large = page.locator("#large")
    page.keyboard.press("c")
    page.keyboard.type("tilted")
    page.keyboard.press("Escape")
    assert large.is_visible()
    page.keyboard.press("p")
    page.keyboard.press("Escape")
    assert not large.is_visible()
    assert page.input_value(".card >> nth=0 >> .comment") == "tilted"
    assert page.inner_text("#ratings .pass") == "pass 1"


def test_ratings_survive_and_come_back_into_the_table(visit, page, folder, capsys):
    page.fill("#rater", "Zoë")
    page.keyboard.press("Tab")
    page.click(".card >> nth=1")
    page.keyboard.press("c")
    page.keyboard.type('"half", of it; <b>é')
    page.keyboard.press("Enter")
    page.keyboard.press("f")  # and on to the next
    page.keyboard.press("p")
    page.keyboard.press("p")
    page.keyboard.press("k")
    page.keyboard.press("u")
    assert page.inner_text("#save") == "Save ratings (2)"
    page.reload()
    assert page.inner_text("#ratings .fail") == "fail 1"
    assert page.input_value(".card >> nth=1 >> .comment") == '"half", of it; <b>é'
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert "mdvit batch --ratings reads it" in page.inner_text("#progress")
    assert download.value.suggested_filename == "ratings.csv"
    download.value.save_as(folder / "ratings.csv")
    words = ["batch", "--ratings", str(folder / "ratings.csv"), "--output", str(folder)]
    assert __main__.main(words) == 0
    assert capsys.readouterr().out.startswith("1 pass, 1 fail, 0 comments alone.\n")
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        table = {row["name"]: row for row in csv.DictReader(file)}
    assert {name: row["rating"] for name, row in table.items() if row["rating"]} == {
        "sub-3": "fail",
        "sub-2": "pass",
    }
    assert table["sub-3"]["comment"] == '"half", of it; <b>é'
    assert table["sub-3"]["rater"] == "Zoë"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", table["sub-3"]["rated"])
    page.reload()
    assert page.inner_text("#save") == "Save ratings"
    # Another browser gets them from the table; a pair registered anew has none.
    page.evaluate("localStorage.clear()")
    table["sub-3"] = RESULTS[2] | {"inputs": "new"}
    write(folder, table.values())
    page.reload()
    assert page.inner_text("#ratings") == "unrated 5\npass 1\nfail 0"


def test_a_rating_of_an_older_result_is_not_shown(page, folder):
    page.click(".card >> nth=1 >> .rating .pass")
    write(folder, [row | {"inputs": "new"} for row in RESULTS])
    page.reload()
    assert page.inner_text("#ratings .pass") == "pass 0"


def test_a_dot_leads_to_its_pair_and_dragging_chooses(page):
    x, y = page.evaluate(
        """() => {
        const plot = plots[0];
        const dot = plot.dots.find(({ pair }) => pair.name === "sub-10");
        const box = plot.canvas.getBoundingClientRect();
        return [box.x + dot.x, box.y + dot.y];
    }"""
    )
    page.mouse.move(x - 20, y - 30)
    page.mouse.down()
    page.mouse.move(x + 9, y - 30, steps=3)
    page.mouse.up()
    assert names(page) == ["sub-10"]
    page.click("#clear")
    page.mouse.click(x, y)
    large = page.locator("#large")
    assert large.is_visible() and large.locator("h2").inner_text() == "sub-10"
    assert large.locator("tbody tr >> nth=0").inner_text().split("\t")[1:] == [
        "0.100",
        "0.450",
    ]
    assert large.locator(".links a").get_attribute("href") == "sub-10.tfm"
    page.keyboard.press("k")
    assert large.locator("h2").inner_text() == "sub-1"
    page.keyboard.press("f")
    assert large.locator("h2").inner_text() == "sub-10"
    page.keyboard.press("Escape")
    assert not large.is_visible()
    assert page.inner_text("#ratings .fail") == "fail 1"
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()


def test_an_axis_has_two_to_five_round_numbers(page):
    random = np.random.default_rng(0)
    for low, length in zip(
        random.uniform(-100, 100, 50), 10 ** random.uniform(-3, 3, 50), strict=True
    ):
        high = low + length
        ticks = page.evaluate("([low, high]) => ticks(low, high)", [low, high])
        assert 2 <= len(ticks) <= 5 and low <= ticks[0] < ticks[-1] <= high
        steps = np.diff(ticks)
        assert np.allclose(steps, steps[0])
        digits = steps[0] / 10 ** np.floor(np.log10(1.000001 * steps[0]))
        assert min(abs(digits - np.array([1, 2, 2.5, 5]))) < 1e-5


def test_a_telephone_shows_all_of_a_pair(page):
    page.set_viewport_size({"width": 400, "height": 800})
    seen = page.locator(".card >> nth=1 >> .strip").bounding_box()
    page.click(".card >> nth=1 >> .look")
    large = page.locator("#large")
    assert large.evaluate("node => node.scrollWidth <= node.clientWidth")
    for element in (
        large.get_by_title("close (Escape)"),
        large.locator(".comment"),
        large.locator("td >> nth=1"),
    ):
        box = element.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 400
    pan = large.locator(".pan")
    assert large.locator(".strip").bounding_box()["width"] > 1.5 * seen["width"]
    assert pan.evaluate("node => node.scrollWidth > node.clientWidth")


def test_thousands_of_pairs_are_as_light_as_a_few(visit, tmp_path):
    results = [result(f"p{n:04}", "ok", 0.2 + n / 1e4) for n in range(3000)]
    write(tmp_path, results)
    page = visit((tmp_path / "index.html").as_uri())
    assert page.locator(".card").count() < 30
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.get_by_text("p2999").wait_for()
    assert page.locator(".card").count() < 30
    assert page.locator(".card >> nth=-1").get_attribute("aria-posinset") == "3000"


def test_pictures_come_from_a_server_too(visit, folder):
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = visit(f"http://127.0.0.1:{server.server_port}/index.html")
        scan = page.locator(".card >> nth=1 >> .scan")
        loaded = "async node => { await node.decode(); return node.naturalWidth; }"
        assert scan.evaluate(loaded) == 3 * strips.SIDE
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_the_page_of_one_pair_needs_no_other_file(visit, tmp_path):
    review_page.write_single(tmp_path / "one.html", RESULTS[1], picture())
    page = visit((tmp_path / "one.html").as_uri())
    assert page.inner_text("h1") == "sub-2.nii.gz on mni152.nii.gz"
    strip = page.locator(".strip")
    page.mouse.move(0, 0)
    assert brightness(strip) == pytest.approx(0.3 * 255, abs=6)
    page.keyboard.press(" ")
    assert brightness(strip) > 250
    assert page.locator(".rating").count() == 0
    assert page.inner_text(".reasons") == NASTY
    page.keyboard.press("?")
    assert page.locator("#help kbd").all_inner_texts() == ["Space", "e", "?"]
