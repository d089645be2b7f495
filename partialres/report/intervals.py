"""How sure a gain is: the difference of two models' mIoU with a paired bootstrap interval over expressions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
_BATCH = 100  # resamples at once: memory is this many times a split's expressions


class Model(NamedTuple):
    """What was trained, whatever the seed: one step of an experiment at a ratio (per cent)."""

    dataset: str
    ratio: float
    experiment: str
    step: str  # res or retrain


@dataclass(frozen=True)
class Gain:
    """By how many points of mIoU a model is above another, the interval of it, and the gain of each seed alone."""

    points: float
    low: float
    high: float
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Scores:
    """IoU of every expression, each array float [expressions] in 0-1: (model, split) -> seed -> IoU.

    All arrays of a data set's split are of the same expressions in the same order.
    """

    iou: Mapping[tuple[Model, str], Mapping[int, np.ndarray]]

    def of(self, model: Model, split: str) -> Mapping[int, np.ndarray]:
        """Seed -> IoU; empty where the model was not scored on the split."""
        return self.iou.get((model, split), {})

    def gain(self, model: Model, reference: Model, split: str) -> Gain:
        """The gain of a model over another on a split, over the model's seeds, both models with equal seeds paired.

        Raises DataError if the model has no scores, or the other lacks one of its seeds.
        """
        mine, theirs = self.of(model, split), self.of(reference, split)
        for scored, scores in ((model, mine), (reference, theirs)):
            lacking = sorted((set(mine) or {0}) - set(scores))
            if lacking:
                raise DataError(
                    f"{model.dataset} {split}: '{model.experiment}' at {model.ratio:g} % cannot be compared with "
                    f"'{reference.experiment}' at {reference.ratio:g} %: give {scored.dataset}/seed{lacking[0]}/"
                    f"ratio{scored.ratio:g}/{scored.experiment}/{scored.step}/{split}/metrics.json too"
                )
        differences = {seed: 100 * (mine[seed] - theirs[seed]) for seed in sorted(mine)}
        averaged = np.mean(list(differences.values()), axis=0)
        low, high = interval(averaged)
        return Gain(float(averaged.mean()), low, high, tuple(float(each.mean()) for each in differences.values()))


def interval(differences: np.ndarray) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of paired differences, float [n]; NaN, NaN with fewer than two.

    Pairs are resampled with replacement (Efron and Tibshirani 1993, ch. 13). With one number a pair, its difference,
    that is the paired bootstrap of the difference of two means. What is resampled is all that the interval covers:
    expressions, if each number is one expression's; the spread between trainings is not in it. The same differences
    give the same interval.
    """
    if len(differences) < 2:
        return np.nan, np.nan
    found = bootstrap(
        (differences,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def read_scores(metrics: Iterable[Path]) -> Scores:
    """The predictions.parquet beside each metrics.json; those of step 1 are passed over.

    Raises DataError if one is missing or lacks a column, if an IoU is not in 0-1, or if two models of a data set's
    split were not scored on the same expressions in the same order.
    """
    iou: dict[tuple[Model, str], dict[int, np.ndarray]] = {}
    first: dict[tuple[str, str], tuple[Path, pd.DataFrame]] = {}
    for path in map(Path, metrics):
        run = evaluation_of(path)
        if run.step == "rec" or run.ratio is None or run.experiment is None:
            continue
        beside = path.with_name("predictions.parquet")
        table = read_table(beside, ["ref_id", "expression", "iou"])
        _same_expressions(beside, table, *first.setdefault((run.dataset, run.split), (beside, table)))
        values = table["iou"].to_numpy(dtype=float)
        wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if len(wrong):
            raise DataError(f"{beside}: row {wrong[0]}: iou is {values[wrong[0]]}, not in 0-1; evaluate again")
        iou.setdefault((Model(run.dataset, run.ratio, run.experiment, run.step), run.split), {})[run.seed] = values
    return Scores(iou)


def _same_expressions(path: Path, table: pd.DataFrame, other: Path, expected: pd.DataFrame) -> None:
    """Raises DataError that names both files and the first row that differs."""
    if len(table) != len(expected):
        raise DataError(
            f"{path}: {len(table):,} expressions, but {other} has {len(expected):,}; evaluate both on one refs.parquet"
        )
    differs = (table[["ref_id", "expression"]] != expected[["ref_id", "expression"]]).any(axis=1).to_numpy()
    if differs.any():
        row = int(differs.argmax())
        raise DataError(
            f"{path}: row {row} is '{table['expression'].iloc[row]}' of ref {table['ref_id'].iloc[row]}, in {other} "
            f"it is '{expected['expression'].iloc[row]}' of ref {expected['ref_id'].iloc[row]}; evaluate both on one "
            "refs.parquet"
        )
