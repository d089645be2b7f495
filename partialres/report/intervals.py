"""Say how certain a gain is: an interval of the difference of two models' mIoU, over labelled draws and objects."""

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from partialres.files import DataError, read_table
from partialres.report.evaluations import evaluation_of

CONFIDENCE = 0.95
MEANING = (
    f"Brackets: {100 * CONFIDENCE:.0f} % interval of the gain, paired by seed and expression. It covers both the "
    "labelled refs and initial values that another seed would draw and the objects that another split would hold. With "
    "a single seed it covers the objects alone."
)


Model = tuple[str, str, float, str, str]  # the columns MODEL: data set, split, ratio (per cent), experiment, step
# IoU of every expression: model -> seed -> values from 0 to 1, indexed by ref_id. All values for one split of a data
# set are of the same expressions in the same order.
Scores = Mapping[Model, Mapping[int, pd.Series]]


def of_gain(scores: Scores, model: Model, reference: Model) -> tuple[float, float]:
    """Return the interval, in points of mIoU, of a model's gain over the reference, averaged over its seeds.

    Raises DataError if the model has no scores, or the reference lacks one of the model's seeds.
    """
    mine, theirs = (scores.get(each, {}) for each in (model, reference))
    for scored, seeds in ((model, mine), (reference, theirs)):
        if lacking := sorted((set(mine) or {0}) - set(seeds)):
            dataset, split, ratio, experiment, step = scored
            path = f"{dataset}/seed{lacking[0]}/ratio{ratio:g}/{experiment}/{step}/{split}/metrics.json"
            raise DataError(f"{dataset} {split}: give {path} too")
    differences = np.array([100 * (mine[seed] - theirs[seed]) for seed in sorted(mine)])
    return interval(differences, next(iter(mine.values())).index.to_numpy())


def interval(differences: np.ndarray, refs: np.ndarray) -> tuple[float, float]:
    """Return the confidence interval of the mean of paired differences [seeds, expressions]; NaN if all are of one ref.

    refs: [expressions], the object of each: expressions of the same object are not independent. The variance of the
    mean adds up two: that of the seeds' means, divided by their number, and that between objects (cluster-robust). The
    quantile is that of Student's t with Satterthwaite's degrees of freedom.
    """
    seeds, mean = differences.mean(axis=1), differences.mean()
    by_object = pd.Series(differences.mean(axis=0) - mean).groupby(refs).sum()
    objects = len(by_object)
    if objects < 2:
        return np.nan, np.nan
    parts = [(float((by_object**2).sum()) / len(refs) ** 2 * objects / (objects - 1), objects - 1)]
    if len(seeds) > 1:
        parts.append((float(seeds.var(ddof=1)) / len(seeds), len(seeds) - 1))
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return float(mean), float(mean)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * variance**0.5
    return float(mean - half), float(mean + half)


def read_scores(metrics: Iterable[Path]) -> Scores:
    """Read the predictions.parquet beside each metrics.json, but not those of step 1.

    Raises DataError if one is missing or wrong (`read_table`), or if two models on the same data set and split were not
    scored on the same expressions in the same order.
    """
    iou: dict[Model, dict[int, pd.Series]] = {}
    first: dict[tuple[str, str], tuple[Path, pd.DataFrame]] = {}
    for path in map(Path, metrics):
        run = evaluation_of(path)
        if run.ratio is None:
            continue
        beside = path.with_name("predictions.parquet")
        table = read_table(beside, ["ref_id", "expression", "iou"])
        check_expressions(beside, table, *first.setdefault((run.dataset, run.split), (beside, table)))
        model = run.dataset, run.split, run.ratio, run.experiment, run.step
        iou.setdefault(model, {})[run.seed] = table.set_index("ref_id")["iou"]
    return iou


def check_expressions(path: Path, table: pd.DataFrame, other: Path, expected: pd.DataFrame) -> None:
    """Check that two files have the same expressions; raises DataError that names both and the first differing row.

    table, expected: columns ref_id and expression of the files `path` and `other`.
    """
    mine, theirs = (list(zip(each["ref_id"], each["expression"], strict=True)) for each in (table, expected))
    for row, (own, given) in enumerate(zip_longest(mine, theirs)):
        if own != given:
            raise DataError(
                f"{path}: row {row} of {len(mine):,} is {own}, in {other}, of {len(theirs):,}, it is {given}; evaluate "
                "both on one refs.parquet"
            )
