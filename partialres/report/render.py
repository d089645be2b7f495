"""A table for reading, as Markdown and as one self-contained HTML page, beside its figures for machines as
CSV.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path

import pandas as pd

from partialres.files import atomic, write_text

ABSENT = "–"


@dataclass(frozen=True)
class Column:
    """A column of figures and the group it stands in (a split, say; empty for none)."""

    group: str
    name: str


@dataclass(frozen=True)
class Row:
    """A line: the group it stands in (a ratio, say), its label, a cell for each column; `strong` ones catch
    the eye.
    """

    group: str
    label: str
    cells: tuple[str, ...]
    strong: bool = False


@dataclass(frozen=True)
class Grid:
    """One grid of cells under a heading. stub: what the rows' groups and labels are."""

    heading: str
    stub: tuple[str, str]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A report's table. data: the figures, tidy, unrounded. notes: what is measured, how, on how much."""

    title: str
    notes: tuple[str, ...]
    grids: tuple[Grid, ...]
    data: pd.DataFrame


def write(table: Table, csv: Path, markdown: Path, html: Path) -> None:
    """Write a table in its three forms, each atomically."""
    with atomic(csv) as temporary:
        table.data.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    write_text(to_markdown(table), markdown)
    write_text(to_html(table), html)


def number(value: float, decimals: int = 2, sign: bool = False) -> str:
    """A figure as text; a dash for NaN, a true minus sign for negatives."""
    if pd.isna(value):
        return ABSENT
    return format(value, f"{'+' if sign else ''}.{decimals}f").replace("-", "−")


def with_spread(mean: float, sd: float, decimals: int = 2) -> str:
    """mean ± sd, or the mean alone where the standard deviation is NaN."""
    return number(mean, decimals) + ("" if pd.isna(sd) else f" ± {number(sd, decimals)}")


def with_interval(value: float, low: float, high: float) -> str:
    """A gain with its sign and its interval in brackets, or alone where there is none."""
    bounds = "" if pd.isna(low) else f" [{number(low)}, {number(high)}]"
    return number(value, sign=True) + bounds


def to_markdown(table: Table) -> str:
    """The table as GitHub-flavoured Markdown, its columns aligned in the source too."""
    lines = [f"# {_plain(table.title)}", ""]
    for note in table.notes:
        lines += [_plain(note), ""]
    for grid in table.grids:
        lines += [f"## {_plain(grid.heading)}", ""]
        head = [*grid.stub, *(f"{column.group} {column.name}".strip() for column in grid.columns)]
        body = [[row.group, *_bold([row.label, *row.cells], row.strong)] for row in grid.rows]
        lines += [
            *_pipes([_plain(text) for text in head], [[_plain(text) for text in row] for row in body]),
            "",
        ]
    return "\n".join(lines)


def _bold(texts: list[str], strong: bool) -> list[str]:
    return [f"**{text}**" if strong and text != ABSENT else text for text in texts]


def _pipes(head: list[str], body: list[list[str]]) -> list[str]:
    kept = [place for place in range(len(head)) if head[place] or any(row[place] for row in body)]
    head, body = [head[place] for place in kept], [[row[place] for place in kept] for row in body]
    left = sum(place < 2 for place in kept)  # the stub is aligned left, figures right
    widths = [max(3, *(len(row[place]) for row in [head, *body])) for place in range(len(head))]

    def line(cells: list[str]) -> str:
        padded = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if place < left else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    return [line(head), line(rule), *map(line, body)]


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is: no pipe ends a cell, no name with underscores turns italic."""
    return text.replace("|", "\\|").replace("_", "\\_").replace("<", "&lt;")


_CSS = """
:root { color-scheme: light dark; --text: #1c1f23; --soft: #5d666f; --page: #fff; --rule: #d5dade;
        --strong: #eaf2fb; --accent: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e7ea; --soft: #a0a9b2; --page: #16191c; --rule: #3a4148; --strong: #1d2b3a;
          --accent: #7db8f5; }
}
body { margin: 2rem auto; padding: 0 1.25rem; max-width: 100rem; color: var(--text); background: var(--page);
       font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.45rem; margin: 0 0 .75rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { max-width: 62rem; margin: .4rem 0; color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; text-align: right; white-space: nowrap; font-weight: 400; }
thead th { color: var(--soft); font-size: .87rem; vertical-align: bottom; }
thead th.group { color: var(--text); font-weight: 600; text-align: center;
                 border-bottom: 1px solid var(--rule); }
thead tr:last-child th, thead th.stub { border-bottom: 1px solid var(--text); }
thead th.stub, tbody th { text-align: left; }
tbody th.group { font-weight: 600; vertical-align: top; }
tbody + tbody tr:first-child > * { border-top: 1px solid var(--rule); }
tbody:last-child tr:last-child > *, tbody:last-child th.group { border-bottom: 1px solid var(--text); }
.first { padding-left: 1.6rem; }
tr.strong > :not(.group) { background: var(--strong); font-weight: 600; }
tr.strong > th:not(.group) { color: var(--accent); }
""".strip()


def to_html(table: Table) -> str:
    """The table as one HTML page that needs nothing else and suits light and dark screens."""
    notes = "\n".join(f"<p>{escape(note)}</p>" for note in table.notes)
    grids = "\n".join(map(_grid, table.grids))
    title = escape(table.title)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{_CSS}
</style>
</head>
<body>
<h1>{title}</h1>
{notes}
{grids}
</body>
</html>
"""


def _grid(grid: Grid) -> str:
    grouped_rows = any(row.group for row in grid.rows)
    starts = [not place or grid.columns[place - 1].group != column.group for place, column in enumerate(grid.columns)]
    body = []
    for group, members in groupby(grid.rows, key=lambda row: row.group):
        lines = []
        rows = list(members)
        for place, row in enumerate(rows):
            stub = f'<th class="group" rowspan="{len(rows)}">{escape(group)}</th>' if grouped_rows and not place else ""
            cells = "".join(
                f"<td{_class('first' if start else '')}>{escape(cell)}</td>"
                for cell, start in zip(row.cells, starts, strict=True)
            )
            strong = _class("strong" if row.strong else "")
            lines.append(f'<tr{strong}>{stub}<th scope="row">{escape(row.label)}</th>{cells}</tr>')
        body.append("<tbody>\n" + "\n".join(lines) + "\n</tbody>")
    head = _head(grid, grouped_rows, starts)
    return (
        f'<h2>{escape(grid.heading)}</h2>\n<div class="wide"><table>\n<thead>\n{head}\n</thead>\n'
        + "\n".join(body)
        + "\n</table></div>"
    )


def _head(grid: Grid, grouped_rows: bool, starts: list[bool]) -> str:
    grouped = any(column.group for column in grid.columns)
    stub = "".join(
        f'<th class="stub"{" rowspan=2" if grouped else ""}>{escape(name)}</th>'
        for name in (grid.stub if grouped_rows else grid.stub[1:])
    )
    names = "".join(
        f"<th{_class('first' if start else '')}>{escape(column.name)}</th>"
        for column, start in zip(grid.columns, starts, strict=True)
    )
    if not grouped:
        return f"<tr>{stub}{names}</tr>"
    groups = "".join(
        f'<th class="group" colspan="{len(list(members))}">{escape(group)}</th>'
        for group, members in groupby(grid.columns, key=lambda column: column.group)
    )
    return f"<tr>{stub}{groups}</tr>\n<tr>{names}</tr>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
