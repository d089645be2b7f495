"""The figures of the report: mIoU by mask ratio, training curves, and how far pseudo masks are from boxes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator

from partialres.files import DataError, read_table
from partialres.report import style, words
from partialres.report.evaluations import BASELINE, OURS, dataset_name, in_order, oracle_of, run_of, summarise

_STAGES = {"rec": "step 1: boxes", "res": "step 2: labelled masks", "retrain": "step 3: with pseudo masks"}


def ratio_curve(evaluations: pd.DataFrame, png: Path, pdf: Path, extra: Sequence[str] = ()) -> None:
    """mIoU against the mask ratio: a panel a split, a row a data set.

    evaluations: `evaluations.collect`'s long table. Lines: the baseline, ours after step 2, ours after its
    last step, the last step of each `extra` experiment; the oracle is a dashed level. Bands are ± the sample
    standard deviation over seeds. The numbers at the markers are the shares of the oracle's mIoU. Where the data set
    is the paper's, its figures for the baseline and ours are faint diamonds (its Figure 6 and Table 1).
    Raises DataError if there is no mIoU of the baseline, of ours or of an `extra` experiment.
    """
    wanted = evaluations[(evaluations["metric"] == "mIoU") & (evaluations["step"] != "rec")]
    absent = [name for name in (BASELINE, OURS, *extra) if name not in set(wanted["experiment"])]
    if absent:
        raise DataError(f"the ratio curve needs mIoU of '{absent[0]}': give its metrics.json files too")
    summary = summarise(wanted)
    datasets = in_order("dataset", summary["dataset"])
    splits = {name: in_order("split", summary.loc[summary["dataset"] == name, "split"]) for name in datasets}
    paper = words.published().query("metric == 'mIoU' and step != 'rec'")
    oracles = {name: oracle_of(wanted[wanted["dataset"] == name]) for name in datasets}
    with style.applied():
        figure, panels = style.panels(len(datasets), max(map(len, splits.values())), width=3.4, height=2.9)
        colours = style.extra_colours(extra)
        for dataset, row in zip(datasets, panels, strict=True):
            for place, axes in enumerate(row):
                if place >= len(splits[dataset]):
                    axes.set_visible(False)
                    continue
                split = splits[dataset][place]
                rows = summary[(summary["dataset"] == dataset) & (summary["split"] == split)]
                there = paper[(paper["dataset"] == dataset) & (paper["split"] == split)]
                _ratio_panel(axes, rows, oracles[dataset], colours, there)
                axes.set_title(f"{dataset_name(dataset)} {split}", loc="left")
            row[0].set_ylabel("mIoU, %")
        handles = [
            style.key("Baseline", style.BASELINE, marker="o"),
            style.key("Ours, step 2", style.STEP_2, marker="s"),
            style.key("Ours, final", style.FINAL, marker="o"),
            *(style.key(name, colour, marker="D") for name, colour in colours.items()),
        ]
        if set(datasets) & set(paper["dataset"]):
            handles.append(style.key("the paper", style.SOFT, marker="D", linestyle=""))
        if any(oracles.values()):
            handles.append(style.key("Oracle (numbers: share of its mIoU)", style.ORACLE, linestyle="--"))
        style.legend(figure, handles)
        style.save(figure, png, pdf)


def _ratio_panel(
    axes: Axes, rows: pd.DataFrame, oracle: str | None, extra: Mapping[str, str], paper: pd.DataFrame
) -> None:
    """One split's lines. rows: `summarise`'s, of one split; paper: `published`'s, of the same."""
    full = rows[(rows["ratio"] == 100) & (rows["experiment"] == oracle) & (rows["step"] == "res")]["mean"]
    ceiling = float(full.iloc[0]) if len(full) else math.nan
    steps = rows[rows["step"] == "res"]
    finals = rows.drop_duplicates(["ratio", "experiment"], keep="last")  # rows come in the order of steps
    ours = finals[finals["experiment"] == OURS]
    baseline = steps[steps["experiment"] == BASELINE]
    draw_line(axes, baseline, style.BASELINE, "o")
    draw_line(axes, steps[steps["experiment"] == OURS], style.STEP_2, "s")
    for name, colour in extra.items():
        draw_line(axes, finals[finals["experiment"] == name], colour, "D")
    draw_line(axes, ours, style.FINAL, "o")
    for name, step, colour in ((BASELINE, "res", style.BASELINE), (OURS, "retrain", style.FINAL)):
        told = paper[(paper["experiment"] == name) & (paper["step"] == step)]
        axes.scatter(told["ratio"], told["value"], s=22, marker="D", color=colour, alpha=0.35, linewidth=0, zorder=2)
    if ceiling > 0:  # an oracle that found nothing, as after a test run, has no shares
        _shares(axes, baseline, style.BASELINE, ceiling, above=False)
        _shares(axes, ours, style.FINAL, ceiling, above=not extra)
    if not math.isnan(ceiling):
        axes.axhline(ceiling, color=style.ORACLE, linestyle="--", linewidth=1, zorder=1)
    ratio_axis(axes, {*rows["ratio"], *paper["ratio"]})
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(y=0.14)  # room for the numbers above and below the outermost markers
    axes.grid(axis="y")


