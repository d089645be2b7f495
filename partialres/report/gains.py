"""Draw the gains of models over others with their intervals, as a forest plot."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from partialres.files import DataError
from partialres.report import captions, style
from partialres.report.evaluations import BASELINE, OURS, in_order
from partialres.report.intervals import CONFIDENCE, Gain, Model, Scores, gain_of
from partialres.report.render import with_interval

_NAMES, _PANEL, _ROW = 1.6, 3.1, 0.25  # inches: width of the names, of a panel with its numbers; height of a row


@style.applied()
def forest(scores: Scores) -> Figure:
    """Draw gains of mIoU with their intervals on one split: one row per model, one column per mask ratio.

    scores: of one data set and split. Above, each model against the baseline of its ratio; below, each other
    experiment's step 3 against ours; either only where there are any. Bars are bootstrap intervals over expressions
    (`intervals.interval`), small ticks the single seeds' gains where a model has several.
    Raises DataError if there is more than one data set or split, or nothing to compare.
    """
    places = {(model.dataset, split) for model, split in scores}
    if len(places) != 1:
        raise DataError(f"the forest plot shows one data set and split, not {len(places)}: give the files of one")
    ((dataset, split),) = places
    models = [model for model, _ in scores]
    step_3 = [model for model in models if model.step == "retrain"]
    above = ("points of mIoU over the baseline", _gains(scores, models, BASELINE, "res", split))
    below = ("points of mIoU over ours, step 3", _gains(scores, step_3, OURS, "retrain", split))
    blocks = [block for block in (above, below) if block[1]]
    if not blocks:
        raise DataError(f"{dataset} {split}: nothing to compare: give files of the baseline and of another experiment")
    ratios = sorted({model.ratio for _, gains in blocks for model in gains})
    order = in_order("experiment", (model.experiment for model in models))
    every = [(experiment, step) for experiment in order for step in ("res", "retrain")]
    rows = [[name for name in every if name in {model[2:] for model in gains}] for _, gains in blocks]
    size = (max(_NAMES + _PANEL * len(ratios), 6.0), 0.7 + sum(_ROW * len(names) + 0.7 for names in rows))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(len(blocks), len(ratios), height_ratios=[len(names) + 1 for names in rows])
    for row, ((title, gains), names) in enumerate(zip(blocks, rows, strict=True)):
        ends = [end for gain in gains.values() for end in (0, gain.points, gain.low, gain.high, *gain.by_seed)]
        labels = [captions.label(*name) for name in names]  # of the first panel in a row only
        for column, ratio in enumerate(ratios):
            bars = {names.index(model[2:]): gain for model, gain in gains.items() if model.ratio == ratio}
            if bars:
                axes = figure.add_subplot(grid[row, column])
                _panel(axes, bars, names)
                axes.set_yticks(range(len(names)), labels)
                axes.set(xlim=(min(ends) - 0.5, max(ends) + 0.5), xlabel=title)
                axes.set_title(f"{ratio:g} % of the masks", loc="left")
                labels = [""] * len(names)
    keys = [
        style.key("step 2", style.STEP_2, marker="s"),
        style.key("step 3", style.FINAL, marker="o"),
        style.key(f"line, brackets: {100 * CONFIDENCE:.0f} % interval", style.SOFT),
    ]
    if any(len(gain.by_seed) > 1 for _, gains in blocks for gain in gains.values()):
        keys.append(style.key("single seeds", style.SOFT, marker="|", linestyle=""))
    figure.suptitle(f"{captions.dataset_name(dataset)} {split}", x=0.01, ha="left", fontsize=10, fontweight="bold")
    figure.legend(handles=keys, loc="outside lower left", ncols=4 if size[0] > 6 else 2)
    return figure


def _gains(scores: Scores, models: Sequence[Model], experiment: str, step: str, split: str) -> dict[Model, Gain]:
    """Compare models with the one reference at their ratio, where that was scored."""
    pairs = ((model, model._replace(experiment=experiment, step=step)) for model in models)
    scored = ((model, other) for model, other in pairs if model != other and (other, split) in scores)
    return {model: gain_of(scores, model, other, split) for model, other in scored}


def _panel(axes: Axes, gains: dict[int, Gain], names: Sequence[tuple[str, str]]) -> None:
    """Draw gains on their rows: a mark on the interval, the single seeds below it, the figures beside the panel."""
    for row, gain in sorted(gains.items()):
        colour, marker = (style.STEP_2, "s") if names[row][1] == "res" else (style.FINAL, "o")
        axes.plot([gain.low, gain.high], [row, row], color=colour, linewidth=2, solid_capstyle="butt", zorder=3)
        if len(gain.by_seed) > 1:
            below = [row + 0.3] * len(gain.by_seed)
            axes.plot(gain.by_seed, below, linestyle="", marker="|", markersize=4, color=style.SOFT, zorder=2)
        axes.plot([gain.points], [row], marker=marker, markersize=4, color=colour, zorder=4)
        text = with_interval(gain.points, gain.low, gain.high)
        axes.text(1.03, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color=style.TEXT)
    axes.axvline(0, color=style.ORACLE, linewidth=0.8, zorder=1)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=style.TEXT)
