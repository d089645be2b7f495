from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from partialres.files import DataError
from partialres.report.evaluations import (
    MASK_HEAD,
    Evaluation,
    Run,
    collect,
    collect_pseudo,
    evaluation_of,
    oracle_of,
    run_of,
    summarise,
)


@pytest.mark.parametrize("folder", ["results", "/somewhere/else/results", "."])
def test_an_evaluations_path_says_what_was_scored(folder: str) -> None:
    path = Path(folder, "refcoco+/seed3/ratio0.5/no_rpp/retrain/testA/metrics.json")
    assert evaluation_of(path) == Evaluation("refcoco+", 3, 0.5, "no_rpp", "retrain", "testA")


def test_step_1_has_neither_ratio_nor_experiment() -> None:
    path = Path("results/refshapes/seed0/rec/val/metrics.json")
    assert evaluation_of(path) == Evaluation("refshapes", 0, None, None, "rec", "val")


@pytest.mark.parametrize(
    "path",
    [
        "results/refshapes/seed0/ratio1/ours/res/metrics.json",
        "results/refshapes/seed0/ratio1/ours/pseudo/val/metrics.json",
        "results/refshapes/seedx/ratio1/ours/res/val/metrics.json",
        "results/refshapes/seed0/ratio1/ours/res/val/predictions.parquet",
        "metrics.json",
    ],
)
def test_a_path_outside_the_grammar_is_refused_by_name(path: str) -> None:
    with pytest.raises(DataError, match=path):
        evaluation_of(Path(path))


def test_files_beside_models_and_pseudo_points_tell_their_run() -> None:
    assert run_of(Path("results/d/seed1/rec/metrics.csv")) == Run("d", 1, None, None, "rec")
    assert run_of(Path("d/seed1/ratio10/ours/pseudo/points.parquet")) == Run("d", 1, 10.0, "ours", "pseudo")
    with pytest.raises(DataError, match="model"):
        run_of(Path("results/d/model/metrics.csv"))


def test_the_mask_heads_step_1_is_told_from_the_other() -> None:
    assert evaluation_of(Path("d/seed1/rec_mask/val/metrics.json")) == Evaluation("d", 1, None, MASK_HEAD, "rec", "val")
    assert run_of(Path("results/d/seed1/rec_mask/metrics.csv")) == Run("d", 1, None, MASK_HEAD, "rec")
    with pytest.raises(DataError, match="rec_masks"):
        run_of(Path("results/d/seed1/rec_masks/metrics.csv"))


def test_collected_figures_equal_the_files(scored: Callable[..., Path]) -> None:
    table = collect([scored("refshapes/seed0/ratio1/ours/res", mIoU=41.25), scored("refshapes/seed0/rec")])
    ours = table[table["experiment"] == "ours"].set_index("metric")
    assert ours.at["mIoU", "value"] == 41.25
    assert set(ours["expressions"]) == {200}
    assert set(ours["refs"]) == {100}
    assert {"expressions", "refs"}.isdisjoint(table["metric"])
    boxes = table[table["step"] == "rec"]
    assert dict(zip(boxes["metric"], boxes["value"], strict=True)) == {
        "box_accuracy": 80.0,
        "mean_box_iou": 70.0,
    }
    assert boxes["ratio"].isna().all()
    assert set(boxes["experiment"]) == {""}


def test_the_order_of_the_files_does_not_matter(runs: list[Path]) -> None:
    assert collect(runs).equals(collect(runs[::-1]))


def test_what_cannot_be_reported_is_refused(scored: Callable[..., Path]) -> None:
    good = scored("refshapes/seed0/ratio1/ours/res")
    with pytest.raises(DataError, match="at least one"):
        collect([])
    with pytest.raises(DataError, match="same evaluation"):
        collect([good, good])
    with pytest.raises(DataError, match="cannot be read"):
        collect([good.parent.parent / "test/metrics.json"])
    with pytest.raises(DataError, match="'mIoU' is None"):
        collect([scored("refshapes/seed1/ratio1/ours/res", mIoU=None)])
    with pytest.raises(DataError, match="200, 201 expressions"):
        collect([good, scored("refshapes/seed2/ratio1/ours/res", expressions=201)])
    good.write_text('{"mIoU": 3}')
    with pytest.raises(DataError, match="lacks expressions, refs"):
        collect([good])


def test_summary_is_the_mean_and_sample_deviation_over_seeds(scored: Callable[..., Path]) -> None:
    figures = [40.0, 43.0, 47.0]
    paths = [scored(f"refshapes/seed{seed}/ratio1/ours/res", mIoU=value) for seed, value in enumerate(figures)]
    row = summarise(collect(paths)).set_index("metric").loc["mIoU"]
    assert row["mean"] == pytest.approx(np.mean(figures))
    assert row["sd"] == pytest.approx(np.std(figures, ddof=1))
    assert row["seeds"] == (0, 1, 2)
    assert np.isnan(summarise(collect(paths[:1]))["sd"]).all()


def test_reports_list_baseline_then_ours_then_others(scored: Callable[..., Path]) -> None:
    names = ["cctf", "ours", "baseline", "a_new_one"]
    table = collect([scored(f"refshapes/seed0/ratio1/{name}/res") for name in names])
    assert list(dict.fromkeys(table["experiment"])) == ["baseline", "ours", "a_new_one", "cctf"]


def test_the_oracle_is_the_experiment_of_that_name_or_ours_with_every_mask(
    scored: Callable[..., Path],
) -> None:
    ours = scored("refshapes/seed0/ratio100/ours/res")
    assert oracle_of(collect([ours])) == "ours"
    assert oracle_of(collect([ours, scored("refshapes/seed0/ratio100/oracle/res")])) == "oracle"
    assert oracle_of(collect([scored("refshapes/seed0/ratio10/ours/res")])) is None


def test_selection_summaries_keep_their_figures_and_null_becomes_nan(selected: Callable[..., Path]) -> None:
    table = collect_pseudo([selected("refshapes/seed0/ratio1/ours", kept=0, kept_share=0.0, true_iou_kept=None)])
    assert table.loc[0, "candidates"] == 1000
    assert np.isnan(table.loc[0, "true_iou_kept"])
    with pytest.raises(DataError, match="at least one"):
        collect_pseudo([])
    path = selected("refshapes/seed0/ratio1/ours")
    path.write_text('{"candidates": 10}')
    with pytest.raises(DataError, match="lacks kept"):
        collect_pseudo([path])
