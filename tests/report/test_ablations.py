from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partialres.comparisons import Compared
from partialres.files import DataError
from partialres.report import ablations, render, words
from partialres.report.evaluations import collect, collect_pseudo
from partialres.report.intervals import read_scores

Write = Callable[..., Path]
NEITHER, CCTF, BOTH = ({"model.cctf": cctf, "model.pmca": pmca} for cctf, pmca in ((0, 0), (1, 0), (1, 1)))


def row(experiment: str, step: str = "res", values: Any = None, reference: bool = False, ratio: float = 1) -> Compared:
    return Compared("refcocog", ratio, experiment, step, values or {}, reference)


def inputs(scored: Write, runs: dict[str, float], seeds: tuple[int, ...] = (0, 1)) -> Any:
    """Evaluations and scores of refcocog's runs ({ratio}/{experiment}/{step} -> mIoU); seed 1 is 2 points above 0."""
    paths = [
        scored(f"refcocog/seed{seed}/ratio{run}", mIoU=figure + 2 * seed)
        for run, figure in runs.items()
        for seed in seeds
    ]
    return collect(paths), read_scores(paths)


def line(table: render.Table, label: str, group: str = "1 %") -> dict[str, str]:
    """A row's cells by their columns' names."""
    grid = table.grids[0]
    (found,) = (each for each in grid.rows if (each.group, each.label) == (group, label))
    return {
        f"{column.group} {column.name}".strip(): cell for column, cell in zip(grid.columns, found.cells, strict=True)
    }


STEP_2 = {"1/baseline/res": 40.0, "1/cctf/res": 42.0, "1/ours/res": 43.0}
TABLE_2 = [row("baseline", values=NEITHER, reference=True), row("cctf", values=CCTF), row("ours", values=BOTH)]


def test_table_2_marks_components_and_tells_gains_with_intervals(scored: Write) -> None:
    table = ablations.ablation(*inputs(scored, STEP_2), TABLE_2)
    ours = line(table, "ours")
    assert (ours["CCTF"], ours["PMCA"], ours["mIoU"], ours["Pr@0.7"]) == ("✓", "✓", "44.00 ± 1.41", "30.00 ± 0.00")
    assert (line(table, "cctf")["CCTF"], line(table, "cctf")["PMCA"]) == ("✓", "")
    assert line(table, "baseline")["gain"] == render.ABSENT
    assert line(table, "cctf")["gain"].startswith("+2.00 [1.")
    data = table.data.query("experiment == 'ours' and metric == 'mIoU'").iloc[0]
    assert data["gain"] == pytest.approx(3)
    assert data["gain_low"] < 3 < data["gain_high"] < 4
    assert (data["seeds"], data["expressions"], data["model.cctf"]) == (2, 200, 1)


def test_the_papers_rows_stand_below_ours_on_its_data_set_and_split_alone(scored: Write) -> None:
    table = ablations.ablation(*inputs(scored, STEP_2), TABLE_2)
    told = line(table, "ours, paper")
    assert (told["CCTF"], told["mIoU"], told["Pr@0.9"], told["gain"]) == ("✓", "44.58", "0.76", render.ABSENT)
    assert line(table, "baseline, paper")["mIoU"] == "42.57"
    paths = [scored(f"refshapes/seed0/ratio1/{name}/res") for name in ("baseline", "cctf")]
    rows = [Compared("refshapes", 1, "baseline", "res", NEITHER, True), Compared("refshapes", 1, "cctf", "res", CCTF)]
    other = ablations.ablation(collect(paths), read_scores(paths), rows)
    assert not [each for each in other.grids[0].rows if "paper" in each.label]
    assert not [note for note in other.notes if note.startswith("paper")]


def test_ratios_have_their_own_reference(scored: Write) -> None:
    runs = STEP_2 | {"5/baseline/res": 50.0, "5/ours/res": 50.5}
    rows = [*TABLE_2, row("baseline", values=NEITHER, reference=True, ratio=5), row("ours", values=BOTH, ratio=5)]
    table = ablations.ablation(*inputs(scored, runs), rows)
    assert line(table, "ours", "5 %")["gain"].startswith("+0.50 [")


def test_without_a_reference_there_is_no_gain(scored: Write) -> None:
    table = ablations.ablation(*inputs(scored, STEP_2), TABLE_2[1:])
    assert line(table, "ours")["gain"] == render.ABSENT


STEP_3 = STEP_2 | {"1/ours/retrain": 50.0, "1/no_rpp/retrain": 45.0, "1/threshold_005/retrain": 47.0}


