"""Rows of a CSV file whose first line names the columns, in any order.

Values are between commas; or, if the first line has none, between semicolons or tabs,
as spreadsheets write them. Excel's line "sep=," may come before.
"""

import codecs
import csv
import difflib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mdvit_jax import errors

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # nor any name of a file


def rows(
    path: Path, columns: Sequence[str], *, needed: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """The number (2 is the first) and the cells of every row that is not empty.

    Args:
        columns: all that mean something; others are ignored, but a near miss of one
            that is absent is an error.
        needed: those without which the file is wrong.

    Yields:
        The cells by column, of all `columns`, "" where there is none.

    Raises:
        UserError: no CSV file, a column is missing or there twice, a row has too many
            cells, or one that means something holds a line break or the like.
    """
    try:
        lines, comma, start = _read(path)
    except OSError as error:
        raise errors.UserError(
            f"{path} cannot be read ({error.strerror}); name a CSV file."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise errors.UserError(
            f"{path} cannot be read as a CSV file ({error}); save it as "
            "comma-separated UTF-8 text."
        ) from error
    if not lines:
        raise errors.UserError(
            f"{path} is empty; its first line must name the columns, of "
            f"{', '.join(columns)}."
        )
    names = [name.strip().lower() for name in lines[0]]
    for column in needed:
        if column not in names:
            raise errors.UserError(
                f"{path} has no column {column}; its first line must name the "
                f"columns, of {', '.join(columns)}."
            )
    for column in columns:
        if names.count(column) > 1:
            raise errors.UserError(
                f"{path} has {names.count(column)} columns called {column}; leave one."
            )
    for name in names:
        near = difflib.get_close_matches(name, columns, n=1, cutoff=0.8)
        if near and name not in columns and near[0] not in names:
            shown = _UNSEEN.sub("?", name)
            raise errors.UserError(
                f'{path} has a column "{shown}"; did you mean "{near[0]}"?'
            )
    for number, cells in enumerate(lines[1:], start=start + 1):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(names):
            raise errors.UserError(
                f"{path} has {len(cells)} values in row {number} but {len(names)} "
                f'columns; put values that hold a "{comma}" in quotes.'
            )
        row = dict.fromkeys(columns, "")
        row |= dict(zip(names, (cell.strip() for cell in cells), strict=False))
        for column in columns:
            if _UNSEEN.search(row[column]):
                raise errors.UserError(
                    f"{path} has a line break or another control character in the "
                    f"column {column} of row {number}; take it out."
                )
        yield number, row


def _read(path: Path) -> tuple[list[list[str]], str, int]:
    """The cells of all lines, what is between them, and the first line's number."""
    content = path.read_bytes()
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if utf16 else "utf-8-sig")
    first, _, rest = text.partition("\n")
    start, excel = 1, re.fullmatch(r'"?sep=([,;\t|])"?\s*', first, re.IGNORECASE)
    if excel:
        text, start = rest, 2
    comma = excel[1] if excel else next((c for c in ",;\t" if c in first), ",")
    # As a file would, the reader gets lines with their own ends.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)
    return list(reader), comma, start
