from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from partialres.files import DataError
from partialres.report import captions, comparison, render
from partialres.report.evaluations import collect, collect_selections
from partialres.report.intervals import read_scores

Write = Callable[..., Path]


def table1(paths: list[Path], oracle: str = "baseline") -> render.Table:
    return comparison.table1(collect(paths), read_scores(paths), oracle)


def at(table: render.Table, **where: object) -> pd.Series:
    """The only row of a table's data whose columns have these values."""
    data = table.data
    for column, value in where.items():
        data = data[data[column] == value]
    assert len(data) == 1, f"{len(data)} rows where {where}"
    return data.iloc[0]


def cell(table: render.Table, heading: str, group: str, label: str, column: tuple[str, str]) -> str:
    """The text that a reader sees in a grid."""
    grid = next(grid for grid in table.grids if grid.heading == heading)
    return grid.rows[group, label][grid.columns.index(column)]


def test_table1_holds_mean_deviation_gain_and_share_of_the_oracle(runs: list[Path]) -> None:
    table = table1(runs)
    final = at(table, split="val", ratio=10, experiment="ours", step="retrain", metric="mIoU")
    assert final["mean"] == pytest.approx(61.0)  # seeds 60 and 62
    assert final["sd"] == pytest.approx(np.std([60, 62], ddof=1))
    assert final["gain"] == pytest.approx(10.0)
    assert final["share_of_oracle"] == pytest.approx(100 * 61 / 77)
    assert (final["seeds"], final["expressions"], final["label"]) == (2, 200, "Ours, step 3")
    assert cell(table, "RefShapes: mIoU", "10 %", "Ours, step 3", ("val", "mIoU")) == "61.00 ± 1.41"
    assert cell(table, "RefShapes: mIoU", "10 %", "Ours, step 3", ("test", "of oracle")) == "77.8 %"
    assert cell(table, "RefShapes: mIoU", "10 %", "Ours, step 3", ("val", "gain")) == (
        f"+10.00 [{final['gain_low']:.2f}, {final['gain_high']:.2f}]"
    )
    assert 9 < final["gain_low"] < 10 < final["gain_high"] < 11


def test_table1_lists_every_step_and_calls_the_oracle_by_its_name(runs: list[Path]) -> None:
    grid = table1(runs).grids[0]
    below = ["Baseline", "Ours, step 2", "Ours, step 3"]
    full = [("100 %", "Oracle"), ("100 %", "Ours, step 2")]
    assert list(grid.rows) == [(r, label) for r in ("1 %", "10 %") for label in below] + full
    assert grid.strong == "Ours, step 3"
    assert ("100 %", "Oracle") not in table1(runs, oracle="").grids[0].rows


def test_oiou_has_its_own_grids(runs: list[Path]) -> None:
    table = table1(runs)
    assert [grid.heading for grid in table.grids] == ["RefShapes: mIoU", "RefShapes: oIoU"]
    for grid, other in zip(table.grids, ("oIoU", "mIoU"), strict=True):
        assert all(name != other for _, name in grid.columns)
    assert cell(table, "RefShapes: oIoU", "1 %", "Baseline", ("val", "oIoU")) == "24.00 ± 1.41"
    assert cell(table, "RefShapes: oIoU", "10 %", "Ours, step 3", ("val", "gain")) == "+10.00"  # no interval


def test_gain_compares_the_same_seeds(scored: Write) -> None:
    paths = [
        scored("refshapes/seed0/ratio1/baseline/res", mIoU=30.0),
        scored("refshapes/seed1/ratio1/baseline/res", mIoU=50.0),
        scored("refshapes/seed1/ratio1/ours/res", mIoU=51.0),
    ]
    assert at(table1(paths), experiment="ours", metric="mIoU")["gain"] == pytest.approx(1.0)


def test_a_missing_seed_of_the_baseline_is_named(runs: list[Path], scored: Write) -> None:
    without = [path for path in runs if not path.match("seed1/ratio10/baseline/res/val/metrics.json")]
    with pytest.raises(DataError, match=r"refshapes val.*refshapes/seed1/ratio10/baseline/res/val/metrics\.json"):
        table1(without)
    with pytest.raises(DataError, match="nothing to show"):
        table1([scored("refshapes/seed0/rec/points")])


