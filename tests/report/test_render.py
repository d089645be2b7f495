from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from partialres.report import render

GROUPED = render.arrange(
    "mIoU",
    ("masks", "model"),
    [
        ("1 %", "a|b<i>_c_", "val", {"mIoU": "1.00"}), ("1 %", "ours", "val", {"mIoU": "61.00 ± 1.41", "gain": "–"}),
        ("10 %", "ours", "test", {"mIoU": "3.00"}),
    ],
    strong="ours",
)  # fmt: skip
PLAIN = render.arrange("counts", ("", "split"), [("", "train", "", {"refs": "7"}), ("", "val", "", {"refs": "3"})])
TABLE = render.Table("A title", ("a note",), (GROUPED, PLAIN), pd.DataFrame({"x": [1 / 3], "y": ["z"]}))


def test_cells_are_arranged_as_they_come_with_a_dash_where_there_is_none() -> None:
    assert GROUPED.columns == (("val", "mIoU"), ("val", "gain"), ("test", "mIoU"))
    assert list(GROUPED.rows.items()) == [
        (("1 %", "a|b<i>_c_"), ("1.00", "–", "–")),
        (("1 %", "ours"), ("61.00 ± 1.41", "–", "–")),
        (("10 %", "ours"), ("–", "–", "3.00")),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (render.number(float("nan"), unit=" %"), "–"),
        (render.number(71.25, 1, unit=" %"), "71.2 %"),
        (render.number(-1.5), "−1.50"),
        (render.with_spread(2, float("nan")), "2.00"),
        (render.with_interval(2, -1, 3), "+2.00 [−1.00, 3.00]"),
        (render.with_interval(2, float("nan"), float("nan")), "+2.00"),
    ],
)
def test_figures_are_written_for_readers(text: str, expected: str) -> None:
    assert text == expected


def test_a_table_is_written_in_three_forms(tmp_path: Path) -> None:
    render.write(TABLE, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == "x,y\n0.333333,z\n"
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "| masks | model           |         val mIoU | val gain | test mIoU |" in lines
    assert "| 1 %   | **ours**        | **61.00 ± 1.41** |        – |         – |" in lines
    assert "| split | refs |" in lines  # a column with no text is left out
    assert "A title" in (tmp_path / "table.html").read_text()


def test_every_line_of_the_html_fills_its_grid() -> None:
    class Widths(HTMLParser):
        """The number of cells in each line; a cell that spans several lines counts in each of them."""

        def __init__(self) -> None:
            super().__init__()
            self.tables: list[list[int]] = []
            self.spans: list[tuple[int, int]] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            if tag == "table":
                self.tables.append([])
                self.spans = []
            elif tag == "tr":
                self.tables[-1].append(sum(wide for wide, _ in self.spans))
                self.spans = [(wide, tall - 1) for wide, tall in self.spans if tall > 1]
            elif tag in ("td", "th"):
                wide, tall = int(given.get("colspan") or 1), int(given.get("rowspan") or 1)
                self.tables[-1][-1] += wide
                if tall > 1:
                    self.spans.append((wide, tall - 1))

    parser = Widths()
    page = render.to_html(TABLE)
    parser.feed(page)
    assert [set(widths) for widths in parser.tables] == [{2 + 3}, {1 + 1}]
    assert "http" not in page  # the page needs no other file
    assert "prefers-color-scheme: dark" in page


def test_strong_rows_catch_the_eye_but_their_dashes_do_not() -> None:
    page = render.to_html(TABLE)
    line = "<th><b>ours</b></th><td><b>61.00 ±\N{NO-BREAK SPACE}1.41</b></td><td>–</td><td>–</td></tr>"
    assert line in "".join(text.strip() for text in page.splitlines())
    assert "<b>–</b>" not in page and "**–**" not in render.to_markdown(TABLE)


def test_names_from_a_config_cannot_break_the_page() -> None:
    assert "a|b&lt;i&gt;_c_" in render.to_html(TABLE)
    assert r"a\|b&lt;i>\_c\_" in render.to_markdown(TABLE)