def test_table_3_sets_step_3_with_and_without_resampling_beside_step_2(scored: Write) -> None:
    rows = [row("ours", reference=True)]
    rows += [row(name, "retrain", {"pseudo.resample": on}) for name, on in (("no_rpp", False), ("ours", True))]
    table = ablations.rpp(*inputs(scored, STEP_3), rows)
    shown = [each.label for each in table.grids[0].rows]
    assert shown == [
        "step 2", "step 2, paper", "step 3 without RPP", "step 3 without RPP, paper", "step 3 with RPP",
        "step 3 with RPP, paper",
    ]  # fmt: skip
    assert line(table, "step 3 with RPP")["gain"].startswith("+7.00 [")
    assert line(table, "step 3 without RPP, paper")["mIoU"] == "44.27"


def test_table_4_tells_what_each_threshold_keeps(scored: Write, selected: Write) -> None:
    selections = [
        selected(f"refcocog/seed{seed}/ratio1/{name}", kept_share=share + seed, true_iou_kept=70.0)
        for name, share in (("ours", 20.0), ("threshold_005", 5.0))
        for seed in (0, 1)
    ]
    rows = [row("ours", reference=True)]
    rows += [row(name, "retrain", {"pseudo.threshold": t}) for name, t in (("ours", 0.1), ("threshold_005", 0.05))]
    table = ablations.thresholds(*inputs(scored, STEP_3), collect_pseudo(selections), rows)
    strict = line(table, "T = 0.05")
    assert (strict["kept, %"], strict["true IoU of the kept"]) == ("5.5 ± 0.7", "70.0 ± 0.0")
    assert strict["gain"].startswith("+4.00 [")
    assert line(table, "step 2")["kept, %"] == render.ABSENT
    assert line(table, "T = 0.05, paper")["mIoU"] == "44.35"


def test_extensions_stand_against_step_3_of_ours_and_the_oracle(scored: Write, selected: Write) -> None:
    runs = STEP_3 | {"1/box_guided/retrain": 56.0, "100/oracle/res": 79.0}
    selections = [selected("refcocog/seed0/ratio1/box_guided", kept_share=30.0)]
    rows = [row("ours", "retrain", reference=True), row("box_guided", "retrain")]
    table = ablations.extensions(*inputs(scored, runs), collect_pseudo(selections), rows)
    guided = line(table, "box_guided")
    assert guided["val mIoU"] == "57.00 ± 1.41"
    assert guided["val gain over ours"].startswith("+6.00 [5.")
    assert guided["val of oracle"] == "71.2 %"  # 57 of 80
    assert guided["pseudo masks kept, %"] == "30.0"
    assert line(table, "ours")["pseudo masks kept, %"] == render.ABSENT  # no selection was given
    assert [each.strong for each in table.grids[0].rows] == [True, False]


def test_a_row_without_evaluation_or_seed_is_named(scored: Write) -> None:
    evaluations, scores = inputs(scored, STEP_2)
    with pytest.raises(DataError, match=r"'pmca' at 1 % of refcocog: give refcocog/seed\*/ratio1/pmca/res"):
        ablations.ablation(evaluations, scores, [*TABLE_2, row("pmca", values=CCTF)])
    more = scored("refcocog/seed2/ratio1/cctf/res")
    paths = [*(scored(f"refcocog/seed{seed}/ratio1/baseline/res") for seed in (0, 1)), more]
    with pytest.raises(DataError, match=r"refcocog/seed2/ratio1/baseline/res/val/metrics\.json"):
        ablations.ablation(collect(paths), read_scores(paths), TABLE_2[:2])
    with pytest.raises(DataError, match="nothing to compare"):
        ablations.ablation(evaluations, scores, [])


def test_every_published_row_of_tables_2_to_4_has_all_six_figures() -> None:
    table = words.published()
    part = table[(table["dataset"] == "refcocog") & (table["split"] == "val") & (table["ratio"] == 1)]
    counts = part.groupby(["experiment", "step"])["metric"].nunique()
    assert counts.to_dict() == {
        ("baseline", "res"): 6, ("cctf", "res"): 6, ("ours", "res"): 6, ("ours", "retrain"): 6,
        ("no_rpp", "retrain"): 6, ("no_selection", "retrain"): 6, ("threshold_005", "retrain"): 6,
    }  # fmt: skip
    precision = part[part["metric"] != "mIoU"].pivot_table(
        index=["experiment", "step"], columns="metric", values="value"
    )
    assert (np.diff(precision.to_numpy(), axis=1) < 0).all()  # a higher bar is met less often
