"""Draw mIoU against the mask ratio, training losses, and the distribution of D, the pseudo masks' distance to boxes."""

from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from partialres.files import DataError, read_table
from partialres.report import captions, style
from partialres.report.evaluations import BASELINE, OURS, ordered, run_of, summarise, where

_LINES = (
    (BASELINE, "res", style.BASELINE, "o"),
    (OURS, "res", style.STEP_2, "s"),
    (OURS, "retrain", style.FINAL, "o"),
)
_SHARES = {(BASELINE, "res"): 0.04, (OURS, "retrain"): 0.13}  # height in the panel of each line's shares
_STAGES = {"rec": "step 1: boxes", "res": "step 2: labelled masks", "retrain": "step 3: with pseudo masks"}


@style.applied()
def ratio_curve(evaluations: pd.DataFrame, oracle: str) -> Figure:
    """Draw mIoU against the mask ratio: one panel per split, one row per data set, all on one scale.

    evaluations: long table of `evaluations.collect`. oracle: experiment whose step 2 at ratio 100 is the oracle, empty
    for none; it is a star on a dashed horizontal line. Lines: the baseline, and ours after steps 2 and 3; bands are ±
    the sample standard deviation over seeds. Numbers below the lines are shares of the oracle's mIoU. On the paper's
    data sets its scores for baseline and method are faint diamonds (its Figure 6 and Table 1).
    Raises DataError if there is no mIoU of the baseline or of ours.
    """
    summary = _mask_scores(evaluations, (BASELINE, OURS))
    paper = captions.published().query("metric == 'mIoU' and step != 'rec'")
    datasets = summary["dataset"].unique().tolist()
    splits = [where(summary, dataset=name)["split"].unique() for name in datasets]
    figure, panel = style.panels(len(datasets), max(map(len, splits)), width=3.4, height=2.6)
    for row, dataset in enumerate(datasets):
        for column, split in enumerate(splits[row]):
            axes = panel(row, column)
            axes.set_title(f"{captions.dataset_name(dataset)} {split}", loc="left")
            scored, published = (where(table, dataset=dataset, split=split) for table in (summary, paper))
            _ratio_panel(axes, scored, oracle, published)
    low, high = min(axes.dataLim.ymin for axes in figure.axes), max(axes.dataLim.ymax for axes in figure.axes)
    for axes in figure.axes:
        axes.set_ylim(low - 0.35 * (high - low) - 0.5, high + 0.05 * (high - low) + 0.5)  # leave room for the shares
    figure.supylabel("mIoU, %", fontsize=9)
    keys = [style.key(captions.label(name, step), colour, marker) for name, step, colour, marker in _LINES]
    if set(datasets) & set(paper["dataset"]):
        keys.append(style.key("the paper", style.SOFT, "D", ""))
    if len(where(summary, experiment=oracle, ratio=100, step="res")):
        keys.append(style.key("Oracle (numbers: share of its mIoU)", style.ORACLE, "*", "--"))
    style.legend(figure, keys)
    return figure


def _ratio_panel(axes: Axes, rows: pd.DataFrame, oracle: str, paper: pd.DataFrame) -> None:
    """Draw one split's lines. rows: from `_mask_scores`, paper: from `published`, both of that split only."""
    full = where(rows, experiment=oracle, ratio=100, step="res")["mean"]
    for experiment, step, colour, marker in _LINES:
        line, published = (where(table, experiment=experiment, step=step) for table in (rows, paper))
        _line(axes, line, colour, marker)
        if height := _SHARES.get((experiment, step)):
            looks: dict[str, Any] = {"s": 22, "marker": "D", "alpha": 0.35, "linewidth": 0, "zorder": 2}
            axes.scatter(published["ratio"], published["value"], color=colour, **looks)
            looks = {"ha": "center", "fontsize": 7.5, "bbox": {"facecolor": "white", "linewidth": 0, "pad": 1}}
            for ratio, mean in line.loc[line["ratio"] < 100, ["ratio", "mean"]].itertuples(index=False):
                if full.gt(0).any():  # no shares if the oracle's mIoU is 0, as after a test run
                    share = f"{100 * mean / full.iloc[0]:.0f} %"
                    axes.text(ratio, height, share, transform=axes.get_xaxis_transform(), color=colour, **looks)
    for level in full:
        axes.axhline(level, color=style.ORACLE, linestyle="--", linewidth=1, zorder=1)
        axes.plot([100], [level], color=style.ORACLE, marker="*", markersize=10, markeredgecolor="white", zorder=5)
    _ratio_axis(axes, {*rows["ratio"], *paper["ratio"]})