def ratio_axis(axes: Axes, ratios: Iterable[float]) -> None:
    """Mask ratios, per cent, on a logarithmic axis below."""
    ratios = sorted(ratios)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ratios))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{ratio:g} %" for ratio in ratios])
    axes.set_xlim(min(ratios) / 1.9, max(ratios) * 1.5)
    axes.set_xlabel("training refs with a mask")


def draw_line(axes: Axes, rows: pd.DataFrame, colour: str, marker: str) -> None:
    """A line with its band of one standard deviation."""
    rows = rows.sort_values("ratio")
    axes.plot(
        rows["ratio"],
        rows["mean"],
        color=colour,
        marker=marker,
        markersize=4.5,
        linewidth=1.6,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=3,
    )
    spread = rows["sd"].fillna(0)
    low, high = rows["mean"] - spread, rows["mean"] + spread
    axes.fill_between(rows["ratio"], low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)


def _shares(axes: Axes, rows: pd.DataFrame, colour: str, ceiling: float, above: bool) -> None:
    """Beside each marker below 100 %, its share of the oracle's mIoU, on the line's free side."""
    halo = [withStroke(linewidth=2, foreground="white")]
    for row in rows[rows["ratio"] < 100].itertuples():
        axes.annotate(
            f"{100 * row.mean / ceiling:.0f} %",
            (row.ratio, row.mean),
            (-3, 4) if above else (4, -4),
            textcoords="offset points",
            ha="right" if above else "left",
            va="bottom" if above else "top",
            fontsize=7.5,
            color=colour,
            path_effects=halo,
            zorder=4,
        )


def training_curves(logs: Iterable[Path], png: Path, pdf: Path) -> None:
    """Training loss against the step: a panel a stage, a row a data set, coloured by mask ratio.

    logs: metrics.csv files beside models ({dataset}/seed{seed}/rec/metrics.csv or
    {dataset}/seed{seed}/ratio{ratio}/{experiment}/{res, retrain}/metrics.csv) with columns step and loss.
    Seeds are lines of one look; experiments differ in their dashes.
    Raises DataError if there is no log or one lacks a column.
    """
    curves = [(run_of(path), _read_log(path)) for path in map(Path, logs)]
    curves.sort(key=lambda curve: (curve[0].ratio or 0, curve[0].experiment or "", curve[0].seed))
    if not curves:
        raise DataError("no training curves to draw: give at least one metrics.csv")
    datasets = in_order("dataset", (run.dataset for run, _ in curves))
    stages = in_order("step", (run.step for run, _ in curves))
    experiments = in_order("experiment", (run.experiment for run, _ in curves if run.experiment))
    patterns = ["--", "-", ":", "-."] if BASELINE in experiments else ["-", ":", "-."]
    dashes = {name: patterns[place % len(patterns)] for place, name in enumerate(experiments)}
    with style.applied():
        colours = style.ratio_colours(run.ratio for run, _ in curves if run.ratio is not None)
        figure, panels = style.panels(len(datasets), len(stages), width=3.4, height=2.6)
        for dataset, row in zip(datasets, panels, strict=True):
            for stage, axes in zip(stages, row, strict=True):
                members = [(run, log) for run, log in curves if (run.dataset, run.step) == (dataset, stage)]
                for run, log in members:
                    colour = style.SOFT if run.ratio is None else colours[run.ratio]
                    dash = "-" if run.experiment is None else dashes[run.experiment]
                    axes.plot(log["step"], log["loss"], color=colour, linestyle=dash, linewidth=1.3)
                if not members:
                    axes.set_visible(False)
                axes.set_title(f"{dataset_name(dataset)}, {_STAGES[stage]}", loc="left")
                axes.set_xscale("log")  # a ratio of 1 % takes a hundredth of the steps
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
                axes.xaxis.set_major_formatter("{x:g}")
                axes.xaxis.set_minor_locator(NullLocator())
                axes.set_xlabel("optimiser step")
                axes.grid(axis="y")
            row[0].set_ylabel("training loss")
        handles = [style.key(f"{ratio:g} % masks", colour) for ratio, colour in colours.items()]
        if len(experiments) > 1:
            handles += [style.key(name, style.TEXT, linestyle=dash) for name, dash in dashes.items()]
        if handles:
            style.legend(figure, handles)
        style.save(figure, png, pdf)


