"""Estimate how certain a gain in mIoU is: paired bootstrap intervals over expressions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from partialres.files import DataError, read_table
from partialres.report.evaluations import evaluation_of

CONFIDENCE, RESAMPLES = 0.95, 2000
MEANING = (
    f"Brackets: {100 * CONFIDENCE:.0f} % interval of the gain from a paired bootstrap over expressions ({RESAMPLES:,} "
    "resamples, IoU averaged over seeds first). It covers which expressions a split happens to have, not what another "
    "training seed would do: ± shows that. Expressions of one object count as independent, which makes it somewhat too "
    "narrow."
)


class Model(NamedTuple):
    """Identifies a trained model, seed aside: one step of an experiment at a ratio (per cent)."""

    dataset: str
    ratio: float
    experiment: str
    step: str  # res or retrain


# IoU of every expression: (model, split) -> seed -> float [expressions] in 0-1. All arrays of the same data set and
# split hold the same expressions in the same order.
Scores = Mapping[tuple[Model, str], Mapping[int, np.ndarray]]


def of_gain(scores: Scores, model: Model, reference: Model, split: str) -> tuple[float, float]:
    """Return the interval, in points of mIoU, of a model's gain over the reference on a split, averaged over its seeds.

    Raises DataError if the model has no scores, or the reference lacks one of the model's seeds.
    """
    mine, theirs = (scores.get((each, split), {}) for each in (model, reference))
    for scored, seeds in ((model, mine), (reference, theirs)):
        if lacking := sorted((set(mine) or {0}) - set(seeds)):
            raise DataError(
                f"{model.dataset} {split}: '{model.experiment}' at {model.ratio:g} % cannot be compared with "
                f"'{reference.experiment}' at {reference.ratio:g} %: give {scored.dataset}/seed{lacking[0]}/"
                f"ratio{scored.ratio:g}/{scored.experiment}/{scored.step}/{split}/metrics.json too"
            )
    return interval(np.mean([100 * (mine[seed] - theirs[seed]) for seed in sorted(mine)], axis=0))


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of float [n]; (NaN, NaN) if n < 2.

    The numbers are resampled with replacement (Efron and Tibshirani 1993, ch. 13). If they are differences of pairs,
    this is the paired bootstrap of the difference of two means. Equal input gives equal output.
    """
    if len(differences) < 2:
        return np.nan, np.nan
    result = bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, vectorized=True,
        method="percentile", rng=np.random.default_rng(0), batch=100,  # resamples at a time, to limit memory
    )  # fmt: skip
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def read_scores(metrics: Iterable[Path]) -> Scores:
    """Read the predictions.parquet beside each metrics.json; step 1's are skipped.

    Raises DataError if one is missing or lacks a column, if an IoU is not in 0-1, or if two models on the same data set
    and split were not scored on the same expressions in the same order.
    """
    iou: dict[tuple[Model, str], dict[int, np.ndarray]] = {}
    first: dict[tuple[str, str], tuple[Path, pd.DataFrame]] = {}
    for path in map(Path, metrics):
        run = evaluation_of(path)
        if run.ratio is None:
            continue
        beside = path.with_name("predictions.parquet")
        table = read_table(beside, ["ref_id", "expression", "iou"])
        check_expressions(beside, table, *first.setdefault((run.dataset, run.split), (beside, table)))
        values = table["iou"].to_numpy(dtype=float)
        wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if len(wrong):
            raise DataError(f"{beside}: row {wrong[0]}: iou is {values[wrong[0]]}, not in 0-1; evaluate again")
        iou.setdefault((Model(run.dataset, run.ratio, run.experiment, run.step), run.split), {})[run.seed] = values
    return iou


def check_expressions(path: Path, table: pd.DataFrame, other: Path, expected: pd.DataFrame) -> None:
    """Check that two files have the same expressions; raises DataError that names both and the first differing row.

    table, expected: columns ref_id and expression of the files `path` and `other`.
    """
    cure = "evaluate both on one refs.parquet"
    if len(table) != len(expected):
        raise DataError(f"{path}: {len(table):,} expressions, but {other} has {len(expected):,}; {cure}")
    mine, theirs = (each[["ref_id", "expression"]].to_numpy(dtype=object) for each in (table, expected))
    differs = (mine != theirs).any(axis=1)
    if differs.any():
        row = int(differs.argmax())
        raise DataError(
            f"{path}: row {row} is '{mine[row][1]}' of ref {mine[row][0]}, in {other} it is '{theirs[row][1]}' of ref "
            f"{theirs[row][0]}; {cure}"
        )
