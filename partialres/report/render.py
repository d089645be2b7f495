"""Write a report's table as Markdown and as one self-contained HTML page, and its unrounded numbers as CSV."""

import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from partialres.files import atomic, write_text

ABSENT = "–"
Column = tuple[str, str]  # group of columns (such as a split; empty for none), name
Cells = tuple[str, str, str, dict[str, str]]  # row group, row label, column group, text by column name


class Grid(NamedTuple):
    """One grid of cells under a heading. stub: headings of the two columns for row groups and row labels."""

    heading: str
    stub: tuple[str, str]
    columns: tuple[Column, ...]
    rows: dict[tuple[str, str], tuple[str, ...]]  # group (such as a ratio) and label -> a cell for each column
    strong: str = ""  # the label of the rows to emphasise


class Table(NamedTuple):
    """A report's table. data: the numbers, tidy and unrounded. notes: what was measured, how, and on how much data."""

    title: str
    notes: tuple[str, ...]
    grids: tuple[Grid, ...]
    data: pd.DataFrame


def arrange(heading: str, stub: tuple[str, str], cells: Iterable[Cells], strong: str = "") -> Grid:
    """Make a grid from cells, with rows and columns in order of first appearance and a dash for missing cells.

    strong: the label of the rows to emphasise.
    """
    lines: dict[tuple[str, str], dict[Column, str]] = {}
    for group, label, over, texts in cells:
        lines.setdefault((group, label), {}).update({(over, name): text for name, text in texts.items()})
    columns = tuple(dict.fromkeys(column for line in lines.values() for column in line))
    rows = {names: tuple(line.get(column, ABSENT) for column in columns) for names, line in lines.items()}
    return Grid(heading, stub, columns, rows, strong)


def write(table: Table, csv: Path) -> None:
    """Write a table as CSV and, beside it, as Markdown (.md) and HTML (.html), each atomically."""
    with atomic(csv) as temporary:
        table.data.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    write_text(to_markdown(table), csv.with_suffix(".md"))
    write_text(to_html(table), csv.with_suffix(".html"))


def number(value: float, decimals: int = 2, sign: str = "", unit: str = "") -> str:
    """Format a number, with a dash for NaN and a true minus sign. sign: "+" puts a plus before positive numbers."""
    return ABSENT if pd.isna(value) else format(value, f"{sign}.{decimals}f").replace("-", "−") + unit


def with_spread(mean: float, sd: float, decimals: int = 2) -> str:
    """Format mean ± sd, or the mean alone if the standard deviation is NaN."""
    return number(mean, decimals) + ("" if pd.isna(sd) else f" ± {number(sd, decimals)}")


def with_interval(value: float, low: float, high: float) -> str:
    """Format a gain with its sign, followed by its interval in brackets if there is one."""
    bounds = "" if pd.isna(low) else f" [{number(low)}, {number(high)}]"
    return number(value, sign="+") + bounds


def to_markdown(table: Table) -> str:
    """Format a table as GitHub-flavoured Markdown, with columns aligned in the source too."""
    lines = [f"# {_plain(table.title)}", ""]
    for note in table.notes:
        lines += [_plain(note), ""]
    for grid in table.grids:
        head = [*grid.stub, *(" ".join(column).strip() for column in grid.columns)]
        body = [
            [group, *(_bold(text, label == grid.strong, "**", "**") for text in (label, *cells))]
            for (group, label), cells in grid.rows.items()
        ]
        pipes = _pipes([[_plain(text) for text in row] for row in (head, *body)])
        lines += [f"## {_plain(grid.heading)}", "", *pipes, ""]
    return "\n".join(lines)


def _bold(text: str, strong: bool, start: str, end: str) -> str:
    return f"{start}{text}{end}" if strong and text != ABSENT else text