def test_without_any_baseline_there_is_no_gain(runs: list[Path]) -> None:
    table = table1([path for path in runs if not path.match("ratio10/baseline/res/*/metrics.json")])
    assert cell(table, "RefShapes: mIoU", "10 %", "Ours, step 3", ("val", "gain")) == render.ABSENT
    assert cell(table, "RefShapes: mIoU", "1 %", "Ours, step 3", ("val", "gain")) != render.ABSENT


def test_without_an_oracle_the_share_is_blank(runs: list[Path]) -> None:
    for table in (table1([path for path in runs if "ratio100" not in path.parts]), table1(runs, oracle="")):
        assert table.data["share_of_oracle"].isna().all()
        assert cell(table, "RefShapes: mIoU", "1 %", "Baseline", ("val", "of oracle")) == render.ABSENT
        assert not [note for note in table.notes if note.startswith("of oracle")]


def test_notes_count_seeds_and_expressions(runs: list[Path]) -> None:
    notes = " ".join(table1(runs).notes)
    assert "over 2 seeds" in notes
    assert "RefShapes val 200, test 300" in notes


def test_published_figures_stand_beside_ours_where_there_are_any(runs: list[Path], scored: Write) -> None:
    steps = ("ratio5/baseline/res", "ratio5/ours/retrain", "ratio100/baseline/res", "ratio100/ours/res")
    table = table1([*runs, *(scored(f"refcoco/seed0/{run}", "testA") for run in steps)])
    mine = ("testA", "mIoU")
    assert cell(table, "RefCOCO: mIoU", "5 %", "Ours, step 3, paper", mine) == "64.67"
    assert cell(table, "RefCOCO: mIoU", "100 %", "Oracle, paper", mine) == "69.79"
    assert cell(table, "RefCOCO: mIoU", "5 %", "Baseline, upstream", mine) == "52.00"
    assert cell(table, "RefCOCO: mIoU", "5 %", "Baseline", mine) == "50.00"
    labels = {grid.heading: [label for group, label in grid.rows if group != "100 %"] for grid in table.grids}
    models = ["Baseline", "Ours, step 2", "Ours, step 3"]
    assert labels["RefShapes: mIoU"] == models * 2 and labels["RefCOCO: oIoU"] == models[::2]
    assert labels["RefCOCO: mIoU"] == [
        f"{model}{row}" for model in models[::2] for row in ("", ", paper", ", upstream")
    ]
    assert at(table, dataset="refcoco", ratio=5, experiment="baseline", metric="mIoU")["published"] == 61.72
    assert cell(table, "RefCOCO: mIoU", "100 %", "MCN, CVPR'20, DN53, paper", mine) == "64.20"
    assert cell(table, "RefCOCO: mIoU", "100 %", "MCN, CVPR'20, DN53, paper", ("testA", "gain")) == render.ABSENT


STEP_2 = {"1/baseline/res": 40.0, "1/cctf/res": 42.0, "1/ours/res": 43.0}
STEP_3 = STEP_2 | {"1/ours/retrain": 50.0, "1/no_rpp/retrain": 45.0, "1/threshold_005/retrain": 47.0}
TABLE_2 = [("baseline", "res"), ("cctf", "res"), ("ours", "res")]
TABLE_4 = [("ours", "res"), ("ours", "retrain"), ("threshold_005", "retrain")]


def compare(
    scored: Write, runs: dict[str, float], rows: list[tuple[str, str]], selections: list[Path] | None = None
) -> render.Table:
    """The table of refcocog's runs ({ratio}/{experiment}/{step} -> mIoU) by two seeds; seed 1 is 2 points above 0."""
    paths = [
        scored(f"refcocog/seed{s}/ratio{run}", mIoU=figure + 2 * s) for run, figure in runs.items() for s in (0, 1)
    ]
    kept = collect_selections(selections) if selections else None
    return comparison.comparison("title", collect(paths), read_scores(paths), rows, "baseline", kept)


