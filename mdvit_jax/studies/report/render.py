"""Write the files of a study, and the page of all studies in a folder.

A folder of results holds for each study NAME.csv (the records), NAME.md, one PNG for
each figure and NAME.json, from which `report.html` is rendered whenever one of its
studies is written. The page needs no other file: pictures are within it, and nothing is
loaded from elsewhere. No file holds a date, so equal results are equal files.
"""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import pandas as pd
from matplotlib.figure import Figure

from mdvit_jax import errors
from mdvit_jax.io import atomic
from mdvit_jax.plots import panels
from mdvit_jax.studies import STUDIES
from mdvit_jax.studies.report.section import Section, Table, escape_markdown

_BEST = re.compile(r"\*\*(.+?)\*\*")
_SECOND = re.compile(r"(?<!\w)_(.+?)_(?!\w)")  # not those within a name_like_this
_DEVIATION = re.compile(r"^(.+) (±.+)$")


def write_section(
    section: Section,
    folder: Path,
    *,
    name: str,
    records: pd.DataFrame,
    about: Mapping[str, str],
    command: str,
) -> None:
    """Write a section's files, then `report.html` of all sections in the folder.

    Each file is replaced as a whole.

    Args:
        section: what the study reports.
        folder: made if need be.
        name: of the study.
        records: of the cases.
        about: configuration and versions, name → value.
        command: the command line that writes the section again.

    Raises:
        UserError: files of another section are damaged; this section's are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for stem, figure in section.figures.items():
        panels.save_figure(figure, folder / f"{stem}.png")
        width = float(figure.get_figwidth())
        alt = describe_figure(figure) or stem
        pictures.append({"file": f"{stem}.png", "alt": alt, "inches": width})
    content = {
        "name": name,
        "title": section.title,
        "text": section.text,
        "tables": [table._asdict() for table in section.tables],
        "pictures": pictures,
        "about": dict(about),
        "command": command,
    }
    table_text = records.to_csv(index=False, float_format="%.9g", na_rep="nan")
    atomic.write_text(folder / f"{name}.csv", table_text)
    document = _environment.get_template("section.md.jinja").render(
        {**content, "tables": section.tables}
    )
    atomic.write_text(folder / f"{name}.md", document)
    # Last, so that the files that it names are there.
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    atomic.write_text(folder / f"{name}.json", text + "\n")
    atomic.write_text(folder / "report.html", render_page(folder))


def render_page(folder: Path) -> str:
    """The page of all studies that have a NAME.json in the folder, in their order.

    Raises:
        UserError: a file of a study is damaged or missing.
    """
    names = [name for name in STUDIES if (folder / f"{name}.json").exists()]
    sections = [_load(folder, name) for name in names]
    return _environment.get_template("report.html.jinja").render(sections=sections)


def describe_figure(figure: Figure) -> str:
    """What a figure shows, in the words that are drawn in it, for its `alt` text."""
    axes = figure.axes
    words = [figure.get_suptitle(), *(axis.get_title() for axis in axes)]
    words += [text.get_text() for text in figure.texts[:1]]
    parts = list(dict.fromkeys(word for word in words if word))
    if axes and axes[0].get_ylabel():
        over = f" over {axes[0].get_xlabel()}" if axes[0].get_xlabel() else ""
        parts.append(f"{axes[0].get_ylabel()}{over}")
    for legend in figure.legends:
        parts.append(", ".join(text.get_text() for text in legend.get_texts()))
    return "; ".join(parts)


def _load(folder: Path, name: str) -> dict[str, Any]:
    """The content of a section as the page shows it."""
    path = folder / f"{name}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["tables"] = [Table(**table) for table in content["tables"]]
        for picture in content["pictures"]:
            png = (folder / picture["file"]).read_bytes()
            picture["data"] = base64.b64encode(png).decode("ascii")
        return {
            key: content[key]
            for key in ("title", "text", "tables", "pictures", "about", "command")
        } | {"name": name}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.UserError(
            f"{path} or a picture that it names is damaged or missing; run the study "
            f"{name} again, or remove {name}.json to leave it out of the report."
        ) from error


def _mark(text: str) -> markupsafe.Markup:
    """Escaped text in which `**x**` is bold and `_x_` underlined."""
    escaped = str(markupsafe.escape(text))
    escaped = _SECOND.sub(r"<u>\1</u>", _BEST.sub(r"<b>\1</b>", escaped))
    return markupsafe.Markup(escaped)


def _mark_cell(text: str) -> markupsafe.Markup:
    """The same for a cell, in which `± x` at the end is small, as in the paper."""
    return markupsafe.Markup(_DEVIATION.sub(r"\1 <small>\2</small>", str(_mark(text))))


_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("mdvit_jax.studies", "report"),
    autoescape=lambda name: name == "report.html.jinja",
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_environment.filters |= {
    "mark": _mark,
    "mark_cell": _mark_cell,
    "escape_markdown": escape_markdown,
}
