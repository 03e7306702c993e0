"""A section of the report: text, tables of plain text, and figures."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure


class Table(NamedTuple):
    """A table of plain text, in which `**x**` is the best and `_x_` the second best.

    Attributes:
        heads: of the columns; the first column names the rows.
        rows: each as long as the heads.
        note: below the table.
        title: above the table.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    title: str = ""

    def to_markdown(self) -> str:
        """Title, table and note as GitHub's Markdown; second bests are in italics."""
        lines = [
            "| " + " | ".join(escape_markdown(text).replace("|", r"\|") for text in row)
            for row in (self.heads, *self.rows)
        ]
        lines.insert(1, "| ---" + " | ---:" * (len(self.heads) - 1))
        title = f"**{escape_markdown(self.title)}**" if self.title else ""
        body = "".join(f"{line} |\n" for line in lines).rstrip()
        return "\n\n".join(filter(None, [title, body, escape_markdown(self.note)]))


class Section(NamedTuple):
    """What one study reports.

    Attributes:
        title: the heading.
        text: what was done, on how many cases, and what of the paper it repeats.
        tables: in order.
        figures: stem of the file, which begins with the study's name → figure.
    """

    title: str
    text: str
    tables: Sequence[Table]
    figures: Mapping[str, Figure] = {}


def mark_ranks(
    values: Sequence[float | None],
    texts: Sequence[str],
    *,
    lower_is_better: bool,
    digits: int,
) -> list[str]:
    """Mark the best and the second best cells of a column.

    Values are compared as rounded for display. All that share the best place are marked
    as best, and there is no second place then; all that share the second
    place are marked as second. Where all values are equal, none is marked.

    Args:
        values: numbers of the cells; None, NaN and infinite ones are never marked.
        texts: the cells; of "mean ± deviation" the mean is marked, as in the paper.
        lower_is_better: whether the lowest value is the best one.
        digits: after the point, as in the texts.
    """
    shown = [
        round(value, digits) if value is not None and math.isfinite(value) else None
        for value in values
    ]
    numbers = sorted({n for n in shown if n is not None}, reverse=not lower_is_better)
    if len(numbers) < 2:
        return list(texts)
    best, second, *_ = numbers
    marks = {best: "**"}
    if shown.count(best) == 1:
        marks[second] = "_"
    cells = []
    for number, text in zip(shown, texts, strict=True):
        mark = marks.get(number, "") if number is not None else ""
        mean, sign, deviation = text.partition(" ±")
        cells.append(f"{mark}{mean}{mark}{sign}{deviation}")
    return cells


def escape_markdown(text: str) -> str:
    """One line of Markdown that shows the text, with the two marks of `Table`."""
    text = " ".join(text.splitlines()).replace("<", r"\<").replace("`", r"\`")
    return re.sub(r"(?<!\*)\*(?!\*)", r"\*", text)  # a single star is itself
