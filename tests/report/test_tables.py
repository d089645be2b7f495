from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from partialres.files import DataError
from partialres.report import render, tables, words
from partialres.report.evaluations import collect, collect_pseudo
from partialres.report.intervals import read_scores

Write = Callable[..., Path]


def table1(paths: list[Path]) -> render.Table:
    return tables.table1(collect(paths), read_scores(paths))


def at(table: render.Table, **where: object) -> pd.Series:
    """The one row of a table's data where columns have these values."""
    data = table.data
    for column, value in where.items():
        data = data[data[column] == value]
    assert len(data) == 1, f"{len(data)} rows where {where}"
    return data.iloc[0]


def cell(table: render.Table, heading: str, group: str, label: str, column: tuple[str, str]) -> str:
    """What a reader finds in a grid."""
    grid = next(grid for grid in table.grids if grid.heading == heading)
    row = next(row for row in grid.rows if (row.group, row.label) == (group, label))
    return row.cells[grid.columns.index(render.Column(*column))]


def test_table1_holds_mean_deviation_gain_and_share_of_the_oracle(runs: list[Path]) -> None:
    table = table1(runs)
    final = at(table, split="val", ratio=10, experiment="ours", step="retrain", metric="mIoU")
    assert final["mean"] == pytest.approx(61.0)  # seeds 60 and 62
    assert final["sd"] == pytest.approx(np.std([60, 62], ddof=1))
    assert final["gain"] == pytest.approx(10.0)
    assert final["share_of_oracle"] == pytest.approx(100 * 61 / 80)
    assert (final["seeds"], final["expressions"], final["label"]) == (2, 200, "Ours, step 3 (final)")
    assert cell(table, "RefShapes: mIoU", "10 %", "Ours, step 3 (final)", ("val", "mIoU")) == "61.00 ± 1.41"
    assert cell(table, "RefShapes: mIoU", "10 %", "Ours, step 3 (final)", ("test", "of oracle")) == "74.7 %"
    assert cell(table, "RefShapes: mIoU", "10 %", "Ours, step 3 (final)", ("val", "gain")) == (
        f"+10.00 [{final['gain_low']:.2f}, {final['gain_high']:.2f}]"
    )
    assert 9 < final["gain_low"] < 10 < final["gain_high"] < 11


def test_table1_lists_every_step_and_the_two_rows_at_every_mask(runs: list[Path]) -> None:
    rows = [(row.group, row.label) for row in table1(runs).grids[0].rows]
    below = ["Baseline", "Ours, step 2", "Ours, step 3 (final)"]
    full = [("100 %", "Baseline"), ("100 %", "Oracle")]
    assert rows == [(ratio, label) for ratio in ("1 %", "10 %") for label in below] + full


def test_step_2_is_final_where_there_is_no_step_3(runs: list[Path]) -> None:
    table = table1([path for path in runs if "retrain" not in path.parts])
    assert at(table, split="val", ratio=1, experiment="ours", metric="mIoU")["label"] == "Ours, step 2 (final)"


def test_oiou_has_its_own_grids(runs: list[Path]) -> None:
    table = table1(runs)
    assert [grid.heading for grid in table.grids] == ["RefShapes: mIoU", "RefShapes: oIoU"]
    for grid, other in zip(table.grids, ("oIoU", "mIoU"), strict=True):
        assert all(column.name != other for column in grid.columns)
    assert cell(table, "RefShapes: oIoU", "1 %", "Baseline", ("val", "oIoU")) == "24.00 ± 1.41"
    assert cell(table, "RefShapes: oIoU", "10 %", "Ours, step 3 (final)", ("val", "gain")) == "+10.00"  # no interval


def test_gain_compares_the_same_seeds(scored: Write) -> None:
    paths = [
        scored("refshapes/seed0/ratio1/baseline/res", mIoU=30.0),
        scored("refshapes/seed1/ratio1/baseline/res", mIoU=50.0),
        scored("refshapes/seed1/ratio1/ours/res", mIoU=51.0),
    ]
    assert at(table1(paths), experiment="ours", metric="mIoU")["gain"] == pytest.approx(1.0)


