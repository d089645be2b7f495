"""Which run a result file belongs to, and many metrics.json files as one long table."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from partialres.comparisons import BASELINE, ORACLE, OURS
from partialres.files import DataError, read_json

MASK_HEAD = "mask head"  # stands for the experiment in step 1 of the mask head, which all that have that head share
COUNTS = ("expressions", "refs")  # keys of metrics.json that are numbers of things, not figures
RUN_COLUMNS = ["dataset", "seed", "ratio", "experiment", "step"]
PSEUDO_FIGURES = ["candidates", "kept", "kept_share", "true_iou_kept", "true_iou_all", "mean_d"]

_ORDER = {
    "dataset": ("refshapes", "refshapes+", "refshapesg", "refcoco", "refcoco+", "refcocog"),
    "experiment": (BASELINE, OURS, ORACLE),
    "step": ("rec", "res", "pseudo", "retrain"),
    "split": ("train", "val", "testA", "testB", "test"),
}
_RUN = (
    r"(?:^|/)(?P<dataset>[^/]+)/seed(?P<seed>\d+)/"
    r"(?:(?P<rec>rec|rec_mask)|ratio(?P<ratio>\d+(?:\.\d+)?)/(?P<experiment>[^/]+)/(?P<step>res|retrain|pseudo))/"
)
_EVALUATION = re.compile(_RUN + r"(?P<split>[^/]+)/metrics\.json$")
_STEP_FILE = re.compile(_RUN + r"[^/]+$")
_GRAMMAR = "{dataset}/seed{seed}/ratio{ratio}/{experiment}/{step}"


@dataclass(frozen=True)
class Run:
    """One step of one run. In step 1 ratio (per cent of refs with masks) and experiment are None.

    But the experiment of the mask head's own step 1 is MASK_HEAD.
    """

    dataset: str
    seed: int
    ratio: float | None
    experiment: str | None
    step: str  # rec, res, pseudo or retrain


@dataclass(frozen=True)
class Evaluation(Run):
    """One model scored on one split."""

    split: str


def evaluation_of(path: Path) -> Evaluation:
    """The evaluation that a metrics.json belongs to, read from its path.

    Folders before the data set do not matter. Raises DataError if the path is not
    {dataset}/seed{seed}/ratio{ratio}/{experiment}/{step}/{split}/metrics.json with step res or retrain, nor
    {dataset}/seed{seed}/rec/{split}/metrics.json, or rec_mask in the place of rec.
    """
    match = _EVALUATION.search(Path(path).as_posix())
    if match is None or match["step"] == "pseudo":
        raise DataError(
            f"{path}: not the path of an evaluation; it must end in {_GRAMMAR}/{{split}}/metrics.json (step "
            f"res or retrain) or {{dataset}}/seed{{seed}}/rec/{{split}}/metrics.json (of the mask head rec_mask)"
        )
    return Evaluation(**asdict(_run(match)), split=match["split"])


def run_of(path: Path) -> Run:
    """The run whose step folder holds this file (metrics.csv, points.parquet, ...), read from its path.

    Raises DataError if the path is neither {dataset}/seed{seed}/ratio{ratio}/{experiment}/{step}/{file} with
    step res, retrain or pseudo, nor {dataset}/seed{seed}/rec/{file}, or rec_mask in the place of rec.
    """
    match = _STEP_FILE.search(Path(path).as_posix())
    if match is None:
        raise DataError(
            f"{path}: not a file of a run; it must end in {_GRAMMAR}/{{file}} (step res, retrain or pseudo) "
            f"or {{dataset}}/seed{{seed}}/rec/{{file}} (of the mask head rec_mask)"
        )
    return _run(match)


def _run(match: re.Match[str]) -> Run:
    ratio = match["ratio"]
    return Run(
        dataset=match["dataset"],
        seed=int(match["seed"]),
        ratio=None if ratio is None else float(ratio),
        experiment=MASK_HEAD if match["rec"] == "rec_mask" else match["experiment"],
        step=match["step"] or "rec",
    )


def collect(paths: Iterable[Path]) -> pd.DataFrame:
    """The metrics.json files as a long table, a row a figure, in the order of reports.

    Columns: dataset, seed, ratio (per cent; NaN in step 1), experiment (in step 1 empty or MASK_HEAD), step, split,
    expressions, refs, metric, value (as in the file: 0-100).
    Raises DataError if there is no file, if two are of one evaluation, if a file lacks its counts or holds
    something other than finite numbers, or if one split was scored on different numbers of expressions.
    """
    rows: list[dict[str, Any]] = []
    seen: dict[Evaluation, Path] = {}
    for path in map(Path, paths):
        evaluation = evaluation_of(path)
        if evaluation in seen:
            raise DataError(f"{path}: the same evaluation as {seen[evaluation]}; give each one once")
        seen[evaluation] = path
        figures = _numbers(path)
        counts = {key: int(figures.pop(key)) for key in COUNTS}
        rows += [asdict(evaluation) | counts | {"metric": key, "value": value} for key, value in figures.items()]
    if not rows:
        raise DataError("no evaluations: a report needs at least one metrics.json")
    table = _runs(rows)
    for (dataset, split), group in table.groupby(["dataset", "split"]):
        if group["expressions"].nunique() > 1:
            numbers = ", ".join(map(str, sorted(group["expressions"].unique())))
            raise DataError(
                f"{dataset} {split}: scored on {numbers} expressions in different runs, which cannot stand "
                "in one table; evaluate all of them on the same refs.parquet"
            )
    return ordered(table)


def collect_pseudo(paths: Iterable[Path]) -> pd.DataFrame:
    """Selection summaries ({dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/*.json), a row a run.

    Columns: dataset, seed, ratio, experiment, step, then PSEUDO_FIGURES (candidates and kept: pseudo masks;
    shares and IoU 0-100; mean_d 0-2). A null, such as the true IoU of the kept when none is, becomes NaN.
    Raises DataError if there is no file, if two are of one run, or if a file lacks a figure.
    """
    rows: list[dict[str, Any]] = []
    seen: dict[Run, Path] = {}
    for path in map(Path, paths):
        run = run_of(path)
        if run in seen:
            raise DataError(f"{path}: a selection of the same run as {seen[run]}; give each one once")
        seen[run] = path
        rows.append(asdict(run) | _numbers(path, PSEUDO_FIGURES, nullable=True))
    if not rows:
        raise DataError("no selection summaries: the table of pseudo masks needs at least one")
    return ordered(_runs(rows))


def _runs(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    return table.assign(ratio=table["ratio"].astype("float64"), experiment=table["experiment"].fillna("").astype(str))


def _numbers(path: Path, only: Sequence[str] = (), nullable: bool = False) -> dict[str, float]:
    """A JSON object's numbers, all or `only` some; null reads as NaN where it may stand."""
    try:
        content = read_json(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no JSON object; make it again")
    absent = [key for key in only or COUNTS if key not in content]
    if absent:
        raise DataError(f"{path}: lacks {', '.join(absent)}; make it again")
    numbers: dict[str, float] = {}
    for key in only or content:
        value = content[key]
        if value is None and nullable:
            value = math.nan
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"{path}: '{key}' is {value!r}, not a finite number; make the file again")
        numbers[key] = float(value)
    return numbers


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """The rows by data set, split, ratio, experiment (baseline, ours, others), step and seed."""
    keys = [key for key in ("dataset", "split", "ratio", "experiment", "step", "seed") if key in table]

    def rank(column: pd.Series) -> pd.Series:
        return column.map(lambda name: _rank(str(column.name), name)) if column.name in _ORDER else column

    return table.sort_values(keys, key=rank, kind="stable", na_position="first").reset_index(drop=True)


def in_order(kind: str, names: Iterable[str]) -> list[str]:
    """Distinct names in the order of reports. kind: dataset, experiment, step or split."""
    return sorted(set(names), key=lambda name: _rank(kind, name))


def _rank(kind: str, name: str) -> str:
    """A key that sorts known names by their place and others after them by alphabet."""
    known = _ORDER[kind]
    return f"{known.index(name):02d}" if name in known else f"99{name}"


def dataset_name(dataset: str) -> str:
    """A data set's name as people write it."""
    return dataset.replace("refshapes", "RefShapes").replace("refcoco", "RefCOCO")


def oracle_of(dataset: pd.DataFrame) -> str | None:
    """The experiment that is one data set's oracle, trained on every mask, or None if there is none.

    That is step 2 of `oracle` at 100 % if it was run, else of `ours` at 100 %. dataset: rows of `collect`'s
    table.
    """
    full = set(dataset.loc[(dataset["ratio"] == 100) & (dataset["step"] == "res"), "experiment"])
    return next((name for name in (ORACLE, OURS) if name in full), None)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds of a long table (`collect`).

    Returns one row a (dataset, split, ratio, experiment, step, metric) with columns expressions, mean, sd
    (NaN with one seed) and seeds (a tuple of them).
    """
    keys = ["dataset", "split", "ratio", "experiment", "step", "metric"]
    grouped = table.groupby(keys, dropna=False, sort=False)
    summary = grouped.agg(
        expressions=("expressions", "first"),
        mean=("value", "mean"),
        sd=("value", "std"),
        seeds=("seed", lambda seeds: tuple(sorted(seeds))),
    )
    return ordered(summary.reset_index())
