"""Figures that set models beside each other: gains with intervals (forest plot), and the mask-head peer (Figure 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from partialres.files import DataError
from partialres.report import style, words
from partialres.report.evaluations import BASELINE, OURS, dataset_name, in_order, oracle_of, summarise
from partialres.report.figures import draw_line, ratio_axis
from partialres.report.intervals import CONFIDENCE, Gain, Model, Scores
from partialres.report.render import with_interval

_ROW, _NAMES, _PANEL, _NUMBERS = 0.25, 1.5, 2.4, 1.35  # inches: a row; names, panel and figures beside each other


def forest(scores: Scores, png: Path, pdf: Path) -> None:
    """Gains of mIoU with their intervals on one split, a row a model: over the baseline, and over ours after step 3.

    scores: of one data set and split. Left, every model against the baseline of its ratio, where there is one; right,
    each other experiment's step 3 against ours, where there are any. Bars are bootstrap intervals over expressions
    (`intervals.interval`), small ticks the single seeds' gains.
    Raises DataError if there is more than one data set or split, or nothing to compare.
    """
    places = {(model.dataset, split) for model, split in scores.iou}
    if len(places) != 1:
        raise DataError(f"the forest plot shows one data set and split, not {len(places)}: give the files of one")
    ((dataset, split),) = places
    known = {model for model, _ in scores.iou}
    rows: list[tuple[Model, Gain | None, Gain | None]] = []
    for model in _ordered(known):
        baseline = model._replace(experiment=BASELINE, step="res")
        ours = model._replace(experiment=OURS, step="retrain")
        other = model.step == "retrain" and model.experiment != OURS
        gains = [
            scores.gain(model, reference, split) if compared and reference in known else None
            for reference, compared in ((baseline, model != baseline), (ours, other))
        ]
        if any(gains):
            rows.append((model, gains[0], gains[1]))
    if not rows:
        raise DataError(
            f"{dataset} {split}: nothing to compare: give metrics.json files of the baseline and of another"
        )
    titles = ["gain over the baseline", *(["gain over ours, step 3"] if any(row[2] for row in rows) else [])]
    blocks = len({row[0].ratio for row in rows})
    size = (_NAMES + len(titles) * (_PANEL + _NUMBERS), _ROW * (len(rows) + blocks) + 1.1)
    with style.applied():
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
        places_of = _names(panels[0], [model for model, _, _ in rows])
        for side, (axes, title) in enumerate(zip(panels, titles, strict=True)):
            for (model, *gains), place in zip(rows, places_of, strict=True):
                if (gain := gains[side]) is not None:
                    _bar(axes, gain, place, model.step)
            axes.axvline(0, color=style.ORACLE, linewidth=0.8, zorder=1)
            axes.set_title(title, loc="left")
            axes.set_xlabel("points of mIoU")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.grid(axis="x")
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
        handles = [
            style.key("step 2", style.STEP_2, marker="s"),
            style.key("step 3", style.FINAL, marker="o"),
            style.key(f"line, brackets: {100 * CONFIDENCE:.0f} % interval", style.SOFT),
            style.key("single seeds", style.SOFT, marker="|", linestyle=""),
        ]
        figure.suptitle(f"{dataset_name(dataset)} {split}", x=0.01, ha="left", fontsize=10, fontweight="bold")
        figure.legend(handles=handles, loc="outside lower left", ncols=4 if len(titles) > 1 else 2)
        style.save(figure, png, pdf)


def _ordered(models: set[Model]) -> list[Model]:
    """By ratio, then experiment and step in the order of reports."""
    experiments = in_order("experiment", (model.experiment for model in models))
    return sorted(models, key=lambda model: (model.ratio, experiments.index(model.experiment), model.step))


def _names(axes: Axes, models: Sequence[Model]) -> list[float]:
    """Name the rows, each ratio's under a heading, from the top; returns where each stands."""
    places, ticks, names = [], [], []
    place = 0.0
    for ratio, members in groupby(models, key=lambda model: model.ratio):
        ticks.append(place)
        names.append(f"{ratio:g} % of the masks")
        for model in members:
            place += 1
            places.append(place)
            ticks.append(place)
            names.append(words.label(model.experiment, model.step, final=False))
        place += 1
    axes.set_yticks(ticks, names)
    for tick, label in zip(ticks, axes.get_yticklabels(), strict=True):
        label.set_color(style.TEXT)
        label.set_fontweight("normal" if tick in places else "bold")
    axes.set_ylim(place - 0.4, -0.6)
    return places