@style.applied()
def heads(evaluations: pd.DataFrame, names: Sequence[str], oracle: str) -> Figure:
    """Draw the paper's Figure 1: how other heads cope with few masks, compared with ours and the baseline.

    evaluations: long table of `evaluations.collect`, one split per data set. names: the other experiments. Each is
    shown after its last step: on the left mIoU, on the right its share of the mIoU that the same experiment (for ours:
    `oracle`) reaches with every mask, if that was run. Bands are ± the sample standard deviation over seeds.
    Raises DataError if an experiment was not evaluated, or a data set was evaluated on several splits.
    """
    names = list(dict.fromkeys([BASELINE, OURS, *names]))
    summary = _mask_scores(evaluations, names)
    datasets = summary["dataset"].unique().tolist()
    colours, markers = style.experiment_colours(names), dict(zip(names, cycle(style.MARKERS)))
    figure, panel = style.panels(len(datasets), 2, width=3.6, height=2.7)
    for row, dataset in enumerate(datasets):
        rows = where(summary, dataset=dataset)
        if rows["split"].nunique() > 1:
            raise DataError(f"{dataset}: heads are compared on one split of each data set; give the files of one")
        left, right = panel(row, 0), panel(row, 1)
        for name in names:
            line = where(rows, experiment=name).drop_duplicates("ratio", keep="last")  # the last step
            _line(left, line, colours[name], markers[name])
            whose = oracle if name == OURS and oracle else name
            for full in where(rows, experiment=whose, ratio=100, step="res")["mean"]:
                if full > 0:
                    shares = line.assign(mean=100 * line["mean"] / full, sd=100 * line["sd"] / full)
                    _line(right, shares, colours[name], markers[name])
        for axes, what in ((left, "mIoU, %"), (right, "share of its own at 100 %, %")):
            axes.set_title(f"{captions.dataset_name(dataset)} {rows['split'].iloc[0]}", loc="left")
            axes.set_ylabel(what)
            _ratio_axis(axes, set(rows["ratio"]))
    labels = {BASELINE: "Baseline", OURS: "Ours (share: of the oracle)" if oracle else "Ours"}
    style.legend(figure, [style.key(labels.get(name, name), colours[name], markers[name]) for name in names])
    return figure


def _mask_scores(evaluations: pd.DataFrame, required: Iterable[str]) -> pd.DataFrame:
    """Summarise the mIoU of steps 2 and 3; raises DataError that names a required experiment without mIoU."""
    summary = summarise(where(evaluations, metric="mIoU"))
    for name in required:
        if name not in set(summary["experiment"]):
            raise DataError(f"the figure needs mIoU of '{name}': give its metrics.json files too")
    return summary


