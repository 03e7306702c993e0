"""The report of all studies as one page that needs nothing beside it.

Pictures are within the page and nothing is loaded from elsewhere, which the page also
forbids to its reader's browser. All text is escaped; `marked` knows the two marks.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

_BEST = re.compile(r"\*\*(.+?)\*\*")
_SECOND = re.compile(r"(?<!\w)_(.+?)_(?!\w)")  # not those within a name_like_this
_SPREAD = re.compile(r"^(.+) (±.+)$")


class Picture(NamedTuple):
    """A picture of a section.

    Attributes:
        file: its name beside the report.
        alt: what is to be seen there, for those who do not see it.
        inches: how wide it is meant to be.
        png: its bytes.
    """

    file: str
    alt: str
    inches: float
    png: bytes


class Shown(NamedTuple):
    """A section as the page shows it.

    Attributes:
        name: of the study, and the place that links lead to.
        title: the heading.
        text: paragraphs, one a line.
        tables: each already in HTML.
        pictures: in order.
        about: configuration and versions, name → value.
        command: makes the section anew.
    """

    name: str
    title: str
    text: str
    tables: Sequence[str]
    pictures: Sequence[Picture]
    about: Mapping[str, str]
    command: str


def page(sections: Sequence[Shown]) -> str:
    """The whole page, with a table of contents."""
    contents = "\n".join(
        f'<li><a href="#{escape(one.name)}">{escape(one.title)}</a></li>'
        for one in sections
    )
    body = "\n".join(_section(one) for one in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{_TITLE}</title>
<style>{_CSS}</style>
</head>
<body>
<header>
<h1>{_TITLE}</h1>
<nav aria-label="Contents"><ol>
{contents}
</ol></nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def marked(text: str) -> str:
    """Escaped text in which `**x**` is bold and `_x_` underlined."""
    return _SECOND.sub(r"<u>\1</u>", _BEST.sub(r"<b>\1</b>", escape(text)))


def cell(text: str) -> str:
    """The same for a cell, in which `± x` at the end is set back, as in the paper."""
    return _SPREAD.sub(r"\1 <small>\2</small>", marked(text))


def paragraphs(text: str, kind: str = "") -> str:
    """Marked text, each line of it a paragraph, of a CSS class if one is named."""
    start = f'<p class="{kind}">' if kind else "<p>"
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(f"{start}{marked(line)}</p>" for line in lines)


def _section(one: Shown) -> str:
    name = escape(one.name)
    parts = [
        f'<section id="{name}" aria-labelledby="{name}-title">',
        f'<h2 id="{name}-title">{escape(one.title)}</h2>',
        paragraphs(one.text),
        *one.tables,
        *(_picture(picture) for picture in one.pictures),
        _details(one),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f'<figure><img style="width:{picture.inches:g}in" alt="{escape(picture.alt)}"'
        f' src="data:image/png;base64,{data}">\n'
        f"<figcaption>{escape(picture.file)}</figcaption></figure>"
    )


def _details(one: Shown) -> str:
    rows = "\n".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        for name, value in one.about.items()
    )
    return f"""<details>
<summary>Configuration, versions and command</summary>
<dl>
{rows}
<dt>values of each case</dt><dd>{escape(one.name)}.csv</dd>
</dl>
<pre><code>{escape(one.command)}</code></pre>
</details>"""


_TITLE = "Studies of affine brain-MRI registration"
_CSS = """
:root { --ink: #1d1f23; --paper: #fff; --faint: #5f6570; --rule: #c9cdd4;
  --soft: #f4f5f7; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e7ea; --paper: #16181c; --faint: #a0a5b0; --rule: #42464f;
    --soft: #20232a; --link: #7db8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 2.5rem 1.25rem 4rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 0 0 .6rem; }
a { color: var(--link); }
nav ol { margin: 0; padding-left: 1.4rem; }
section { margin-top: 2.5rem; padding-top: 1.75rem; border-top: 1px solid var(--rule); }
p { max-width: 46rem; margin: 0 0 .8rem; }
p.note, figcaption { color: var(--faint); font-size: .85rem; }
p.note { margin: 0 0 .3rem; }
.table { margin: 1.25rem 0; }
.wide { overflow-x: auto; margin-bottom: .5rem; }
table { border-collapse: collapse; font-size: .93rem; line-height: 1.35;
  border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .32rem .6rem; text-align: left; white-space: nowrap; }
thead th { border-bottom: 1px solid var(--ink); vertical-align: bottom; }
tbody th { font-weight: 400; }
tr > :first-child { position: sticky; left: 0; background: var(--paper); }
tbody tr:hover > * { background: var(--soft); }
.n { text-align: right; font-variant-numeric: tabular-nums; }
td small { color: var(--faint); font-size: .82em; }
u { text-underline-offset: .2em; }
figure { margin: 1.25rem 0; }
img { display: block; max-width: 100%; height: auto; background: #fff;
  border-radius: 4px; }
figcaption { margin-top: .3rem; font-family: ui-monospace, Consolas, monospace; }
details { margin-top: 1.25rem; font-size: .9rem; }
summary { cursor: pointer; color: var(--faint); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem;
  margin: .75rem 0; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
pre { margin: 0; padding: .7rem .9rem; background: var(--soft); border-radius: 4px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  dl { grid-template-columns: 1fr; }
  dd { margin: 0 0 .4rem; } }
@media print {
  :root { --ink: #000; --paper: #fff; --faint: #444; --rule: #999; --soft: #f4f5f7; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  table { font-size: 8.5pt; }
  th, td { padding: .2rem .45rem; white-space: normal; }
  .wide { overflow: visible; }
  h2, caption, section > p { break-after: avoid; }
  tr, figure, pre { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
