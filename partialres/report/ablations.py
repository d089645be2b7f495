"""Tables of experiments that differ in one thing: the paper's Tables 2 to 4, and what goes beyond the paper.

Each takes evaluations (`evaluations.collect`), the IoU of every expression (`intervals.read_scores`) and the rows of
the comparison (`comparisons`), and returns a `render.Table`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from partialres.comparisons import COMPONENTS, RESAMPLE, THRESHOLD, Compared
from partialres.files import DataError
from partialres.report import intervals, words
from partialres.report.evaluations import dataset_name, in_order, oracle_of, summarise
from partialres.report.render import ABSENT, Column, Grid, Row, Table, number, with_interval, with_spread

_METRICS = ("mIoU", "Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9")
_PSEUDO = {"kept_share": "kept, %", "true_iou_kept": "true IoU of the kept"}
_PRECISION = "Pr@X: the share of expressions with IoU of at least X, %."
_SELECTION = (
    "kept: the share of pseudo masks that step 3 was given; true IoU: the mean IoU of those with the masks withheld "
    "from training, %, a check made afterwards."
)
_PAPER = (
    "paper: Qu et al., CVPR 2023, on the same split; its scoring inflates IoU where an object has several polygons."
)


def ablation(evaluations: pd.DataFrame, scores: intervals.Scores, rows: Sequence[Compared]) -> Table:
    """The paper's Table 2: CCTF and PMCA, apart and together, after step 2.

    Table.data is tidy: dataset, split, ratio, experiment, step, label, the compared settings, kept_share and
    true_iou_kept where selections were given, metric, mean, sd, seeds, expressions, gain over the reference row of the
    same ratio (mIoU only) with gain_low and gain_high, share_of_oracle, published.
    Raises DataError if a row has no evaluation, or the reference lacks one of its seeds.
    """
    data = _data(evaluations, scores, rows, lambda row: row.experiment)
    marks = {key: key.removeprefix("model.").upper() for key in COMPONENTS}

    def marked(row: dict[str, Any]) -> list[str]:
        return ["✓" if row[key] else "" for key in marks]

    notes = ("gain: points of mIoU over the same training without CCTF and PMCA.", intervals.MEANING)
    return _table("CCTF and PMCA after step 2", data, _METRICS, (*marks.values(),), marked, (), notes)


def rpp(evaluations: pd.DataFrame, scores: intervals.Scores, rows: Sequence[Compared]) -> Table:
    """The paper's Table 3: step 3 on pseudo points as predicted and on resampled ones, beside step 2.

    Table.data and errors: as of `ablation`.
    """

    def label(row: Compared) -> str:
        if row.step == "res":
            return "step 2"
        return f"step 3 {'with' if row.values[RESAMPLE] else 'without'} RPP"

    data = _data(evaluations, scores, rows, label)
    notes = (
        "RPP: the kept pseudo masks' points are spaced evenly along their outlines before step 3 learns them.",
        "gain: points of mIoU over step 2 of the same ratio.",
        intervals.MEANING,
    )
    return _table("Resampled pseudo points in step 3", data, _METRICS, (), lambda row: [], (), notes)


def thresholds(
    evaluations: pd.DataFrame, scores: intervals.Scores, selections: pd.DataFrame, rows: Sequence[Compared]
) -> Table:
    """The paper's Table 4: step 3 by the threshold T on D (eq. 8), beside step 2, with what each T keeps.

    selections: `evaluations.collect_pseudo`'s table. Table.data and errors: as of `ablation`.
    """

    def label(row: Compared) -> str:
        return "step 2" if row.step == "res" else f"T = {row.values[THRESHOLD]:.2f}"

    data = _data(evaluations, scores, rows, label, selections)
    notes = (
        "Step 3 is given the pseudo masks with D < T; D is at most 2.",
        _SELECTION,
        "gain: points of mIoU over step 2 of the same ratio.",
        intervals.MEANING,
    )
    return _table("Selection of pseudo masks by D", data, _METRICS, (), lambda row: [], tuple(_PSEUDO), notes)


def extensions(
    evaluations: pd.DataFrame, scores: intervals.Scores, selections: pd.DataFrame, rows: Sequence[Compared]
) -> Table:
    """Step 3 of experiments beyond the paper, beside step 3 of ours, with the oracle's share and what was kept.

    evaluations: with the oracle's where it was run. selections: `evaluations.collect_pseudo`'s table. Table.data and
    errors: as of `ablation`.
    """
    data = _data(evaluations, scores, rows, lambda row: row.experiment, selections)
    data = data[data["metric"] == "mIoU"].reset_index(drop=True)
    grids = []
    for dataset in in_order("dataset", data["dataset"]):
        part = data[data["dataset"] == dataset]
        splits = in_order("split", part["split"])
        columns = [Column(split, name) for split in splits for name in ("mIoU", "gain over ours", "of oracle")]
        columns += [Column("pseudo masks", name) for name in _PSEUDO.values()]
        lines = []
        for (ratio, _, label), group in part.groupby(["ratio", "experiment", "label"], sort=False):
            cells = group.set_index("split")
            texts = []
            for split in splits:
                row = cells.loc[split] if split in cells.index else None
                texts += [ABSENT] * 3 if row is None else [*_score(row), _share(row["share_of_oracle"])]
            first = cells.iloc[0]
            lines.append(Row(f"{ratio:g} %", str(label), (*texts, *_kept(first)), bool(first["reference"])))
        grids.append(Grid(dataset_name(dataset), ("masks", "step 3 of"), tuple(columns), tuple(lines)))
    notes = (
        words.MEANING["mIoU"],
        words.seeds(data),
        words.expressions(data),
        "gain over ours: points of mIoU over step 3 of ours, at the same ratio and seeds. of oracle: the row's mean "
        "over that of step 2 with every mask.",
        intervals.MEANING,
        _SELECTION,
    )
    return Table("Beyond the paper: step 3 with other pseudo masks", notes, tuple(grids), data)


def _data(
    evaluations: pd.DataFrame,
    scores: intervals.Scores,
    rows: Sequence[Compared],
    label: Callable[[Compared], str],
    selections: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The tidy figures of a comparison, in the order of its rows (`ablation`)."""
    summary = summarise(evaluations[evaluations["metric"].isin(_METRICS)])
    key = ["dataset", "ratio", "experiment", "step"]
    groups = {tuple(names): group for names, group in summary.groupby(key, sort=False)}
    paper = words.published().set_index([*key, "split", "metric"])["value"].to_dict()
    oracles = {str(name): oracle_of(part) for name, part in summary.groupby("dataset")}
    means = summary.set_index([*key, "split", "metric"])["mean"].to_dict()
    references = {(row.dataset, row.ratio): _model(row) for row in rows if row.reference}
    lines = []
    for row in rows:
        model = _model(row)
        if tuple(model) not in groups:
            raise DataError(
                f"no evaluation of '{row.experiment}' at {row.ratio:g} % of {row.dataset}: give "
                f"{row.dataset}/seed*/ratio{row.ratio:g}/{row.experiment}/{row.step}/*/metrics.json too"
            )
        shared = {"label": label(row), "reference": row.reference} | dict(row.values)
        if selections is not None:
            shared |= _selection(selections, row)
        reference = references.get((row.dataset, row.ratio))
        gains = {
            split: scores.gain(model, reference, split)
            for split in groups[tuple(model)]["split"].unique()
            if reference not in (None, model)
        }
        for figure in groups[tuple(model)].to_dict("records"):
            split, metric = figure["split"], figure["metric"]
            gain = gains.get(split) if metric == "mIoU" else None
            ceiling = means.get((row.dataset, 100.0, oracles[row.dataset], "res", split, metric), math.nan)
            lines.append(
                {name: figure[name] for name in ("dataset", "split", "ratio", "experiment", "step")}
                | shared
                | {name: figure[name] for name in ("metric", "mean", "sd", "expressions")}
                | {"seeds": len(figure["seeds"])}
                | {"gain": gain.points if gain else math.nan}
                | {"gain_low": gain.low if gain else math.nan, "gain_high": gain.high if gain else math.nan}
                | {"share_of_oracle": 100 * figure["mean"] / ceiling if ceiling > 0 else math.nan}
                | {"published": paper.get((*model, split, metric), math.nan)}
            )
    if not lines:
        raise DataError("nothing to compare: no runs were named")
    return pd.DataFrame(lines)