def _bar(axes: Axes, gain: Gain, place: float, step: str) -> None:
    """One gain: a mark on its interval, the seeds below it, the figures beside the panel."""
    colour, marker = (style.STEP_2, "s") if step == "res" else (style.FINAL, "o")
    if not math.isnan(gain.low):
        axes.plot([gain.low, gain.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt", zorder=3)
    if len(gain.by_seed) > 1:
        lower = [place + 0.3] * len(gain.by_seed)
        axes.plot(gain.by_seed, lower, linestyle="", marker="|", markersize=4, color=style.SOFT, zorder=2)
    looks: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.6}
    axes.plot([gain.points], [place], marker=marker, markersize=5, color=colour, zorder=4, **looks)
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    text = with_interval(gain.points, gain.low, gain.high)
    axes.text(1.03, place, text, transform=beside, va="center", fontsize=7.5, color=style.TEXT)


def peer(evaluations: pd.DataFrame, peers: Sequence[str], png: Path, pdf: Path) -> None:
    """The paper's Figure 1: what a mask head makes of few masks, beside ours and the baseline; a row a data set.

    evaluations: `evaluations.collect`'s long table, of one split a data set. peers: experiments with a mask head. Left
    mIoU, right its share of what the same method reaches with every mask (of ours: the oracle), where that was run.
    Bands are ± the sample standard deviation over seeds.
    Raises DataError if an experiment was not evaluated, or a data set was on several splits.
    """
    summary = summarise(evaluations[(evaluations["metric"] == "mIoU") & (evaluations["step"] != "rec")])
    absent = [name for name in (BASELINE, OURS, *peers) if name not in set(summary["experiment"])]
    if absent:
        raise DataError(f"the comparison with a mask head needs mIoU of '{absent[0]}': give its metrics.json files too")
    datasets = in_order("dataset", summary["dataset"])
    with style.applied():
        figure, panels = style.panels(len(datasets), 2, width=3.4, height=2.8)
        colours = style.extra_colours(peers)
        looks = {name: (colour, "D", -1) for name, colour in colours.items()}
        looks = {BASELINE: (style.BASELINE, "s", 0), OURS: (style.FINAL, "o", 1), **looks}
        for dataset, (left, right) in zip(datasets, panels, strict=True):
            rows = summary[summary["dataset"] == dataset]
            if rows["split"].nunique() > 1:
                raise DataError(
                    f"{dataset}: the comparison with a mask head shows one split a data set: give one's files"
                )
            oracle = oracle_of(rows)
            for name, (colour, marker, side) in looks.items():
                line = rows[rows["experiment"] == name].drop_duplicates("ratio", keep="last")  # the last step
                if name == OURS and oracle != OURS:
                    full = rows[(rows["experiment"] == oracle) & (rows["ratio"] == 100)]
                    line = pd.concat([line[line["ratio"] < 100], full])
                draw_line(left, line, colour, marker)
                _own_share(right, line, colour, marker, side)
            title = f"{dataset_name(dataset)} {rows['split'].iloc[0]}"
            for axes, what in ((left, "mIoU, %"), (right, "share of its own at 100 %, %")):
                axes.set_title(title, loc="left")
                axes.set_ylabel(what)
                axes.margins(y=0.12)
                axes.grid(axis="y")
                ratio_axis(axes, set(rows["ratio"]))
        named = {BASELINE: "Baseline", OURS: "Ours (100 %: the oracle)"} | {name: name for name in peers}
        style.legend(figure, [style.key(named[name], look[0], marker=look[1]) for name, look in looks.items()])
        style.save(figure, png, pdf)


def _own_share(axes: Axes, line: pd.DataFrame, colour: str, marker: str, side: int) -> None:
    """A method's mIoU in per cent of its own with every mask, with figures above (1), below (-1) or none (0)."""
    full = line.loc[line["ratio"] == 100, "mean"]
    if full.empty or not full.iloc[0] > 0:
        return
    shares = line.assign(mean=100 * line["mean"] / full.iloc[0], sd=100 * line["sd"] / full.iloc[0])
    draw_line(axes, shares, colour, marker)
    for row in shares[shares["ratio"] < 100].itertuples():
        if side:
            axes.annotate(
                f"{row.mean:.0f} %",
                (row.ratio, row.mean),
                (0, 6 * side),
                textcoords="offset points",
                ha="center",
                va="bottom" if side > 0 else "top",
                fontsize=7.5,
                color=colour,
                path_effects=[withStroke(linewidth=2, foreground="white")],
                zorder=4,
            )
