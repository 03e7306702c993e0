"""Studies by name: which there are, what each compares, and what they leave behind."""

import csv
import dataclasses
import importlib
import io
import math
from collections.abc import Sequence

from mdvit_jax.studies import STUDIES, cases, section
from mdvit_jax.studies.case import Case

# Of the classical methods, these studies take `register` alone unless they are told
# otherwise: their many cases would take the others hours.
WITH_REGISTER = "contrast", "rotation", "similarity", "known_affine"


def run(name: str, setting: cases.Setting, *, command: str) -> str:
    """Run a study; return its tables as Markdown.

    It writes NAME.csv, NAME.md, its pictures and NAME.json into the output folder, and
    report.html is made anew from all that lie there.

    Args:
        command: what it was started with, for the report.

    Raises:
        Lacking: it compares what is not there.
    """
    module = importlib.import_module(f"mdvit_jax.studies.{name}")
    made, found = module.run(setting)
    section.write(
        made,
        setting.output,
        rows=_csv(found),
        about=setting.about,
        command=command,
        order=tuple(STUDIES),
    )
    return "\n\n".join(table.markdown() for table in made.tables)


def _csv(found: Sequence[Case]) -> str:
    """A row for each case; a column for each region."""
    fields = [
        field.name
        for field in dataclasses.fields(Case)
        if field.name not in ("regions", "matrix", "mm")
    ]
    if any(math.isfinite(case.mm) for case in found):
        fields.append("mm")
    names = list(dict.fromkeys(name for case in found for name in case.regions))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    heads = [f"dice_{name.replace(' ', '_')}" for name in names]
    rows.writerow([*fields, *heads, "matrix"])
    for case in found:
        values = [_text(getattr(case, name)) for name in fields]
        values += [_text(case.regions.get(name, float("nan"))) for name in names]
        rows.writerow([*values, " ".join(map(_text, case.matrix))])
    return text.getvalue()


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.9g}"