def test_a_missing_baseline_is_named(runs: list[Path], scored: Write) -> None:
    without = [path for path in runs if not path.match("seed1/ratio10/baseline/res/val/metrics.json")]
    with pytest.raises(DataError, match=r"refshapes val.*refshapes/seed1/ratio10/baseline/res/val/metrics\.json"):
        table1(without)
    with pytest.raises(DataError, match="nothing to show"):
        table1([scored("refshapes/seed0/rec")])


def test_a_missing_oracle_leaves_the_share_blank(runs: list[Path]) -> None:
    table = table1([path for path in runs if "ratio100" not in path.parts])
    assert table.data["share_of_oracle"].isna().all()
    assert cell(table, "RefShapes: mIoU", "1 %", "Baseline", ("val", "of oracle")) == render.ABSENT
    assert any("oracle was not run" in note for note in table.notes)


def test_notes_tell_seeds_and_expressions(runs: list[Path]) -> None:
    notes = " ".join(table1(runs).notes)
    assert "their number: RefShapes 2" in notes
    assert "RefShapes val 200, test 300" in notes


def test_published_figures_stand_beside_ours_where_there_are_any(runs: list[Path], scored: Write) -> None:
    refcoco = [
        scored(f"refcoco/seed0/{run}", "testA")
        for run in (
            "ratio5/baseline/res",
            "ratio5/ours/retrain",
            "ratio100/baseline/res",
            "ratio100/ours/res",
        )
    ]
    table = table1([*runs, *refcoco])
    assert cell(table, "RefCOCO: mIoU", "5 %", "Ours, step 3 (final)", ("testA", "paper")) == "64.67"
    assert cell(table, "RefCOCO: mIoU", "100 %", "Baseline", ("testA", "paper")) == "69.79"
    assert cell(table, "RefCOCO: mIoU", "5 %", "Baseline", ("testA", "upstream")) == "52.00"
    names = {grid.heading: {column.name for column in grid.columns} for grid in table.grids}
    assert "paper" not in names["RefShapes: mIoU"]
    assert "paper" not in names["RefCOCO: oIoU"]
    assert at(table, dataset="refcoco", ratio=5, experiment="baseline", metric="mIoU")["published"] == 61.72


def test_published_gains_average_to_what_the_paper_states() -> None:
    table = words.published()
    assert not table.duplicated(["dataset", "split", "ratio", "experiment", "step", "metric"]).any()
    main = table[table["source"].str.startswith("Table 1")].set_index(["ratio", "experiment", "dataset", "split"])[
        "value"
    ]
    gains = {ratio: (main[ratio, "ours"] - main[ratio, "baseline"]).mean() for ratio in (1.0, 5.0, 10.0)}
    assert gains == pytest.approx({1.0: 3.0, 5.0: 2.4, 10.0: 3.5}, abs=0.05)


def test_details_hold_every_metric(runs: list[Path]) -> None:
    table = tables.table_details(collect(runs))
    names = [column.name for column in table.grids[0].columns]
    assert names[:2] == ["mIoU", "oIoU"]
    assert {"Pr@0.5", "Pr@0.9", "box_accuracy", "mIoU_upstream"} <= set(names)
    assert cell(table, "RefShapes val", "1 %", "ours, step 3", ("", "mIoU")) == "41.00 ± 1.41"
    assert cell(table, "RefShapes test", "1 %", "ours, step 2", ("", "Pr@0.7")) == "30.00 ± 0.00"


def test_step_1_is_told_by_its_boxes(scored: Write) -> None:
    paths = [scored(f"refcoco/seed{seed}/rec", box_accuracy=80.0 + seed) for seed in (0, 1)]
    table = tables.table_rec(collect([*paths, scored("refshapes/seed0/rec")]))
    assert cell(table, "Step 1", "RefCOCO", "val", ("", "box accuracy")) == "80.50 ± 0.71"
    assert cell(table, "Step 1", "RefCOCO", "val", ("", "SeqTR")) == "81.23"
    assert cell(table, "Step 1", "RefShapes", "val", ("", "SeqTR")) == render.ABSENT
    with pytest.raises(DataError, match="nothing to show"):
        tables.table_rec(collect([scored("refshapes/seed0/ratio1/ours/res")]))


