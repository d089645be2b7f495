from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from partialres.files import DataError
from partialres.report import intervals
from partialres.report.intervals import Model, of_gain

Write = Callable[..., Path]
OURS, BASELINE = Model("refshapes", 1, "ours", "retrain"), Model("refshapes", 1, "baseline", "res")


def test_the_interval_of_many_normal_differences_is_that_of_theory() -> None:
    differences = np.random.default_rng(1).normal(2, 5, 4000)
    low, high = intervals.interval(differences)
    half = 1.96 * differences.std() / np.sqrt(len(differences))
    assert low == pytest.approx(differences.mean() - half, abs=0.03)
    assert high == pytest.approx(differences.mean() + half, abs=0.03)


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    draws = np.random.default_rng(2).exponential(3, (200, 150))
    held = [low <= 3 <= high for low, high in map(intervals.interval, draws)]
    assert 0.89 <= np.mean(held) <= 0.99


def test_equal_differences_have_no_width_and_one_has_no_interval() -> None:
    assert intervals.interval(np.full(50, 1.5)) == (1.5, 1.5)
    assert np.isnan(intervals.interval(np.array([1.0]))).all()


def test_pairing_takes_out_what_both_models_find_hard() -> None:
    random = np.random.default_rng(3)
    hard = random.uniform(0, 0.9, 1000)
    mine, theirs = hard + 0.05 + random.normal(0, 0.01, 1000), hard
    low, high = of_gain({(OURS, "val"): {0: mine}, (BASELINE, "val"): {0: theirs}}, OURS, BASELINE, "val")
    assert (low + high) / 2 == pytest.approx(5, abs=0.1)
    assert high - low < 0.2  # unpaired, it would be 2 * 1.96 * sqrt(2) * 26 / sqrt(1000) = 4.6


def test_seeds_are_averaged_before_expressions_are_resampled() -> None:
    """Seeds that differ by a constant do not widen the interval; seeds whose errors cancel narrow it."""
    noise = np.random.default_rng(4).normal(0, 0.1, 500)
    base = np.full(500, 0.5)
    theirs = dict.fromkeys((0, 1), base)
    apart, opposed, single = (
        np.ptp(of_gain({(OURS, "val"): mine, (BASELINE, "val"): theirs}, OURS, BASELINE, "val"))
        for mine in ({0: base + noise, 1: base + noise + 0.1}, {0: base + noise, 1: base - noise}, {0: base + noise})
    )
    assert apart == pytest.approx(single)
    assert opposed == pytest.approx(0, abs=1e-9)


def test_the_gain_is_of_equal_seeds_and_a_missing_one_is_named() -> None:
    iou = {(OURS, "val"): {1: np.full(9, 0.5)}, (BASELINE, "val"): {0: np.zeros(9), 1: np.full(9, 0.25)}}
    assert of_gain(iou, OURS, BASELINE, "val") == (25, 25)
    with pytest.raises(DataError, match=r"refshapes/seed0/ratio1/ours/retrain/val/metrics\.json"):
        of_gain(iou, BASELINE, OURS, "val")
    with pytest.raises(DataError, match=r"ratio1/ours/retrain/testA/metrics\.json"):
        of_gain(iou, OURS, BASELINE, "testA")


def test_scores_are_read_from_beside_the_metrics(scored: Write) -> None:
    paths = [scored(f"refshapes/seed{seed}/ratio1/baseline/res", mIoU=40.0 + seed) for seed in (0, 1)]
    scores = intervals.read_scores([*paths, scored("refshapes/seed0/rec/points")])
    assert list(scores) == [(BASELINE, "val")]
    means = {seed: 100 * iou.mean() for seed, iou in scores[BASELINE, "val"].items()}
    assert means == pytest.approx({0: 40, 1: 41})


def change(metrics: Path, **columns: object) -> None:
    path = metrics.with_name("predictions.parquet")
    pd.read_parquet(path).assign(**columns).to_parquet(path)


def test_predictions_of_other_expressions_are_refused_by_file_and_row(scored: Write) -> None:
    first, second = (scored(f"refshapes/seed0/ratio1/{name}/res") for name in ("baseline", "ours"))
    names = [f"thing {row}" for row in range(200)]
    change(second, expression=[*names[:7], "another", *names[8:]])
    with pytest.raises(DataError, match=r"ours/res/val/predictions\.parquet: row 7 is 'another' of ref 3.*baseline"):
        intervals.read_scores([first, second])
    path = second.with_name("predictions.parquet")
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    with pytest.raises(DataError, match=r"199 expressions, but .* has 200"):
        intervals.read_scores([first, second])


def test_predictions_that_cannot_be_used_are_named(scored: Write) -> None:
    path = scored("refshapes/seed0/ratio1/ours/res")
    change(path, iou=[0.5] * 3 + [1.5] + [0.5] * 196)
    with pytest.raises(DataError, match=r"predictions\.parquet: row 3: iou is 1\.5, not in 0-1"):
        intervals.read_scores([path])
    path.with_name("predictions.parquet").unlink()
    with pytest.raises(DataError, match=r"predictions\.parquet: cannot be read"):
        intervals.read_scores([path])
