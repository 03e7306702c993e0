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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
import markupsafe

from mdvit_jax.cli.batch import results_csv
from mdvit_jax.io import atomic
from mdvit_jax.plots import planes

PAGE, PICTURES = "index.html", "pictures"  # in the folder of a batch
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
    ("c", "comment; Enter goes back", False),
    ("s", "save the ratings", False),
    ("/", "search by name", False),
    ("?", "this help", True),
)


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


class Pair(NamedTuple):
    """A result and its files.

    Attributes:
        result: its row of the table.
        picture: of `qc.encode_strips`, as the page's `src`; None without one.
        links: words → address of a file, relative to the page.
    """

    result: results_csv.Result
    picture: str | None
    links: Mapping[str, str]


def write(
    path: Path,
    pairs: Sequence[Pair],
    *,
    remaining: int = 0,
    single: bool = False,
) -> None:
    """Replace the page.

    Args:
        path: of the page; the ratings that a browser keeps are found again by it.
        pairs: what it shows.
        remaining: pairs of the batch that have no result yet.
        single: whether it is the page of one pair, which is not rated.

    Raises:
        OSError: it cannot be written.
    """
    atomic.write_text(
        path,
        render(pairs, key=_key(path), remaining=remaining, single=single),
        errors="backslashreplace",
    )


def render(
    pairs: Sequence[Pair], *, key: str, remaining: int = 0, single: bool = False
) -> str:
    """The page as a text.

    Args:
        pairs: what it shows.
        key: under which a browser keeps the ratings.
        remaining: pairs of the batch that have no result yet.
        single: whether it is the page of one pair, which is not rated.
    """
    data = {
        "key": key,
        "remaining": remaining,
        "single": single,
        "measures": [measure._asdict() for measure in MEASURES],
        "statuses": results_csv.STATUSES,
        "pairs": [_describe(pair) for pair in pairs],
    }
    return _environment.get_template("review.html.jinja").render(
        title=_title(pairs),
        data=data,
        single=single,
        convention=planes.CONVENTION,
        keys=[
            (keys.split(), does) for keys, does, always in _KEYS if always or not single
        ],
        style=_read("review.css"),
        script=markupsafe.Markup("\n").join(map(_read, _SCRIPTS)),
    )


def file_link(path: Path, folder: Path) -> str:
    """The address of a file, relative to a page in `folder`."""
    # Of a name that is not UTF-8 the bytes are kept.
    return quote(os.fsencode(os.path.relpath(path, folder)))


def embed_picture(picture: bytes) -> str:
    """A WebP file as the `src` of an image."""
    return f"data:image/webp;base64,{base64.b64encode(picture).decode('ascii')}"


def _describe(pair: Pair) -> dict[str, Any]:
    """A pair for the page's scripts."""
    result = pair.result
    cells = {
        name: _number(result[name])
        for name in results_csv.COLUMNS
        if name.endswith(("_before", "_after", "_degrees", "_mm")) or "scale_" in name
    }
    scales = [cells[f"scale_{axis}"] for axis in "xyz"]
    shifts = [cells[f"translation_{axis}_mm"] for axis in "xyz"]
    values = {
        "correlation": cells["correlation_after"],
        "overlap": cells["overlap_after"],
        "ntg": cells["ntg_after"],
        "rotation": cells["rotation_degrees"],
        "scale": None if None in scales else math.prod(scales) ** (1 / 3),
        "translation": None if None in shifts else math.hypot(*shifts),
    }
    before = {
        name: cells[f"{name}_before"] for name in ("correlation", "overlap", "ntg")
    }
    text = {
        name: result[name]
        for name in ("name", "status", "reasons", "fixed", "moving", "inputs")
    }
    rating = {name: result[name] for name in results_csv.RATING}
    return text | {
        "values": values,
        "before": before,
        "rating": rating,
        "picture": pair.picture,
        "links": dict(pair.links),
    }


def _number(cell: str) -> float | None:
    value = float(cell or "nan")
    return value if math.isfinite(value) else None


def _title(pairs: Sequence[Pair]) -> str:
    fixed = {Path(pair.result["fixed"]).name for pair in pairs}
    if len(pairs) == 1:
        return f"{Path(pairs[0].result['moving']).name} on {fixed.pop()}"
    if len(fixed) == 1:
        return f"{len(pairs)} images on {fixed.pop()}"
    return f"{len(pairs)} pairs of images"


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
