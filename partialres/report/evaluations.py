"""Read result files: find the run that each belongs to, and collect their numbers in one long table."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from partialres.files import DataError, read_json

BASELINE, OURS = "baseline", "ours"
MASK_HEAD = "mask head"  # the experiment column for step 1 of the mask head, which belongs to no experiment
MODEL = ["dataset", "split", "ratio", "experiment", "step"]  # columns that name a model and where it was scored
SELECTION = ["candidates", "kept", "kept_share", "true_iou_kept", "true_iou_all", "mean_d"]

_COUNTS = ("expressions", "refs")  # keys of metrics.json that are counts; all others are metrics
_ORDER = {
    "dataset": ("refshapes", "refshapes+", "refshapesg", "refcoco", "refcoco+", "refcocog"),
    "experiment": (BASELINE, OURS),
    "step": ("rec", "res", "pseudo", "retrain"),
    "split": ("train", "val", "testA", "testB", "test"),
}
_PATH = re.compile(
    r"(?:^|/)(?P<dataset>[^/]+)/seed(?P<seed>\d+)/"
    r"(?:rec/(?P<head>points|mask)|ratio(?P<ratio>\d+(?:\.\d+)?)/(?P<experiment>[^/]+)/(?P<step>res|retrain|pseudo))/"
    r"(?:(?P<split>[^/]+)/)?[^/]+$"
)
_GRAMMAR = "{dataset}/seed{seed}/ratio{ratio}/{experiment}/{step} or {dataset}/seed{seed}/rec/{head}"


class Run(NamedTuple):
    """Identifies one step of one run.

    ratio: per cent of the training refs that have masks; None in step 1. experiment: in step 1 empty or MASK_HEAD.
    step: rec, res, pseudo or retrain. split: where the step's model was scored; empty for files of the step itself.
    """

    dataset: str
    seed: int
    ratio: float | None
    experiment: str
    step: str
    split: str = ""


def run_of(path: Path) -> Run:
    """Return the run that a file belongs to, from its path; folders above the data set's do not matter.

    Raises DataError unless the file is in a folder described by _GRAMMAR or in a split's folder inside one.
    """
    match = _PATH.search(Path(path).as_posix())
    if match is None:
        raise DataError(f"{path}: not a file of a run; it must be in a folder {_GRAMMAR}")
    ratio = None if match["ratio"] is None else float(match["ratio"])
    experiment = match["experiment"] or (MASK_HEAD if match["head"] == "mask" else "")
    return Run(match["dataset"], int(match["seed"]), ratio, experiment, match["step"] or "rec", match["split"] or "")


def evaluation_of(path: Path) -> Run:
    """Return the run and split that a metrics.json is about, from its path; raises DataError for any other file."""
    run = run_of(path)
    if not run.split or run.step == "pseudo" or Path(path).name != "metrics.json":
        raise DataError(f"{path}: not the path of an evaluation; it must be {{split}}/metrics.json below {_GRAMMAR}")
    return run


def collect(paths: Iterable[Path]) -> pd.DataFrame:
    """Read metrics.json files into a long table, one row per score, sorted as by `ordered`.

    Columns: dataset, seed, ratio (per cent; NaN in step 1), experiment (in step 1 empty or MASK_HEAD), step, split,
    expressions, refs, metric, value (as in the file: 0-100; `degenerate` is a count).
    Raises DataError if two belong to the same evaluation, if a file lacks its counts or holds
    anything but finite numbers, or if a split was scored on different numbers of expressions.
    """
    rows: list[dict[str, Any]] = []
    for run, figures in _read(paths, evaluation_of, _COUNTS).items():
        counts = {key: int(figures.pop(key)) for key in _COUNTS}
        rows += [run._asdict() | counts | {"metric": key, "value": value} for key, value in figures.items()]
    table = pd.DataFrame(rows).astype({"ratio": "float64"})
    for (dataset, split), group in table.groupby(["dataset", "split"]):
        if group["expressions"].nunique() > 1:
            numbers = ", ".join(map(str, sorted(group["expressions"].unique())))
            cure = "evaluate all of them on the same refs.parquet"
            raise DataError(f"{dataset} {split}: scored on {numbers} expressions in different runs; {cure}")
    return ordered(table)


def collect_selections(paths: Iterable[Path]) -> pd.DataFrame:
    """Read selection.json files, which lie beside a run's pseudo points, into a table with one row per run.

    Columns: dataset, seed, ratio, experiment, step, then SELECTION (candidates and kept: numbers of pseudo masks;
    shares and IoU 0-100; mean_d 0-2). true_iou_kept is NaN where none was kept.
    Raises DataError if two belong to the same run, or if a file lacks a number.
    """
    selections = _read(paths, run_of, SELECTION)
    rows = [run._asdict() | {key: figures[key] for key in SELECTION} for run, figures in selections.items()]
    table = pd.DataFrame(rows).astype({"ratio": "float64"}).drop(columns="split")
    return ordered(table.assign(true_iou_kept=table["true_iou_kept"].where(table["kept"] > 0)))


def _read(paths: Iterable[Path], whose: Callable[[Path], Run], required: Sequence[str]) -> dict[Run, dict[str, float]]:
    """Read JSON objects of finite numbers into a dict by run; raises DataError for anything else or two of one run.

    Only a true IoU may be null, which is read as NaN: there was no mask to measure.
    """
    read: dict[Run, dict[str, float]] = {}
    for path in map(Path, paths):
        run, content = whose(path), read_json(path)
        if run in read:
            raise DataError(f"{path}: a second file of one run; give each run once")
        if not isinstance(content, dict):
            raise DataError(f"{path}: holds no JSON object; make it again")
        if absent := [key for key in required if key not in content]:
            raise DataError(f"{path}: lacks {', '.join(absent)}; make it again")
        for key, value in content.items():
            if value is None and key.startswith("true_iou"):
                content[key] = math.nan
            elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise DataError(f"{path}: '{key}' is {value!r}, not a finite number; make the file again")
        read[run] = {key: float(value) for key, value in content.items()}
    return read


def summarise(table: pd.DataFrame, by: Sequence[str] = ("metric",)) -> pd.DataFrame:
    """Compute mean and sample standard deviation over the seeds of a long table (from `collect`).

    Returns one row per model (MODEL) and combination of the columns `by`, sorted as by `ordered`, with columns
    expressions, mean, sd (NaN with one seed) and seeds (their number).
    """
    grouped = table.groupby([*MODEL, *by], dropna=False, sort=False)
    summary = grouped.agg(
        expressions=("expressions", "first"), mean=("value", "mean"), sd=("value", "std"), seeds=("seed", "count")
    )
    return ordered(summary.reset_index())


def where(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Return the rows in which each named column has the given value."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Sort the rows by data set, split, ratio, experiment (baseline, ours, others), step and seed."""
    keys = [key for key in (*MODEL, "seed") if key in table]
    ranks = {"key": lambda column: column.map(partial(_rank, column.name)), "kind": "stable"}
    return table.sort_values(keys, ignore_index=True, **ranks)


def _rank(kind: str, name: Any) -> Any:
    """Return a sort key that puts the names in _ORDER first and others after them alphabetically; sorts numbers too."""
    if kind not in _ORDER:
        return name
    return f"{_ORDER[kind].index(name):02d}" if name in _ORDER[kind] else f"99{name}"