def line(table: render.Table, label: str, group: str = "1 %") -> dict[str, str]:
    """A row's cells, by column name."""
    grid = table.grids[0]
    return {name: text for (_, name), text in zip(grid.columns, grid.rows[group, label], strict=True)}


def test_a_comparison_shows_its_rows_in_order_with_gains_over_the_first(scored: Write) -> None:
    table = compare(scored, STEP_2, TABLE_2)
    labels = [label for _, label in table.grids[0].rows if "paper" not in label]
    assert labels == ["Baseline", "cctf, step 2", "Ours, step 2"]
    assert next(iter(compare(scored, STEP_2, TABLE_2[::-1]).grids[0].rows)) == ("1 %", "Ours, step 2")
    ours = line(table, "Ours, step 2")
    assert (ours["mIoU"], ours["Pr@0.7"]) == ("44.00 ± 1.41", "30.00 ± 0.00")
    assert line(table, "Baseline")["gain"] == render.ABSENT
    assert line(table, "cctf, step 2")["gain"].startswith("+2.00 [1.")
    data = at(table, experiment="ours", metric="mIoU")
    assert data["gain"] == pytest.approx(3)
    assert data["gain_low"] < 3 < data["gain_high"] < 4
    assert (data["seeds"], data["expressions"], data["reference"]) == (2, 200, False)
    assert at(table, experiment="baseline", metric="mIoU")["reference"]


def test_the_papers_rows_stand_below_ours_on_its_data_set_and_split_alone(scored: Write) -> None:
    table = compare(scored, STEP_2, TABLE_2)
    published = line(table, "Ours, step 2, paper")
    assert (published["mIoU"], published["Pr@0.9"], published["gain"]) == ("44.58", "0.76", render.ABSENT)
    assert [label for _, label in table.grids[0].rows][:2] == ["Baseline", "Baseline, paper"]
    assert line(table, "Baseline, paper")["mIoU"] == "42.57"
    paths = [scored(f"refshapes/seed0/ratio1/{name}/res") for name in ("baseline", "cctf")]
    assert captions.LOST_ROW not in table.notes
    full = compare(scored, {"100/baseline/res": 70.0, "100/cctf/res": 71.0}, TABLE_2[:2])
    assert captions.LOST_ROW in full.notes
    other = comparison.comparison("title", collect(paths), read_scores(paths), TABLE_2[:2], "")
    assert not [label for _, label in other.grids[0].rows if "paper" in label]
    assert not [note for note in other.notes if note.startswith("paper")]


def test_ratios_have_their_own_reference_and_only_the_rows_that_were_run(scored: Write) -> None:
    runs = STEP_2 | {"5/baseline/res": 50.0, "5/ours/res": 50.5, "10/ours/res": 60.0}
    table = compare(scored, runs, TABLE_2)
    assert line(table, "Ours, step 2", "5 %")["gain"].startswith("+0.50 [")
    assert line(table, "Ours, step 2", "10 %")["gain"] == render.ABSENT  # the reference has no run there
    rows = [names for names in table.grids[0].rows if "paper" not in names[1]]
    assert rows[3:] == [("5 %", "Baseline"), ("5 %", "Ours, step 2"), ("10 %", "Ours, step 2")]


def test_shares_of_the_oracle_are_shown_where_its_files_were_given(scored: Write) -> None:
    rows = [("ours", "retrain"), ("box_guided", "retrain")]
    table = compare(scored, STEP_3 | {"1/box_guided/retrain": 56.0, "100/baseline/res": 79.0}, rows)
    guided = line(table, "box_guided, step 3")
    assert guided["of oracle"] == "71.2 %"  # 57 of 80
    assert guided["gain"].startswith("+6.00 [5.")
    assert {group for group, _ in table.grids[0].rows} == {"1 %"}  # the oracle is not among this table's rows
    assert "of oracle" not in line(compare(scored, STEP_3, TABLE_4), "Ours, step 3")
    full = compare(scored, STEP_2 | {"100/baseline/res": 79.0}, TABLE_2)
    assert line(full, "Oracle", "100 %")["of oracle"] == "100.0 %"