def _ratio_axis(axes: Axes, ratios: set[float]) -> None:
    """Set up a logarithmic x axis with these mask ratios (per cent) as ticks, and a grid."""
    limits = min(ratios) / 1.6, max(ratios) * 1.6
    axes.set(xscale="log", xlim=limits, xlabel="training refs with a mask")
    axes.set_xticks(sorted(ratios), [f"{ratio:g} %" for ratio in sorted(ratios)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.grid(axis="y")


def _line(axes: Axes, rows: pd.DataFrame, colour: str, marker: str) -> None:
    """Draw a line with a band of ± one standard deviation. rows: ratio, mean, sd; by ascending ratio."""
    looks: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.6, "zorder": 3}
    axes.plot(rows["ratio"], rows["mean"], markeredgecolor="white", markeredgewidth=0.6, **looks)
    spread = rows["sd"].fillna(0)
    low, high = rows["mean"] - spread, rows["mean"] + spread
    axes.fill_between(rows["ratio"], low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)


@style.applied()
def training_curves(logs: Iterable[Path]) -> Figure:
    """Draw the training loss against the step: a panel per training stage, a row per data set, colours by mask ratio.

    logs: metrics.csv files beside models, in folders that `run_of` recognises, with columns step and loss.
    The baseline is dashed, ours and step 1 of the points head are solid, all others dotted; seeds look the same.
    Raises DataError if one lacks a column.
    """
    runs = {run_of(path): Path(path) for path in logs}
    order = sorted(runs, key=lambda run: (run.ratio or 0, run.experiment, run.seed))
    named = pd.DataFrame(order)
    datasets, stages = (ordered(named[[kind]])[kind].unique().tolist() for kind in ("dataset", "step"))
    dashes = {"": "-", OURS: "-", BASELINE: "--"}
    colours = style.ratio_colours(run.ratio for run in runs if run.ratio is not None)
    figure, panel = style.panels(len(datasets), len(stages), width=3.4, height=2.4)
    for place in dict.fromkeys((run.dataset, run.step) for run in order):
        axes = panel(datasets.index(place[0]), stages.index(place[1]))
        for run in order:
            if (run.dataset, run.step) == place:
                try:
                    log = pd.read_csv(runs[run], usecols=["step", "loss"])
                except ValueError as error:
                    raise DataError(f"{runs[run]}: cannot be read as a training log ({error}); train again") from error
                colour, dash = style.SOFT if run.ratio is None else colours[run.ratio], dashes.get(run.experiment, ":")
                axes.plot(log["step"], log["loss"], color=colour, linestyle=dash, linewidth=1.2)
        axes.set_title(f"{captions.dataset_name(place[0])}, {_STAGES[place[1]]}", loc="left")
        axes.set(xscale="log", xlabel="optimiser step")  # ratio 1 % has a hundredth of the steps
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 10k: longer numbers would touch
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y")
    figure.supylabel("training loss", fontsize=9)
    others = any(run.experiment not in dashes for run in runs)
    names = [("ours", "-"), ("baseline", "--"), *([("all others", ":")] if others else [])]
    keys = [style.key(f"{ratio:g} % masks", colour) for ratio, colour in colours.items()]
    style.legend(figure, keys + [style.key(name, style.TEXT, linestyle=dash) for name, dash in names])
    return figure


@style.applied()
def pseudo_histogram(points: Sequence[Path], thresholds: Sequence[float]) -> Figure:
    """Draw the distribution of D, the distance of pseudo masks from their boxes (paper eq. 8), a panel for each ratio.

    points: points.parquet files in pseudo/ folders (`run_of`), with column d, 0 to 2, NaN if points enclose nothing.
    thresholds: for each file, D below which masks are kept. Seeds are pooled; rows are data sets and experiments.
    Raises DataError if the number of thresholds differs, a file is of another step or there are no rows.
    """
    if len(thresholds) != len(points):
        raise DataError(f"{len(thresholds)} thresholds for {len(points)} files of points: give one threshold per file")
    tables = []
    for path, threshold in zip(map(Path, points), thresholds, strict=True):
        run = run_of(path)
        if run.step != "pseudo":
            raise DataError(f"{path}: not in a pseudo/ folder; give the points.parquet files of step 3")
        tables.append(read_table(path, ["d"]).astype(float).assign(**run._asdict(), threshold=threshold))
    pooled = ordered(pd.concat(tables))
    if pooled.empty:
        raise DataError("no pseudo points to draw: the points.parquet files have no rows")
    groups = list(dict.fromkeys(zip(pooled["dataset"], pooled["experiment"], strict=True)))
    ratios = sorted(set(pooled["ratio"]))
    tail = pooled["d"].quantile(0.995) if pooled["d"].notna().any() else 0.0  # cut off the thin tail
    figure, panel = style.panels(len(groups), len(ratios), width=2.5, height=2.0)
    for (dataset, experiment, ratio), part in pooled.groupby(["dataset", "experiment", "ratio"], sort=False):
        axes = panel(groups.index((dataset, experiment)), ratios.index(ratio))
        _histogram(axes, part["d"], part["threshold"].iloc[0])
        axes.set_title(f"{captions.dataset_name(dataset)}, {experiment}, {ratio:g} % masks", loc="left", fontsize=8.5)
        axes.set_xlim(0, min(2.05, max(2 * max(thresholds), tail + 0.05)))  # D is 2 in the last bar
    highest = max(axes.get_ylim()[1] for axes in figure.axes)
    for axes in figure.axes:
        axes.set_ylim(0, highest)
    figure.supxlabel("D: 0 equals the box, 2 is disjoint", fontsize=9)
    figure.supylabel("pseudo masks, %", fontsize=9)
    return figure


def _histogram(axes: Axes, distances: pd.Series, threshold: float) -> None:
    """Draw the distribution of D in per cent of all pseudo masks, with the kept part in colour."""
    width = threshold / max(1, round(threshold / 0.025))  # so that the threshold is a bin edge
    edges = np.arange(0, 2 + 2 * width, width).tolist()
    kept, others = distances[distances < threshold], distances[distances >= threshold]
    for part, colour in ((kept, style.FINAL), (others, style.RULE)):
        axes.hist(part, bins=edges, weights=np.full(len(part), 100 / len(distances)), color=colour, linewidth=0)
    axes.axvline(threshold, color=style.ORACLE, linestyle="--", linewidth=1)
    text = f"kept {100 * len(kept) / len(distances):.1f} %\nD < {threshold:g}"
    if distances.isna().any():
        text += f"\nno mask {100 * distances.isna().mean():.1f} %"
    axes.text(0.97, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=style.TEXT)
    axes.xaxis.set_major_locator(MaxNLocator(4))
