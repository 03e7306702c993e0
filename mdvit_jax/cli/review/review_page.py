"""The page to look at registrations: one HTML file, without anything from elsewhere.

`review.html.jinja` is its frame, review.css how it looks; the scripts beside them make
it from the data that are within it as JSON. A batch's page loads each pair's small
picture from a file as one scrolls to it; a single pair's page has it inside.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
import markupsafe

from mdvit_jax import errors
from mdvit_jax.cli.batch import results_csv
from mdvit_jax.io import atomic, json_file
from mdvit_jax.plots import planes

PAGE = "index.html"  # in the folder of a batch
_SCRIPTS = ("ratings.js", "pairs.js", "cards.js", "plots.js", "page.js")
_KEYS = (  # keys, what they do, and whether the page of one pair has them
    ("j →", "next pair", False),
    ("k ←", "pair before", False),
    ("Enter", "larger; Escape goes back", False),
    ("Space", "show the fixed image, or again the warped one", True),
    ("e", "edges on or off", True),
    ("p", "pass, and on to the next", False),
    ("f", "fail, and on to the next", False),
    ("u", "take the rating back", False),
    ("c", "comment; Enter or Escape goes back", False),
    ("s", "save the ratings", False),
    ("/", "search by name", False),
    ("?", "this help", True),
)
_TEXTS = ("name", "status", "reasons", "fixed", "moving", "inputs")
_COMPARED = ("correlation", "overlap", "ntg")  # before and after
_LINKS = {  # words → column of the table
    "picture": "picture",
    "warped image": "image",
    "labels": "labels",
    "transform": "transform",
}


class Measure(NamedTuple):
    """A measure of a pair that the page shows, sorts and filters by.

    Attributes:
        key: in the data of the page.
        label: in words.
        unit: behind its values.
        digits: after the point.
        best: what a perfect result would have; the farther away, the worse.
    """

    key: str
    label: str
    unit: str
    digits: int
    best: float


MEASURES = (
    Measure("correlation", "local correlation", "", 3, 1.0),
    Measure("overlap", "overlap", "", 3, 1.0),
    Measure("ntg", "NTG", "", 3, 0.0),
    Measure("rotation", "rotation", "°", 1, 0.0),
    Measure("scale", "relative size", "", 3, 1.0),
    Measure("translation", "shift", " mm", 1, 0.0),
)


def write_batch(
    folder: Path, results: Collection[results_csv.Result], *, remaining: int = 0
) -> None:
    """Replace the page of a batch, `index.html` in its folder.

    Args:
        folder: of the batch.
        results: its table.
        remaining: pairs that have no result yet.

    Raises:
        UserError: it cannot be written.
    """
    path = folder / PAGE
    page = {
        "key": _key(path),
        "remaining": remaining,
        "single": False,
        "pairs": [_describe(result, _link(result["thumbnail"])) for result in results],
    }
    with errors.explain_write_errors(folder):
        _write(path, page, _title(results))


def write_single(path: Path, result: results_csv.Result, picture: bytes) -> None:
    """Write the page of one pair.

    Args:
        path: of the page.
        result: of the pair; its files are relative to the page's folder.
        picture: of `thumbnail.encode`.

    Raises:
        OSError: it cannot be written.
    """
    source = f"data:image/webp;base64,{base64.b64encode(picture).decode('ascii')}"
    page = {"single": True, "pairs": [_describe(result, source)]}
    _write(path, page, _title([result]))


def _write(path: Path, page: Mapping[str, Any], title: str) -> None:
    single = page["single"]
    measures = [measure._asdict() for measure in MEASURES]
    text = _environment.get_template("review.html.jinja").render(
        title=title,
        data={**page, "measures": measures, "statuses": results_csv.STATUSES},
        single=single,
        convention=planes.CONVENTION,
        keys=[(keys.split(), does) for keys, does, one in _KEYS if one or not single],
        style=_read("review.css"),
        script=markupsafe.Markup("\n").join(map(_read, _SCRIPTS)),
    )
    # A file name may hold bytes that are not UTF-8.
    atomic.write_text(path, text, errors="backslashreplace")


def _describe(result: results_csv.Result, picture: str | None) -> dict[str, Any]:
    """A pair for the page's scripts."""
    number = {column: float(result[column] or "nan") for column in results_csv.MEASURES}
    values = {
        **{name: number[f"{name}_after"] for name in _COMPARED},
        "rotation": number["rotation_degrees"],
        "scale": math.cbrt(math.prod(number[f"scale_{axis}"] for axis in "xyz")),
        "translation": math.hypot(*(number[f"translation_{a}_mm"] for a in "xyz")),
    }
    before = {name: number[f"{name}_before"] for name in _COMPARED}
    links = {words: _link(result[column]) for words, column in _LINKS.items()}
    return {
        **{name: result[name] for name in _TEXTS},
        # A pair that was not registered has no measures.
        "values": json_file.finite(values),
        "before": json_file.finite(before),
        "rating": {name: result[name] for name in results_csv.RATING},
        "picture": picture,
        "links": {words: link for words, link in links.items() if link},
    }


def _link(path: str) -> str | None:
    """The address of a file, relative to the page; None without one."""
    return quote(os.fsencode(path)) if path else None


def _title(results: Collection[results_csv.Result]) -> str:
    fixed, moving = (
        {Path(result[role]).name for result in results} for role in ("fixed", "moving")
    )
    what = f"{len(results)} images" if len(results) != 1 else moving.pop()
    where = fixed.pop() if len(fixed) == 1 else f"{len(fixed)} others"
    return f"{what} on {where}"


def _key(path: Path) -> str:
    """Browsers keep the ratings of all pages of a disk together, so each has a name."""
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    return f"mdvit ratings {digest[:16]}"


def _read(name: str) -> markupsafe.Markup:
    """A file of this package as a part of the page."""
    file = importlib.resources.files("mdvit_jax.cli.review") / name
    return markupsafe.Markup(file.read_text(encoding="utf-8"))


_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("mdvit_jax.cli", "review"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
