"""Compare experiments: the paper's Table 1, its Tables 2 to 4, and a table of what goes beyond the paper.

Both functions take the long table of `evaluations.collect` and the IoU of every expression (`intervals.read_scores`),
and return a `render.Table`. `oracle` names the experiment whose step 2 at ratio 100 is the oracle; empty for none.
"""

import math
from collections.abc import Sequence

import pandas as pd

from partialres.files import DataError
from partialres.report import captions, intervals
from partialres.report.evaluations import BASELINE, MODEL, OURS, summarise, where
from partialres.report.render import Cells, Table, arrange, number, with_interval, with_spread

_METRICS = ("mIoU", "Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9")
_KEPT = {"kept_share": "kept, %", "true_iou_kept": "true IoU of the kept"}


def table1(evaluations: pd.DataFrame, scores: intervals.Scores, oracle: str) -> Table:
    """Make the paper's Table 1: experiments by ratio, with the baseline, the oracle and the published scores.

    mIoU and oIoU get separate grids. Table.data: from `_compare`, with gains over the baseline.
    Raises DataError if there is nothing to show, or the baseline lacks a seed of another experiment at the same ratio.
    """
    wanted = evaluations[(evaluations["step"] != "rec") & evaluations["metric"].isin(["mIoU", "oIoU", "mIoU_upstream"])]
    if wanted.empty:
        raise DataError("Table 1 has nothing to show: no metrics.json of step 2 or 3 was given")
    data = _compare(wanted, scores, (BASELINE, "res"), oracle)
    ours = captions.label(OURS, "retrain")
    grids = [
        arrange(f"{captions.dataset_name(dataset)}: {metric}", ("masks", "model"), _scores(part, metric), ours)
        for metric in ("mIoU", "oIoU")
        for dataset, part in data[data["metric"].isin([metric, f"{metric}_upstream"])].groupby("dataset", sort=False)
    ]
    knows = "Every model knows every training box; 'masks' is the share of training refs whose mask it knows."
    upstream = "upstream: our models under the paper's scoring."
    notes = [knows, captions.MIOU, captions.OIOU, *_notes(data, "the baseline (no CCTF, PMCA or step 3)")]
    notes += [upstream] if data["published"].notna().any() else []
    return Table("Referring-expression segmentation by mask ratio", tuple(notes), tuple(grids), data)


def _scores(data: pd.DataFrame, metric: str) -> list[Cells]:
    """Make the cells of one data set: a row per model, by ascending ratio, and a group of columns per split.

    Where there are published scores, a model's own score by the paper's rules and the published one are two more rows.
    The fully supervised systems of the paper's Table 1 come last.
    """
    beside = data["published"].notna().any()
    cells = []
    for row in data.sort_values("ratio", kind="stable").itertuples():
        ratio = f"{row.ratio:g} %"
        if row.metric == metric:
            texts = {metric: with_spread(row.mean, row.sd), "of oracle": number(row.share_of_oracle, 1, unit=" %")}
            texts["gain"] = with_interval(row.gain, row.gain_low, row.gain_high)
            cells.append((ratio, row.label, row.split, texts))
            if not math.isnan(row.published):
                cells.append((ratio, f"{row.label}, paper", row.split, {metric: number(row.published)}))
        elif beside:
            cells.append((ratio, f"{row.label}, upstream", row.split, {metric: number(row.mean)}))
    peers = where(captions.published(), step="peer", dataset=data["dataset"].iloc[0], metric=metric)
    for row in peers[peers["split"].isin(data["split"])].itertuples():
        cells.append((f"{row.ratio:g} %", f"{row.experiment}, paper", row.split, {metric: number(row.value)}))
    return cells


def comparison(
    title: str, evaluations: pd.DataFrame, scores: intervals.Scores, rows: Sequence[tuple[str, str]], oracle: str,
    selections: pd.DataFrame | None = None,
) -> Table:  # fmt: skip
    """Compare models by mIoU and precision: one grid per split, with one row per ratio and model.

    evaluations: those of these models, and of the oracle for shares of its mIoU. rows: (experiment, step) of each
    model, in order; gains are over the first model on the same data set and at the same ratio. selections: figures on
    step 3's pseudo masks (`evaluations.collect_selections`), to be shown too.
    Table.data: from `_compare`; with selections also kept_share, true_iou_kept and their sd (suffix _sd).
    Raises DataError if a row has no evaluation, or the first one lacks a seed of another row at the same ratio.
    """
    for name, step in rows:
        if where(evaluations, experiment=name, step=step).empty:
            raise DataError(f"no evaluation of '{name}': give its ratio*/{name}/{step}/*/metrics.json too")
    data = _compare(evaluations[evaluations["metric"].isin(_METRICS)], scores, rows[0], oracle)
    places = [place for _, place in data.groupby(["dataset", "split", "ratio"], sort=False)]
    data = pd.concat([where(place, experiment=name, step=step) for place in places for name, step in rows])
    if selections is not None:
        grouped = selections.assign(step="retrain").groupby(["dataset", "ratio", "experiment", "step"])[list(_KEPT)]
        kept = grouped.mean().join(grouped.std().add_suffix("_sd"))
        data = data.join(kept, on=kept.index.names)
    grids = [
        arrange(f"{captions.dataset_name(dataset)} {split}", ("masks", "model"), _cells(part))
        for (dataset, split), part in data.groupby(["dataset", "split"], sort=False)
    ]
    notes = [captions.MIOU, captions.PRECISION, *_notes(data, f"'{captions.label(*rows[0])}'")]
    if not where(data, dataset="refcocog", split="val", ratio=100, experiment="cctf").empty:
        notes.append(captions.LOST_ROW)
    kept_note = "kept: the share of pseudo masks that step 3 was given, per cent."
    notes += [kept_note, captions.TRUE_IOU] if selections is not None else []
    return Table(title, tuple(notes), tuple(grids), data)


