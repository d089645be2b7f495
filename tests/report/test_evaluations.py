from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from partialres.files import DataError
from partialres.report.evaluations import (
    MASK_HEAD,
    Run,
    collect,
    collect_selections,
    evaluation_of,
    run_of,
    summarise,
)


@pytest.mark.parametrize("folder", ["results", "/somewhere/else/results", "."])
def test_an_evaluations_path_says_what_was_scored(folder: str) -> None:
    path = Path(folder, "refcoco+/seed3/ratio0.5/no_rpp/retrain/testA/metrics.json")
    assert evaluation_of(path) == Run("refcoco+", 3, 0.5, "no_rpp", "retrain", "testA")


@pytest.mark.parametrize(("head", "experiment"), [("points", ""), ("mask", MASK_HEAD)])
def test_step_1_has_no_ratio_and_is_named_by_its_head(head: str, experiment: str) -> None:
    path = Path(f"results/refshapes/seed0/rec/{head}/val/metrics.json")
    assert evaluation_of(path) == Run("refshapes", 0, None, experiment, "rec", "val")
    assert run_of(Path(f"d/seed1/rec/{head}/metrics.csv")) == Run("d", 1, None, experiment, "rec")


@pytest.mark.parametrize(
    "path",
    [
        "results/refshapes/seed0/ratio1/ours/res/metrics.json",
        "results/refshapes/seed0/ratio1/ours/pseudo/val/metrics.json",
        "results/refshapes/seedx/ratio1/ours/res/val/metrics.json",
        "results/refshapes/seed0/ratio1/ours/res/val/predictions.parquet",
        "results/refshapes/seed0/rec/val/metrics.json",
        "metrics.json",
    ],
)
def test_a_path_outside_the_grammar_is_refused_by_name(path: str) -> None:
    with pytest.raises(DataError, match=path):
        evaluation_of(Path(path))


def test_files_beside_models_and_pseudo_points_name_their_run() -> None:
    assert run_of(Path("d/seed1/ratio10/ours/pseudo/points.parquet")) == Run("d", 1, 10.0, "ours", "pseudo")
    with pytest.raises(DataError, match="model"):
        run_of(Path("results/d/model/metrics.csv"))


def test_collected_figures_equal_the_files(scored: Callable[..., Path]) -> None:
    table = collect([scored("refshapes/seed0/ratio1/ours/res", mIoU=41.25), scored("refshapes/seed0/rec/points")])
    ours = table[table["experiment"] == "ours"].set_index("metric")
    assert ours.at["mIoU", "value"] == 41.25
    assert set(ours["expressions"]) == {200} and set(ours["refs"]) == {100}
    assert {"expressions", "refs"}.isdisjoint(table["metric"])
    boxes = table[table["step"] == "rec"]
    assert dict(zip(boxes["metric"], boxes["value"], strict=True)) == {"box_accuracy": 80.0, "mean_box_iou": 70.0}
    assert boxes["ratio"].isna().all() and set(boxes["experiment"]) == {""}


def test_the_order_of_the_files_does_not_matter(runs: list[Path]) -> None:
    assert collect(runs).equals(collect(runs[::-1]))


def test_what_cannot_be_reported_is_refused(scored: Callable[..., Path]) -> None:
    good = scored("refshapes/seed0/ratio1/ours/res")
    with pytest.raises(DataError, match="give each run once"):
        collect([good, good])
    with pytest.raises(DataError, match="'mIoU' is None"):
        collect([scored("refshapes/seed1/ratio1/ours/res", mIoU=None)])
    with pytest.raises(DataError, match="200, 201 expressions"):
        collect([good, scored("refshapes/seed2/ratio1/ours/res", expressions=201)])
    for content, message in (('{"mIoU": 3}', "lacks expressions, refs"), ("[3]", "no JSON object"), ("{", "not valid")):
        good.write_text(content)
        with pytest.raises(DataError, match=message):
            collect([good])


def test_summary_is_the_mean_and_sample_deviation_over_seeds(scored: Callable[..., Path]) -> None:
    figures = [40.0, 43.0, 47.0]
    paths = [scored(f"refshapes/seed{seed}/ratio1/ours/res", mIoU=value) for seed, value in enumerate(figures)]
    row = summarise(collect(paths)).set_index("metric").loc["mIoU"]
    assert row["mean"] == pytest.approx(np.mean(figures))
    assert row["sd"] == pytest.approx(np.std(figures, ddof=1))
    assert row["seeds"] == 3
    assert np.isnan(summarise(collect(paths[:1]))["sd"]).all()


def test_reports_list_baseline_then_ours_then_others_by_ascending_ratio(scored: Callable[..., Path]) -> None:
    names = ["cctf", "ours", "baseline", "a_new_one"]
    table = collect([scored(f"refshapes/seed0/ratio{ratio}/{name}/res") for name in names for ratio in (10, 5)])
    rows = list(dict.fromkeys(zip(table["ratio"], table["experiment"], strict=True)))
    assert rows == [(ratio, name) for ratio in (5, 10) for name in ("baseline", "ours", "a_new_one", "cctf")]


def test_selection_summaries_keep_their_figures(selected: Callable[..., Path]) -> None:
    path = selected("refshapes/seed0/ratio1/ours", true_iou_all=None)
    table = collect_selections([path])
    assert (table.loc[0, "candidates"], table.loc[0, "true_iou_kept"]) == (1000, 60)
    assert np.isnan(table.loc[0, "true_iou_all"])
    path.write_text('{"candidates": 10}')
    with pytest.raises(DataError, match="lacks kept"):
        collect_selections([path])


@pytest.mark.parametrize("written", [0.0, None])
def test_no_kept_pseudo_mask_has_no_true_iou(selected: Callable[..., Path], written: float | None) -> None:
    path = selected("refshapes/seed0/ratio1/ours", kept=0, kept_share=0.0, true_iou_kept=written)
    assert np.isnan(collect_selections([path]).loc[0, "true_iou_kept"])
