"""The tables of the report: Table 1 of the paper, every metric, step 1's boxes and the pseudo masks.

Each takes the long table of `evaluations.collect` (or `collect_pseudo`) and returns a `render.Table`;
`render.write` puts it to disk. mIoU and oIoU are different figures: Table 1 never sets them in one grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from partialres.files import DataError
from partialres.report import intervals, words
from partialres.report.evaluations import (
    BASELINE,
    OURS,
    PSEUDO_FIGURES,
    dataset_name,
    in_order,
    oracle_of,
    summarise,
)
from partialres.report.render import ABSENT, Column, Grid, Row, Table, number, with_interval, with_spread


def table1(evaluations: pd.DataFrame, scores: intervals.Scores) -> Table:
    """The paper's Table 1: experiments by ratio, beside the baseline, the oracle and the published figures.

    evaluations: `collect`'s long table with mIoU and oIoU; step 1's rows are passed over.
    scores: of the same evaluations (`intervals.read_scores`).
    Table.data is tidy: dataset, split, ratio, experiment, step, label, final (the experiment's last step),
    metric (mIoU, oIoU, mIoU_upstream), mean, sd (sample, over seeds), seeds (their number), expressions,
    share_of_oracle (per cent of the oracle's mean), gain (points over the baseline at the same ratio,
    averaged over the row's seeds), gain_low and gain_high (of mIoU's gain: the interval), published.
    Raises DataError if there is nothing to show, or an experiment below 100 % has no baseline of its ratio
    and seeds.
    """
    masks = evaluations[evaluations["step"] != "rec"]
    wanted = masks[masks["metric"].isin(["mIoU", "oIoU", words.UPSTREAM])]
    if wanted.empty:
        raise DataError("Table 1 has nothing to show: no metrics.json of step 2 or 3 was given")
    data = _compare(wanted, scores)
    grids = []
    for metric in ("mIoU", "oIoU"):
        for dataset in in_order("dataset", data["dataset"]):
            part = data[data["dataset"] == dataset]
            if (part["metric"] == metric).any():
                grids.append(_table1_grid(part, metric, dataset))
    return Table("Referring-expression segmentation by mask ratio", _table1_notes(data), tuple(grids), data)


def _compare(wanted: pd.DataFrame, scores: intervals.Scores) -> pd.DataFrame:
    """Summary rows with label, final, share_of_oracle, gain, its interval and published added (`table1`)."""
    summary = summarise(wanted)
    key = ["dataset", "split", "ratio", "experiment", "step", "metric"]
    values = wanted.set_index([*key, "seed"])["value"].to_dict()
    means = summary.set_index(key)["mean"].to_dict()
    paper = words.published().set_index(key)["value"].to_dict()
    oracles = {str(dataset): oracle_of(rows) for dataset, rows in wanted.groupby("dataset")}
    step_3 = summary[summary["step"] == "retrain"]
    retrained = set(zip(step_3["dataset"], step_3["ratio"], step_3["experiment"], strict=True))
    rows = []
    for row in summary.itertuples(index=False):
        here = (row.dataset, row.split, row.ratio)
        oracle = oracles[row.dataset]
        is_oracle = row.ratio == 100 and row.experiment == oracle and row.step == "res"
        final = row.step == "retrain" or (row.dataset, row.ratio, row.experiment) not in retrained
        gain = _gain(row, values)
        low, high = math.nan, math.nan
        if row.metric == "mIoU" and not math.isnan(gain):
            baseline = intervals.Model(row.dataset, row.ratio, BASELINE, "res")
            found = scores.gain(baseline._replace(experiment=row.experiment, step=row.step), baseline, row.split)
            low, high = found.low, found.high
        ceiling = means.get((row.dataset, row.split, 100.0, oracle, "res", row.metric), math.nan)
        rows.append(
            {
                "dataset": row.dataset,
                "split": row.split,
                "ratio": row.ratio,
                "experiment": row.experiment,
                "step": row.step,
                "label": "Oracle" if is_oracle else words.label(row.experiment, row.step, final),
                "final": final,
                "metric": row.metric,
                "mean": row.mean,
                "sd": row.sd,
                "seeds": len(row.seeds),
                "expressions": row.expressions,
                "share_of_oracle": 100 * row.mean / ceiling if ceiling > 0 else math.nan,
                "gain": gain,
                "gain_low": low,
                "gain_high": high,
                "published": paper.get((*here, OURS if is_oracle else row.experiment, row.step, row.metric), math.nan),
            }
        )
    return pd.DataFrame(rows)


def _gain(row: Any, values: dict[tuple[Any, ...], float]) -> float:
    """Points over the baseline of the same ratio, averaged over the row's seeds.

    NaN for the baseline itself and, at 100 %, where no baseline was run.
    """
    if row.experiment == BASELINE and row.step == "res":
        return math.nan
    here = (row.dataset, row.split, row.ratio)
    gains, lacking = [], []
    for seed in row.seeds:
        baseline = values.get((*here, BASELINE, "res", row.metric, seed))
        if baseline is None:
            lacking.append(seed)
        else:
            gains.append(values[*here, row.experiment, row.step, row.metric, seed] - baseline)
    if not lacking:
        return sum(gains) / len(gains)
    if row.ratio == 100:
        return math.nan
    raise DataError(
        f"{row.dataset} {row.split}: '{row.experiment}' at {row.ratio:g} % has no baseline to compare with: "
        f"give {row.dataset}/seed{lacking[0]}/ratio{row.ratio:g}/{BASELINE}/res/{row.split}/metrics.json "
        f"(with {row.metric}) too"
    )


def _table1_grid(part: pd.DataFrame, metric: str, dataset: str) -> Grid:
    """Grid of one data set and metric: a row a model, and a group of columns a split."""
    beside = metric == "mIoU" and part["published"].notna().any()
    upstream = beside and (part["metric"] == words.UPSTREAM).any()
    names = [metric, "of oracle", "gain", *(["upstream"] if upstream else []), *(["paper"] if beside else [])]
    splits = in_order("split", part["split"])
    shown = part[part["metric"] == metric]
    cells = {(row.ratio, row.experiment, row.step, row.split): row for row in shown.itertuples(index=False)}
    released = part[part["metric"] == words.UPSTREAM].set_index(["ratio", "experiment", "step", "split"])
    rows = []
    models = shown.drop_duplicates(["ratio", "experiment", "step"])
    for model in models.sort_values("ratio", kind="stable").itertuples():
        texts: list[str] = []
        for split in splits:
            key = (model.ratio, model.experiment, model.step, split)
            row = cells.get(key)
            if row is None:
                texts += [ABSENT] * len(names)
                continue
            share = ABSENT if pd.isna(row.share_of_oracle) else f"{number(row.share_of_oracle, 1)} %"
            texts += [with_spread(row.mean, row.sd), share, with_interval(row.gain, row.gain_low, row.gain_high)]
            if upstream:
                texts.append(number(released["mean"].get(key, math.nan)))
            if beside:
                texts.append(number(row.published))
        strong = bool(model.experiment == OURS and model.final and model.ratio < 100)
        rows.append(Row(f"{model.ratio:g} %", model.label, tuple(texts), strong))
    columns = tuple(Column(split, name) for split in splits for name in names)
    return Grid(f"{dataset_name(dataset)}: {metric}", ("masks", "model"), columns, tuple(rows))


def _table1_notes(data: pd.DataFrame) -> tuple[str, ...]:
    notes = [
        "Every model knows every training box; 'masks' is the share of training refs whose mask it knows.",
        *(words.MEANING[metric] for metric in ("mIoU", "oIoU") if (data["metric"] == metric).any()),
        words.seeds(data),
        words.expressions(data),
    ]
    if data["share_of_oracle"].notna().any():
        notes.append(
            "of oracle: the row's mean over that of the oracle, which is step 2 trained on every mask. "
            "gain: points over the baseline of the same mask ratio and seeds; the baseline has neither "
            "CCTF nor PMCA nor step 3."
        )
    else:
        notes.append("gain: points over the baseline of the same mask ratio and seeds. The oracle was not run.")
    if data["gain_low"].notna().any():
        notes.append(intervals.MEANING)
    if data["published"].notna().any():
        notes.append(
            "paper: Qu et al., CVPR 2023 (100 % baseline: SeqTR). Its released scoring divides by the "
            "predicted area alone where an object has several polygons, which inflates the figure; "
            "upstream: our models under that scoring."
        )
    return tuple(notes)


def table_details(evaluations: pd.DataFrame) -> Table:
    """Every metric of every experiment, ratio, step and split.

    evaluations: `collect`'s long table; step 1's rows are passed over. Table.data: `summarise`'s rows, seeds
    counted.
    Raises DataError if there is nothing to show.
    """
    wanted = evaluations[evaluations["step"] != "rec"]
    if wanted.empty:
        raise DataError("the table of details has nothing to show: no metrics.json of step 2 or 3 was given")
    summary = summarise(wanted)
    data = summary.assign(seeds=summary["seeds"].map(len))
    metrics = list(dict.fromkeys(wanted["metric"]))
    grids = tuple(
        _grid(rows, f"{dataset_name(dataset)} {split}", metrics)
        for dataset in in_order("dataset", data["dataset"])
        for split in in_order("split", data.loc[data["dataset"] == dataset, "split"])
        for rows in [data[(data["dataset"] == dataset) & (data["split"] == split)]]
    )
    notes = (
        words.MEANING["mIoU"],
        words.MEANING["oIoU"],
        "Pr@X: the share of expressions with IoU of at least X. box_accuracy: the share whose predicted "
        "outline has a bounding box with IoU of at least 0.5 with the true box. mIoU_upstream: mIoU as the "
        "released code scores it (objects of several polygons count intersection over predicted area).",
        words.seeds(data),
        words.expressions(data),
    )
    return Table("Every metric, by experiment and step", notes, grids, data)


def _grid(rows: pd.DataFrame, heading: str, metrics: Sequence[str]) -> Grid:
    """One split's models against metrics."""
    lines = []
    for (ratio, experiment, step), group in rows.groupby(["ratio", "experiment", "step"], sort=False):
        cells = group.set_index("metric")
        texts = (
            with_spread(cells.at[metric, "mean"], cells.at[metric, "sd"]) if metric in cells.index else ABSENT
            for metric in metrics
        )
        lines.append(Row(f"{ratio:g} %", f"{experiment}, {words.STEPS[step]}", tuple(texts)))
    return Grid(heading, ("masks", "model"), tuple(Column("", metric) for metric in metrics), tuple(lines))


def table_rec(evaluations: pd.DataFrame) -> Table:
    """Step 1: how well the model finds boxes, before it has seen a mask.

    evaluations: `collect`'s long table; only step 1's rows count. Table.data: dataset, split, experiment (empty,
    or MASK_HEAD), metric, mean, sd, seeds, expressions, published. Raises DataError if there are none.
    """
    wanted = evaluations[evaluations["step"] == "rec"]
    if wanted.empty:
        raise DataError(
            "the table of step 1 has nothing to show: no {dataset}/seed{seed}/rec/{split}/metrics.json given"
        )
    summary = summarise(wanted)
    paper = words.published().query("step == 'rec'")[["dataset", "split", "experiment", "metric", "value"]]
    paper = paper.rename(columns={"value": "published"})
    columns = ["dataset", "split", "experiment", "metric", "mean", "sd", "seeds", "expressions"]
    data = summary.assign(seeds=summary["seeds"].map(len))[columns].merge(paper, how="left")
    beside = data["published"].notna().any()
    rows = []
    for (dataset, split, experiment), group in data.groupby(["dataset", "split", "experiment"], sort=False):
        cells = group.set_index("metric")
        texts = [
            with_spread(cells.at[metric, "mean"], cells.at[metric, "sd"]) if metric in cells.index else ABSENT
            for metric in ("box_accuracy", "mean_box_iou")
        ]
        if beside:
            texts.append(number(cells["published"].get("box_accuracy", math.nan)))
        name = f"{dataset_name(dataset)}, {experiment}" if experiment else dataset_name(dataset)
        rows.append(Row(name, split, (*texts, f"{int(group['expressions'].iloc[0]):,}")))
    names = ["box accuracy", "mean box IoU", *(["SeqTR"] if beside else []), "expressions"]
    notes = [
        "box accuracy: the share of expressions whose predicted box has IoU of at least 0.5 with the true one, %.",
        words.seeds(data),
    ]
    if beside:
        notes.append("SeqTR: published box accuracy of the detection models that the paper's step 1 starts from.")
    grid = Grid("Step 1", ("data set", "split"), tuple(Column("", name) for name in names), tuple(rows))
    return Table("Referring-expression comprehension (step 1)", tuple(notes), (grid,), data)


def table_pseudo(summaries: pd.DataFrame) -> Table:
    """Which pseudo masks were kept for step 3, and how good they are by the masks withheld from training.

    summaries: `collect_pseudo`'s table. Table.data: dataset, ratio, experiment, seeds, then mean and sd
    (suffix _sd) of each figure over seeds.
    """
    keys = ["dataset", "ratio", "experiment"]
    grouped = summaries.groupby(keys, sort=False)
    means, spreads = grouped[PSEUDO_FIGURES].mean(), grouped[PSEUDO_FIGURES].std().add_suffix("_sd")
    data = pd.concat([grouped["seed"].count().rename("seeds"), means, spreads], axis=1).reset_index()
    shown: list[tuple[str, str, Callable[[float, float], str]]] = [
        ("candidates", "pseudo masks", lambda mean, sd: f"{mean:,.0f}"),
        ("kept", "kept", lambda mean, sd: f"{mean:,.0f}"),
        ("kept_share", "kept, %", lambda mean, sd: with_spread(mean, sd, 1)),
        ("true_iou_kept", "true IoU of the kept", lambda mean, sd: with_spread(mean, sd)),
        ("true_iou_all", "true IoU of all", lambda mean, sd: with_spread(mean, sd)),
        ("mean_d", "mean D", lambda mean, sd: with_spread(mean, sd, 3)),
    ]
    grids = []
    for dataset in in_order("dataset", data["dataset"]):
        rows = tuple(
            Row(
                f"{row['ratio']:g} %",
                str(row["experiment"]),
                tuple(text(row[figure], row[f"{figure}_sd"]) for figure, _, text in shown),
            )
            for row in data[data["dataset"] == dataset].to_dict("records")
        )
        columns = tuple(Column("", name) for _, name, _ in shown)
        grids.append(Grid(dataset_name(dataset), ("masks", "experiment"), columns, rows))
    notes = (
        "Pseudo masks are predicted for training refs without a mask; those whose D (paper eq. 8; 0 equals "
        "the box's shadows, 2 is disjoint from them) lies below the threshold are kept for step 3.",
        "true IoU: mean IoU with the masks withheld from training, in per cent; a check made afterwards, "
        "never an input.",
        words.seeds(data),
    )
    return Table("Pseudo masks and their selection", notes, tuple(grids), data)