def test_selections_are_shown_beside_the_step_3_that_they_were_for(scored: Write, selected: Write) -> None:
    selections = [
        selected(f"refcocog/seed{seed}/ratio1/ours", kept_share=20.0 + seed, true_iou_kept=70.0) for seed in (0, 1)
    ]
    selections.append(selected("refcocog/seed0/ratio1/threshold_005", kept=0, kept_share=0.0, true_iou_kept=0.0))
    table = compare(scored, STEP_3, TABLE_4, selections)
    kept = ("kept, %", "true IoU of the kept")
    assert [line(table, "Ours, step 3")[name] for name in kept] == ["20.5 ± 0.7", "70.0 ± 0.0"]
    assert [line(table, "threshold_005, step 3")[name] for name in kept] == ["0.0", render.ABSENT]
    assert [line(table, "Ours, step 2")[name] for name in kept] == [render.ABSENT] * 2
    assert line(table, "threshold_005, step 3, paper")["mIoU"] == "44.35"
    assert at(table, step="res", metric="mIoU")["experiment"] == "ours"
    assert at(table, experiment="ours", step="retrain", metric="mIoU")["kept_share_sd"] == pytest.approx(0.5**0.5)


def test_a_row_without_evaluation_or_seed_is_named(scored: Write) -> None:
    with pytest.raises(DataError, match=r"no evaluation of 'pmca': give its ratio\*/pmca/res"):
        compare(scored, STEP_2, [*TABLE_2, ("pmca", "res")])
    paths: list[Any] = [scored(f"refcocog/seed{seed}/ratio1/baseline/res") for seed in (0, 1)]
    paths.append(scored("refcocog/seed2/ratio1/cctf/res"))
    with pytest.raises(DataError, match=r"refcocog/seed2/ratio1/baseline/res/val/metrics\.json"):
        comparison.comparison("title", collect(paths), read_scores(paths), TABLE_2[:2], "")


def test_published_gains_average_to_what_the_paper_states() -> None:
    table = captions.published()
    assert not table.duplicated(["dataset", "split", "ratio", "experiment", "step", "metric"]).any()
    key = ["ratio", "experiment", "dataset", "split"]
    main = table[table["source"].str.startswith("Table 1")].set_index(key)["value"]
    gains = {ratio: (main[ratio, "ours"] - main[ratio, "baseline"]).mean() for ratio in (1.0, 5.0, 10.0)}
    assert gains == pytest.approx({1.0: 3.0, 5.0: 2.4, 10.0: 3.5}, abs=0.05)


def test_every_published_row_of_tables_2_to_4_has_all_six_figures() -> None:
    table = captions.published()
    part = table[(table["dataset"] == "refcocog") & (table["split"] == "val") & (table["ratio"] == 1)]
    counts = part.groupby(["experiment", "step"])["metric"].nunique()
    assert counts.to_dict() == {
        ("baseline", "res"): 6, ("cctf", "res"): 6, ("ours", "res"): 6, ("ours", "retrain"): 6,
        ("no_rpp", "retrain"): 6, ("no_selection", "retrain"): 6, ("threshold_005", "retrain"): 6,
    }  # fmt: skip
    others = part[part["metric"] != "mIoU"]
    precision = others.pivot_table(index=["experiment", "step"], columns="metric", values="value")
    assert (np.diff(precision.to_numpy(), axis=1) < 0).all()  # fewer predictions reach a higher threshold


def test_released_models_of_two_ratios_stand_beside_the_papers_rows(scored: Callable[..., Path]) -> None:
    """As config/released.yaml plans them: the baseline with every mask alone, ours with 1 % alone."""
    paths = [scored("refcoco/seed0/ratio100/baseline/res"), scored("refcoco/seed0/ratio1/ours/retrain")]
    data = table1(paths).data.query("metric == 'mIoU'").set_index("experiment")
    assert data["published"].to_dict() == {"baseline": 67.26, "ours": 57.41} and data["gain"].isna().all()
    assert set(table1(paths).data["metric"]) == {"mIoU", "oIoU", "mIoU_upstream"}