def _pipes(rows: list[list[str]]) -> list[str]:
    """Format rows, the head first, between pipes: two stub columns aligned left, others right; drop empty columns."""
    columns = [(place < 2, texts) for place, texts in enumerate(zip(*rows, strict=True)) if any(texts)]
    padded = []
    for left, (head, *body) in columns:
        width = max(3, *map(len, (head, *body)))
        rule = "-" * width if left else "-" * (width - 1) + ":"
        texts = (text.ljust(width) if left else text.rjust(width) for text in (head, *body))
        padded.append([next(texts), rule, *texts])
    return [f"| {' | '.join(cells)} |" for cells in zip(*padded, strict=True)]


def _plain(text: str) -> str:
    """Escape text for Markdown, so that no pipe ends a cell and no name with underscores turns italic."""
    return text.replace("|", "\\|").replace("_", "\\_").replace("<", "&lt;")


_CSS = """
:root { color-scheme: light dark; --text: #1c1f23; --soft: #5d666f; --page: #fff; --rule: #d5dade;
        --strong: #eaf2fb; --accent: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e7ea; --soft: #a0a9b2; --page: #16191c; --rule: #3a4148; --strong: #1d2b3a; --accent: #7db8f5; }
}
body { margin: 2rem auto; padding: 0 clamp(.6rem, 1.3vw, 1.25rem); max-width: 100rem;
       color: var(--text); background: var(--page);
       font: clamp(13px, 1.45vw, 15px)/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.45rem; margin: 0 0 .75rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { max-width: 62rem; margin: .4rem 0; color: var(--soft); } h2 ~ p { font-size: .93rem; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; border-bottom: 1px solid var(--text); }
th, td { padding: .28rem clamp(.25rem, .45vw, .7rem); text-align: right; vertical-align: top; font-weight: 400; }
thead { color: var(--soft); font-size: .87rem; border-bottom: 1px solid var(--text); }
thead th[colspan] { color: var(--text); font-weight: 600; text-align: center; }
thead tr:last-child th, tbody th { text-align: left; }
tbody th { min-width: 6.5rem; } tbody th:has(+ th) { min-width: 0; font-weight: 600; white-space: nowrap; }
tbody tr + tr:has(th + th) { border-top: 1px solid var(--rule); }
tr:has(b) > :not(:has(+ th)) { background: var(--strong); } b { font-weight: 600; } th b { color: var(--accent); }
"""


def to_html(table: Table) -> str:
    """Format a table as one self-contained HTML page for light and dark screens."""
    title, notes = escape(table.title), "".join(f"<p>{escape(note)}</p>\n" for note in table.notes)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_CSS}</style>
</head>
<body>
<h1>{title}</h1>
{"".join(map(_grid, table.grids))}<h2>Notes</h2>
{notes}</body>
</html>
"""


def _grid(grid: Grid) -> str:
    """Format a grid as HTML, leaving out the column of row groups and the line of column groups if they are empty."""
    names = [(escape(group), _bold(escape(label), label == grid.strong, "<b>", "</b>")) for group, label in grid.rows]
    cells = [
        [_bold(_breakable(text), label == grid.strong, "<b>", "</b>") for text in texts]
        for (_, label), texts in grid.rows.items()
    ]
    frame = pd.DataFrame(cells, pd.MultiIndex.from_tuples(names, names=map(escape, grid.stub)))
    frame.columns = pd.MultiIndex.from_tuples([tuple(map(_breakable, column)) for column in grid.columns])
    for axis in (0, 1):
        if not any(frame.axes[axis].get_level_values(0)):
            frame = frame.droplevel(0, axis=axis)
    with pd.option_context("display.max_colwidth", None, "display.multi_sparse", True):
        html = frame.to_html(escape=False, border=0)
    return f'<h2>{escape(grid.heading)}</h2>\n<div class="wide">{html}</div>\n'


def _breakable(text: str) -> str:
    """Escape a cell, which a narrow window may break before '±' and '[' and after '_', but nowhere else in a number."""
    kept = re.sub(r"(?<=[±,]) (?=[\d−])|(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", escape(text))
    return kept.replace("_", "_<wbr>")