def _cells(part: pd.DataFrame) -> list[Cells]:
    """Make the cells of one split: our scores, the paper's below if there are any, then gains and shares."""
    cells = []
    for row in part.itertuples():
        cells.append((f"{row.ratio:g} %", row.label, "", {row.metric: with_spread(row.mean, row.sd)}))
        if not math.isnan(row.published):
            cells.append((f"{row.ratio:g} %", f"{row.label}, paper", "", {row.metric: number(row.published)}))
    for row in part[part["metric"] == "mIoU"].itertuples():
        texts = {"gain": with_interval(row.gain, row.gain_low, row.gain_high)}
        if part["share_of_oracle"].notna().any():
            texts["of oracle"] = number(row.share_of_oracle, 1, unit=" %")
        for column, name in _KEPT.items():
            if column in part:
                texts[name] = with_spread(getattr(row, column), getattr(row, f"{column}_sd"), 1)
        cells.append((f"{row.ratio:g} %", row.label, "", texts))
    return cells


def _compare(table: pd.DataFrame, scores: intervals.Scores, reference: tuple[str, str], oracle: str) -> pd.DataFrame:
    """Summarise evaluations (from `collect`), with gains over the reference (experiment, step).

    Returns one row per model and metric; columns: MODEL, label, reference (whether the row is the reference), metric,
    mean, sd (sample, over seeds), seeds (their number), expressions, share_of_oracle (per cent of the oracle's mean),
    gain (points over the reference at the same ratio, averaged over the row's seeds), gain_low and gain_high (interval,
    for mIoU only), published. Gains are NaN where the reference was not run at all.
    Raises DataError that names the missing file if the reference lacks one of a row's seeds.
    """
    at = ["dataset", "split", "ratio", "metric"]
    before = where(table, experiment=reference[0], step=reference[1]).set_index([*at, "seed"])["value"]
    paired = table.join(before.rename("before"), on=[*at, "seed"])
    gains = paired.assign(gain=paired["value"] - paired["before"]).groupby([*MODEL, "metric"])["gain"].mean()
    data = summarise(table).join(gains, on=[*MODEL, "metric"])
    data["reference"] = (data["experiment"] == reference[0]) & (data["step"] == reference[1])
    data["gain"] = data["gain"].mask(data["reference"])
    data[["gain_low", "gain_high"]] = math.nan
    for row in data[(data["metric"] == "mIoU") & ~data["reference"]].itertuples():
        place = row.dataset, row.split, row.ratio
        model, other = (*place, row.experiment, row.step), (*place, *reference)
        if other in scores:
            data.loc[row.Index, ["gain_low", "gain_high"]] = intervals.of_gain(scores, model, other)
    is_oracle = (data["ratio"] == 100) & (data["experiment"] == oracle) & (data["step"] == "res")
    ceiling = data[is_oracle].set_index(["dataset", "split", "metric"])["mean"].rename("ceiling")
    data = data.join(ceiling, on=["dataset", "split", "metric"])
    data["share_of_oracle"] = (100 * data["mean"] / data["ceiling"]).where(data["ceiling"] > 0)
    paper = captions.published().set_index([*MODEL, "metric"])["value"].rename("published")
    data = data.join(paper, on=[*MODEL, "metric"])
    data["label"] = captions.labels(data, oracle)
    figures = ["mean", "sd", "seeds", "expressions", "share_of_oracle", "gain", "gain_low", "gain_high", "published"]
    return data[[*MODEL, "label", "reference", "metric", *figures]]


def _notes(data: pd.DataFrame, reference: str) -> list[str]:
    """Return notes on seeds and expressions, and on the meaning of gains, shares and published scores."""
    notes = [captions.seeds(data), captions.expressions(data)]
    notes.append(f"gain: points of the metric over {reference}, at the same mask ratio and seeds.")
    if data["share_of_oracle"].notna().any():
        notes.append("of oracle: the row's mean over that of the oracle, which is step 2 trained on every mask.")
    if data["gain_low"].notna().any():
        notes.append(intervals.MEANING)
    if data["published"].notna().any():
        notes.append(
            "paper: Qu et al., CVPR 2023 (100 % baseline: SeqTR), on the same split. Its released scoring divides by "
            "the predicted area alone where an object has several polygons, which inflates the figure. Fully "
            "supervised systems stand as that table lists them; several of their own papers report oIoU."
        )
    return notes