def _read_log(path: Path) -> pd.DataFrame:
    try:
        log = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a training log ({error})") from error
    absent = {"step", "loss"} - set(log.columns)
    if absent:
        raise DataError(f"{path}: lacks the column '{min(absent)}'; train again")
    return log


def pseudo_histogram(points: Sequence[Path], thresholds: Sequence[float], png: Path, pdf: Path) -> None:
    """How far pseudo masks are from their boxes: the distribution of D (paper eq. 8), a panel a ratio.

    points: points.parquet files ({dataset}/seed{seed}/ratio{ratio}/{experiment}/pseudo/points.parquet) with
    column d, 0 to 2; null or NaN where the points enclose nothing. Seeds are pooled; each data set and
    experiment has its own row.
    thresholds: of each file; masks with D below it are kept.
    Raises DataError if there is no file, or another number of thresholds.
    """
    if len(thresholds) != len(points):
        raise DataError(f"{len(thresholds)} thresholds for {len(points)} files: give each file its own")
    found: dict[tuple[str, str], dict[float, list[np.ndarray]]] = {}
    cuts: dict[tuple[str, str, float], float] = {}
    for path, threshold in zip(map(Path, points), thresholds, strict=True):
        run = run_of(path)
        if run.step != "pseudo" or run.experiment is None or run.ratio is None:
            raise DataError(f"{path}: not in a pseudo/ folder; give the points.parquet files of step 3")
        distances = read_table(path, ["d"])["d"].to_numpy(dtype=float)
        found.setdefault((run.dataset, run.experiment), {}).setdefault(run.ratio, []).append(distances)
        cuts[run.dataset, run.experiment, run.ratio] = threshold
    if not found:
        raise DataError("no pseudo points to draw: give at least one points.parquet")
    ratios = sorted({ratio for by_ratio in found.values() for ratio in by_ratio})
    order = [
        (dataset, experiment)
        for dataset in in_order("dataset", (key[0] for key in found))
        for experiment in in_order("experiment", (key[1] for key in found if key[0] == dataset))
    ]
    everything = np.concatenate([part for by_ratio in found.values() for parts in by_ratio.values() for part in parts])
    drawn = everything[np.isfinite(everything)]
    tail = float(np.quantile(drawn, 0.995)) if len(drawn) else 0.0  # the thin rest is not worth the room
    limit = min(2.0, max(2 * max(cuts.values()), tail))
    with style.applied():
        figure, panels = style.panels(len(order), len(ratios), width=3.1, height=2.3)
        for (dataset, experiment), row in zip(order, panels, strict=True):
            for ratio, axes in zip(ratios, row, strict=True):
                parts = found[dataset, experiment].get(ratio)
                if parts is None:
                    axes.set_visible(False)
                    continue
                _histogram(axes, np.concatenate(parts), cuts[dataset, experiment, ratio], limit)
                axes.set_title(f"{dataset_name(dataset)}, {experiment}, {ratio:g} % masks", loc="left")
            row[0].set_ylabel("pseudo masks, %")
        style.save(figure, png, pdf)


def _histogram(axes: Axes, distances: np.ndarray, threshold: float, limit: float) -> None:
    """D's distribution in per cent of all pseudo masks, the kept part in colour."""
    total = max(len(distances), 1)
    drawn = distances[np.isfinite(distances)]
    width = threshold / max(1, round(threshold / 0.025))  # the threshold falls on an edge
    edges = np.arange(0, 2 + 2 * width, width).tolist()
    kept = float(np.sum(drawn < threshold)) / total
    for part, colour in ((drawn[drawn < threshold], style.FINAL), (drawn[drawn >= threshold], style.RULE)):
        axes.hist(part, bins=edges, weights=np.full(len(part), 100 / total), color=colour, linewidth=0)
    axes.axvline(threshold, color=style.ORACLE, linestyle="--", linewidth=1)
    text = f"kept {100 * kept:.1f} %\nD < {threshold:g}"
    if len(drawn) < len(distances):
        text += f"\nno mask {100 * (1 - len(drawn) / total):.1f} %"
    axes.text(0.97, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=style.TEXT)
    axes.set_xlim(0, limit)
    axes.set_xlabel("D: 0 equals the box, 2 is disjoint")