def _model(row: Compared) -> intervals.Model:
    return intervals.Model(row.dataset, row.ratio, row.experiment, row.step)


def _selection(selections: pd.DataFrame, row: Compared) -> dict[str, float]:
    """What a row's step 3 was given, over seeds; NaN for step 2 and where no selection is known."""
    own = selections[
        (selections["dataset"] == row.dataset)
        & (selections["ratio"] == row.ratio)
        & (selections["experiment"] == row.experiment)
        & (row.step == "retrain")
    ]
    return {key: own[name].agg(how) for name in _PSEUDO for key, how in ((name, "mean"), (f"{name}_sd", "std"))}


def _table(
    title: str,
    data: pd.DataFrame,
    metrics: Sequence[str],
    marks: tuple[str, ...],
    marked: Callable[[dict[str, Any]], list[str]],
    pseudo: tuple[str, ...],
    notes: tuple[str, ...],
) -> Table:
    """A grid a split: marks, metrics, the gain and what was kept, with the paper's row under ours where it has one.

    marks: names of the columns that `marked` gives the texts of.
    """
    names = [*marks, *metrics, "gain", *(_PSEUDO[name] for name in pseudo)]
    grids = []
    for dataset in in_order("dataset", data["dataset"]):
        for split in in_order("split", data.loc[data["dataset"] == dataset, "split"]):
            part = data[(data["dataset"] == dataset) & (data["split"] == split)]
            lines = []
            for (ratio, _, label), group in part.groupby(["ratio", "experiment", "label"], sort=False):
                cells = group.set_index("metric")
                first = cells.iloc[0].to_dict()
                figures = [_figure(cells, metric) for metric in metrics]
                gain = _score(cells.loc["mIoU"])[1]
                kept = _kept(first) if pseudo else ()
                lines.append(Row(f"{ratio:g} %", str(label), (*marked(first), *figures, gain, *kept)))
                if cells["published"].notna().any():
                    paper = [number(cells["published"].get(metric, math.nan)) for metric in metrics]
                    texts = (*marked(first), *paper, ABSENT, *([ABSENT] * len(kept)))
                    lines.append(Row(f"{ratio:g} %", f"{label}, paper", texts))
            heading = f"{dataset_name(dataset)} {split}"
            grids.append(Grid(heading, ("masks", "model"), tuple(Column("", name) for name in names), tuple(lines)))
    general = [words.MEANING["mIoU"], _PRECISION, words.seeds(data), words.expressions(data), *notes]
    general += [_PAPER] if data["published"].notna().any() else []
    return Table(title, tuple(general), tuple(grids), data)


def _figure(cells: pd.DataFrame, metric: str) -> str:
    return with_spread(cells.at[metric, "mean"], cells.at[metric, "sd"]) if metric in cells.index else ABSENT


def _score(row: Mapping[str, Any] | pd.Series) -> list[str]:
    """A row's mean and its gain, as texts."""
    gain = with_interval(row["gain"], row["gain_low"], row["gain_high"])
    return [with_spread(row["mean"], row["sd"]), gain]


def _share(value: float) -> str:
    return ABSENT if pd.isna(value) else f"{number(value, 1)} %"


def _kept(row: Mapping[str, Any] | pd.Series) -> tuple[str, ...]:
    return tuple(with_spread(row[name], row[f"{name}_sd"], 1) for name in _PSEUDO)