def test_the_mask_heads_boxes_have_a_row_of_their_own_without_a_published_figure(scored: Write) -> None:
    paths = [scored("refcoco/seed0/rec"), scored("refcoco/seed0/rec_mask", box_accuracy=77.0)]
    table = tables.table_rec(collect(paths))
    assert cell(table, "Step 1", "RefCOCO", "val", ("", "box accuracy")) == "80.00"
    assert cell(table, "Step 1", "RefCOCO, mask head", "val", ("", "box accuracy")) == "77.00"
    assert cell(table, "Step 1", "RefCOCO, mask head", "val", ("", "SeqTR")) == render.ABSENT
    assert table.data.loc[table.data["experiment"] == "mask head", "published"].isna().all()


def test_pseudo_masks_are_told_by_share_and_true_iou(selected: Write) -> None:
    paths = [selected(f"refshapes/seed{seed}/ratio1/ours", kept_share=25.0 + seed) for seed in (0, 1)]
    none = selected("refshapes/seed0/ratio5/ours", kept=0, kept_share=0.0, true_iou_kept=None)
    table = tables.table_pseudo(collect_pseudo([*paths, none]))
    assert cell(table, "RefShapes", "1 %", "ours", ("", "kept, %")) == "25.5 ± 0.7"
    assert cell(table, "RefShapes", "1 %", "ours", ("", "pseudo masks")) == "1,000"
    assert cell(table, "RefShapes", "5 %", "ours", ("", "true IoU of the kept")) == render.ABSENT


def test_the_same_results_give_the_same_files(runs: list[Path], tmp_path: Path) -> None:
    def write(paths: list[Path], name: str) -> list[bytes]:
        files = [tmp_path / f"{name}.{suffix}" for suffix in ("csv", "md", "html")]
        render.write(table1(paths), *files)
        return [file.read_bytes() for file in files]

    assert write(runs, "first") == write(runs[::-1], "second")


def test_the_csv_holds_the_data_and_the_markdown_the_grid(runs: list[Path], tmp_path: Path) -> None:
    table = table1(runs)
    csv, markdown, html = (tmp_path / f"table1.{suffix}" for suffix in ("csv", "md", "html"))
    render.write(table, csv, markdown, html)
    read = pd.read_csv(csv)
    assert list(read.columns) == list(table.data.columns)
    assert read["mean"].tolist() == pytest.approx(table.data["mean"].tolist(), abs=1e-3)
    lines = [line for line in markdown.read_text().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert any(
        re.match(r"\| 10 % *\| \*\*Ours, step 3 \(final\)\*\* *\| *\*\*61\.00 ± 1\.41\*\*", line) for line in lines
    )


def test_every_line_of_the_html_fills_its_grid(runs: list[Path], tmp_path: Path) -> None:
    class Widths(HTMLParser):
        """Cells of each line, a cell that spans several lines counted in each."""

        def __init__(self) -> None:
            super().__init__()
            self.tables: list[list[int]] = []
            self.spans: list[tuple[int, int]] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "table":
                self.tables.append([])
                self.spans = []
            elif tag == "tr":
                self.tables[-1].append(sum(wide for wide, _ in self.spans))
                self.spans = [(wide, tall - 1) for wide, tall in self.spans if tall > 1]
            elif tag in ("td", "th"):
                known = dict(attrs)
                wide, tall = int(known.get("colspan") or 1), int(known.get("rowspan") or 1)
                self.tables[-1][-1] += wide
                if tall > 1:
                    self.spans.append((wide, tall - 1))

    parser = Widths()
    page = render.to_html(table1(runs))
    parser.feed(page)
    assert len(parser.tables) == 2
    assert all(set(widths) == {2 + 2 * 3} for widths in parser.tables)
    assert "http" not in page  # it needs nothing else
    assert "prefers-color-scheme: dark" in page


def test_names_from_a_config_cannot_break_the_page(scored: Write) -> None:
    paths = [scored(f"refshapes/seed0/ratio1/{name}/res") for name in ("baseline", "a|b<i>_c_")]
    table = table1(paths)
    assert "a|b&lt;i&gt;_c_, step 2" in render.to_html(table)
    assert r"a\|b&lt;i>\_c\_, step 2" in render.to_markdown(table)
