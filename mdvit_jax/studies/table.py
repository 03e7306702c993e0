"""Tables of plain text for people, as Markdown and as HTML, with the best in bold."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from mdvit_jax.studies import html

_NUMBER = re.compile(r"[-+−±]?\.?\d")
_NO_VALUE = ("", "–", "—", "-")


class Table(NamedTuple):
    """A table of plain text, in which `**x**` is the best and `_x_` the second best.

    Columns are flush right where more than half of the cells that hold something begin
    with a number.

    Attributes:
        heads: of the columns.
        rows: each as long as the heads.
        note: below the table, paragraphs one a line.
        title: above the table.
    """

    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""
    title: str = ""

    def markdown(self) -> str:
        """Title, table and note as GitHub's Markdown; second bests are in italics."""
        rule = ["---:" if numeric else "---" for numeric in self._numeric()]
        lines = [self.heads, *self.rows]
        cells = [
            [markdown(text).replace("|", r"\|") for text in line] for line in lines
        ]
        cells.insert(1, rule)
        parts = [f"**{markdown(self.title)}**"] if self.title else []
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in cells))
        parts += [markdown(line) for line in self.note.splitlines()]
        return "\n\n".join(parts)

    def html(self) -> str:
        """The same; bests are bold and second bests underlined."""
        kinds = [' class="n"' if numeric else "" for numeric in self._numeric()]

        def line(cells: Sequence[str], *, scope: str) -> str:
            """A row of heads of columns, or one whose first cell is the head of it."""
            tags = [f'th scope="{scope}"'] * len(cells)
            if scope == "row":
                tags[1:] = ["td"] * (len(cells) - 1)
            filled = [
                f"<{tag}{kind}>{html.cell(text)}</{tag[:2]}>"
                for tag, kind, text in zip(tags, kinds, cells, strict=True)
            ]
            return f"<tr>{''.join(filled)}</tr>"

        title = f"<caption>{html.marked(self.title)}</caption>\n" if self.title else ""
        body = "\n".join(line(row, scope="row") for row in self.rows)
        return (
            '<div class="table"><div class="wide" tabindex="0"><table>\n'
            f"{title}<thead>{line(self.heads, scope='col')}</thead>\n"
            f"<tbody>\n{body}\n</tbody></table></div>\n"
            f"{html.paragraphs(self.note, 'note')}</div>"
        )

    def _numeric(self) -> list[bool]:
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.heads)
        numeric = []
        for column in columns:
            told = [text.lstrip("*_") for text in column if text not in _NO_VALUE]
            found = sum(bool(_NUMBER.match(text)) for text in told)
            numeric.append(not told or 2 * found > len(told))
        return numeric


def ranked(
    values: Sequence[float | None],
    texts: Sequence[str],
    *,
    lower_is_better: bool,
    digits: int,
) -> list[str]:
    """The cells of a column with marks at its best and second best values.

    Values are compared as they are shown. All that share the best place are marked as
    best, and as in sports there is no second place then; all that share the second
    place are marked as second. Where all values are the same none is marked.

    Args:
        values: numbers of the cells; None, NaN and infinite ones are never marked.
        texts: the cells; of "mean ± deviation" the mean is marked, as in the paper.
        digits: after the point, as in the texts.
    """
    shown = [
        float(f"{value:.{digits}f}")
        if value is not None and math.isfinite(value)
        else None
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


def markdown(text: str) -> str:
    """Plain text with our two marks, which are Markdown's as well."""
    text = " ".join(text.splitlines()).replace("<", r"\<").replace("`", r"\`")
    return re.sub(r"(?<!\*)\*(?!\*)", r"\*", text)  # a single star is itself
