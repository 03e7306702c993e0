"""What a study reports: tables and figures in files of its own and in one common page.

A folder of results holds for each study NAME.csv (the cases), NAME.md, one PNG for each
figure and NAME.json, from which `report.html` is made anew whenever one of its studies
is written. No file holds a date, so equal results are equal files.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from mdvit_jax import errors
from mdvit_jax.io import atomic
from mdvit_jax.plots import panels
from mdvit_jax.studies import html, table
from mdvit_jax.studies.table import Table, ranked

__all__ = ["Section", "Table", "ranked", "write"]


class Section(NamedTuple):
    """What one study reports.

    Attributes:
        name: of the study and of its files, such as "table1".
        title: the heading.
        text: what this is, of how many cases, and what in the paper it is like;
            paragraphs one a line.
        tables: in order.
        figures: stem of the file → figure. Stems are the folder's, not the section's,
            so they begin with the section's name.
    """

    name: str
    title: str
    text: str
    tables: list[Table]
    figures: dict[str, Figure]


def write(
    section: Section,
    folder: str | Path,
    *,
    rows: str,
    about: Mapping[str, str],
    command: str,
    order: Sequence[str],
) -> None:
    """Write a section's files, then `report.html` of all sections in the folder.

    Each file is replaced as a whole. UserError where another section's files are
    damaged; this section's are written even so.

    Args:
        folder: made if need be.
        rows: the cases as CSV.
        about: configuration and versions, name → value.
        command: makes the section anew.
        order: names of all studies; the report has those that the folder has.
    """
    if section.name not in order:
        raise ValueError(f"{section.name} is none of the studies {', '.join(order)}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for stem, figure in section.figures.items():
        panels.save_figure(figure, folder / f"{stem}.png")
        seen = {"alt": _told(figure) or stem, "inches": float(figure.get_figwidth())}
        pictures.append({"file": f"{stem}.png", **seen})
    kept = {
        **section._asdict(),
        "tables": [one._asdict() for one in section.tables],
        "figures": pictures,
        "about": dict(about),
        "command": command,
    }
    atomic.write_text(folder / f"{section.name}.csv", rows)
    atomic.write_text(folder / f"{section.name}.md", _document(kept, section.tables))
    # Last, so that what it names is there.
    text = json.dumps(kept, indent=1, ensure_ascii=False, allow_nan=False)
    atomic.write_text(folder / f"{section.name}.json", text + "\n")
    there = [name for name in order if (folder / f"{name}.json").exists()]
    page = html.page([_shown(folder, name) for name in there])
    atomic.write_text(folder / "report.html", page)


def _shown(folder: Path, name: str) -> html.Shown:
    """A section as its files have it."""
    path = folder / f"{name}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        tables = [Table(**one).html() for one in kept["tables"]]
        pictures = [
            html.Picture(
                str(one["file"]),
                str(one["alt"]),
                float(one["inches"]),
                _png(folder / one["file"], name),
            )
            for one in kept["figures"]
        ]
        return html.Shown(
            name,
            str(kept["title"]),
            str(kept["text"]),
            tables,
            pictures,
            {key: str(value) for key, value in kept["about"].items()},
            str(kept["command"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.UserError(
            f"{path} is damaged; run the study {name} again, or remove the file to "
            "leave that study out of the report."
        ) from error


def _png(path: Path, name: str) -> bytes:
    data = path.read_bytes() if path.is_file() else b""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        wrong = "is not a PNG picture" if data else "is missing"
        raise errors.UserError(
            f"{path}, a picture of the study {name}, {wrong}; run that study again, "
            f"or remove {name}.json to leave it out of the report."
        )
    return data


def _document(kept: dict, tables: Sequence[Table]) -> str:
    """NAME.md."""
    parts = [f"# {table.markdown(kept['title'])}"]
    about = [f"- {table.markdown(f'{key}: {v}')}" for key, v in kept["about"].items()]
    parts += ["\n".join(about)] if about else []
    parts += [
        table.markdown(line) for line in kept["text"].splitlines() if line.strip()
    ]
    parts += [one.markdown() for one in tables]
    for one in kept["figures"]:
        alt = re.sub(r"[\[\]\n]", " ", one["alt"])
        parts.append(f"![{alt}](<{one['file']}>)")
    parts.append(f"```sh\n{kept['command']}\n```")
    return "\n\n".join(parts) + "\n"


def _told(figure: Figure) -> str:
    """What a figure shows, in the words that are drawn in it."""
    axes = figure.axes
    words = [figure.get_suptitle(), *(axis.get_title() for axis in axes)]
    words += [text.get_text() for text in figure.texts[:1]]
    names = list(dict.fromkeys(word for word in words if word))
    if axes and axes[0].get_ylabel():
        over = f" over {axes[0].get_xlabel()}" if axes[0].get_xlabel() else ""
        names.append(f"{axes[0].get_ylabel()}{over}")
    for legend in figure.legends:
        names.append(", ".join(text.get_text() for text in legend.get_texts()))
    return "; ".join(names)
