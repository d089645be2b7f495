from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from partialres.files import DataError
from partialres.report import intervals
from partialres.report.intervals import of_gain

Write = Callable[..., Path]
OURS, BASELINE = ("refshapes", "val", 1, "ours", "retrain"), ("refshapes", "val", 1, "baseline", "res")


def single(values: np.ndarray) -> tuple[float, float]:
    """The interval of one seed's differences, each of an object of its own."""
    return intervals.interval(values[None], np.arange(len(values)))


def series(values: np.ndarray) -> pd.Series:
    return pd.Series(values, index=np.arange(len(values)))


def test_the_interval_of_normal_differences_is_that_of_theory() -> None:
    differences = np.random.default_rng(1).normal(2, 5, 4000)
    half = 1.96 * differences.std() / np.sqrt(len(differences))
    assert single(differences) == pytest.approx((differences.mean() - half, differences.mean() + half), abs=0.01)


def test_about_95_of_100_intervals_hold_the_truth_of_objects_alone() -> None:
    draws = np.random.default_rng(2).exponential(3, (200, 150))
    held = [low <= 3 <= high for low, high in map(single, draws)]
    assert 0.89 <= np.mean(held) <= 0.99


def test_about_95_of_100_intervals_hold_the_truth_of_seeds_and_objects() -> None:
    """Each seed shifts all expressions, each object all seeds and both of its expressions."""
    random = np.random.default_rng(5)
    refs, held = np.repeat(np.arange(60), 2), []
    for _ in range(400):
        of_seeds, of_objects = random.normal(0, 1.5, (5, 1)), random.normal(0, 6, 60)[refs]
        low, high = intervals.interval(2 + of_seeds + of_objects + random.normal(0, 3, (5, 120)), refs)
        held.append(low <= 2 <= high)
    assert 0.93 <= np.mean(held) <= 0.99


def test_equal_differences_have_no_width_and_one_object_has_no_interval() -> None:
    assert single(np.full(50, 1.5)) == (1.5, 1.5)
    assert np.isnan(intervals.interval(np.ones((3, 4)), np.zeros(4))).all()


def test_expressions_of_one_object_count_as_one() -> None:
    values = np.random.default_rng(6).normal(0, 1, 100)
    repeated = intervals.interval(np.repeat(values, 3)[None], np.repeat(np.arange(100), 3))
    assert repeated == pytest.approx(single(values))


def test_pairing_takes_out_what_both_models_find_hard() -> None:
    random = np.random.default_rng(3)
    hard = random.uniform(0, 0.9, 1000)
    mine, theirs = series(hard + 0.05 + random.normal(0, 0.01, 1000)), series(hard)
    low, high = of_gain({OURS: {0: mine}, BASELINE: {0: theirs}}, OURS, BASELINE)
    assert (low + high) / 2 == pytest.approx(5, abs=0.1)
    assert high - low < 0.2  # unpaired, it would be 2 * 1.96 * sqrt(2) * 26 / sqrt(1000) = 4.6


def test_seeds_that_disagree_widen_the_interval() -> None:
    noise = np.random.default_rng(4).normal(0, 1, 500)
    refs = np.arange(500)
    agreeing, disagreeing = (np.stack([noise + shift, noise - shift, noise]) for shift in (0, 3))
    assert np.ptp(intervals.interval(disagreeing, refs)) > 10 * np.ptp(intervals.interval(agreeing, refs))


def test_the_gain_is_of_equal_seeds_and_a_missing_one_is_named() -> None:
    iou = {OURS: {1: series(np.full(9, 0.5))}, BASELINE: {0: series(np.zeros(9)), 1: series(np.full(9, 0.25))}}
    assert of_gain(iou, OURS, BASELINE) == (25, 25)
    with pytest.raises(DataError, match=r"refshapes/seed0/ratio1/ours/retrain/val/metrics\.json"):
        of_gain(iou, BASELINE, OURS)
    with pytest.raises(DataError, match=r"ratio5/ours/retrain/val/metrics\.json"):
        of_gain(iou, ("refshapes", "val", 5, "ours", "retrain"), BASELINE)


def test_scores_are_read_from_beside_the_metrics(scored: Write) -> None:
    paths = [scored(f"refshapes/seed{seed}/ratio1/baseline/res", mIoU=40.0 + seed) for seed in (0, 1)]
    scores = intervals.read_scores([*paths, scored("refshapes/seed0/rec/points")])
    assert list(scores) == [BASELINE]
    means = {seed: 100 * iou.mean() for seed, iou in scores[BASELINE].items()}
    assert means == pytest.approx({0: 40, 1: 41})


def change(metrics: Path, **columns: object) -> None:
    path = metrics.with_name("predictions.parquet")
    pd.read_parquet(path).assign(**columns).to_parquet(path)


def test_predictions_of_other_expressions_are_refused_by_file_and_row(scored: Write) -> None:
    first, second = (scored(f"refshapes/seed0/ratio1/{name}/res") for name in ("baseline", "ours"))
    names = [f"thing {row}" for row in range(200)]
    change(second, expression=[*names[:7], "another", *names[8:]])
    with pytest.raises(
        DataError, match=r"ours/res/val/predictions\.parquet: row 7 of 200 is \(3, 'another'\), .*baseline"
    ):
        intervals.read_scores([first, second])
    path = second.with_name("predictions.parquet")
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    with pytest.raises(DataError, match=r"row 7 of 199 is .*, of 200, it is \(3, 'thing 7'\)"):
        intervals.read_scores([first, second])


def test_predictions_that_cannot_be_used_are_named(scored: Write) -> None:
    path = scored("refshapes/seed0/ratio1/ours/res")
    change(path, iou=[0.5] * 3 + [1.5] + [0.5] * 196)
    with pytest.raises(DataError, match=r"predictions\.parquet: row 3: iou is 1\.5, not a number from 0 to 1"):
        intervals.read_scores([path])
    path.with_name("predictions.parquet").unlink()
    with pytest.raises(DataError, match=r"predictions\.parquet: cannot be read"):
        intervals.read_scores([path])
