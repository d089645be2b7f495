"""Show where models fail: IoU by properties of object and expression, and shares of wrong objects and outlines."""

import re
from collections.abc import Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from partialres.files import DataError, read_table
from partialres.geometry import contour
from partialres.report import captions, style
from partialres.report.evaluations import MODEL, evaluation_of, summarise, where
from partialres.report.intervals import check_expressions
from partialres.report.render import Table, arrange, with_spread

# Words that locate an object in the image, and words that relate it to another object, as people use them in RefCOCO.
_LOCATION = (
    "left|right|top|bottom|middle|center|centre|upper|lower|front|back|rear|side|corner|edge|end|far|close|closest|"
    "nearest|farthest|furthest|leftmost|rightmost|topmost|bottommost|lefthand|righthand|background|foreground|first|"
    "second|third|fourth|fifth|last"
)
_RELATION = (
    "above|below|under|underneath|beneath|over|behind|beside|besides|between|near|nearby|next|by|against|around|"
    "across|along|inside|outside|opposite|facing"
)
# "left of the lamp" is a relation, but "left of the photo" a location: phrases for the image itself are removed first.
_OF_THE_IMAGE = re.compile(r"\b(?:of|in|on) (?:the )?(?:image|picture|pic|photo|photograph|screen|frame|scene|shot)\b")
_ATTRIBUTES = {
    "size": "mask area, share of the image",
    "parts": "separate parts of the mask",
    "solidity": "convexity (mask area / convex hull)",
    "kind": "kind of expression",
    "length": "words of the expression",
}
_OUTCOMES = {"right": style.RIGHT, "wrong outline": style.WRONG_OUTLINE, "wrong object": style.WRONG_OBJECT}


def kind_of(expression: str) -> str:
    """Classify how an expression singles out its object: by 'relation' to another, 'location', or only 'attribute'.

    It is a relation if it has a word of _RELATION, or one of _LOCATION followed by 'of' ('left of the lamp'); else a
    location if it has a word of _LOCATION ('left lamp').
    """
    text = _OF_THE_IMAGE.sub("", " ".join(re.findall(r"[a-z]+", expression.lower())))
    if re.search(rf"\b(?:{_RELATION}|(?:{_LOCATION}) of)\b", text):
        return "relation"
    return "location" if re.search(rf"\b(?:{_LOCATION})\b", text) else "attribute"


def describe(refs: Path, expressions: pd.DataFrame) -> pd.DataFrame:
    """Describe each expression and its object, one row per expression, with the index of `expressions`.

    refs: refs.parquet. expressions: ref_id, expression. Returns size (mask area over image area, 0-1), parts (number of
    8-connected parts of the mask), solidity (mask area over its convex hull's area, 0-1), kind (`kind_of`) and length
    (words). Raises DataError that names a ref without a mask.
    """
    objects = {}
    table = read_table(refs, ["ref_id", "height", "width", "mask"]).dropna(subset="mask")
    for row in table[table["ref_id"].isin(expressions["ref_id"])].itertuples():
        mask = contour.decode(row.mask, int(row.height), int(row.width)).astype(np.uint8)
        if not mask.any():
            raise DataError(f"{refs}: the true mask of ref {row.ref_id} is empty; leave it out or mend its annotation")
        hull = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), cv2.convexHull(cv2.findNonZero(mask)), 1)
        parts = cv2.connectedComponents(mask, connectivity=8)[0] - 1  # the background is one component
        objects[row.ref_id] = (mask.mean(), parts, mask.sum() / np.maximum(hull, mask).sum())
    if lacking := set(expressions["ref_id"]) - set(objects):
        raise DataError(f"{refs}: no true mask of ref {min(lacking)}; give the refs.parquet of the evaluation")
    return pd.DataFrame(
        [objects[ref_id] for ref_id in expressions["ref_id"]], expressions.index, ["size", "parts", "solidity"]
    ).assign(kind=expressions["expression"].map(kind_of), length=expressions["expression"].str.split().str.len())


def binned(described: pd.DataFrame) -> pd.DataFrame:
    """Bin each column of `describe`: size by quartiles, solidity by terciles, parts as 1, 2, 3+, and so on.

    Quantiles are taken over expressions. Bins with equal bounds are merged, so there may be fewer.
    """
    return pd.DataFrame({
        "size": _quantiles(described["size"] * 100, 4, " %"),
        "parts": pd.cut(described["parts"], [0, 1, 2, np.inf], labels=["1", "2", "3+"]),
        "solidity": _quantiles(described["solidity"], 3, ""),
        "kind": pd.Categorical(described["kind"], ["attribute", "location", "relation"], ordered=True),
        "length": pd.cut(described["length"], [0, 2, 4, 7, np.inf], labels=["1-2", "3-4", "5-7", "8+"]),
    })  # fmt: skip


def _quantiles(values: pd.Series, number: int, unit: str) -> pd.Series:
    """Sort values into bins of about equal counts, named by their bounds."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, number + 1)))
    if len(edges) == 1:
        return pd.Series(pd.Categorical([f"{edges[0]:.2g}{unit}"] * len(values)), index=values.index)
    for digits in (2, 4):  # four if two give equal names
        names = [f"{low:.{digits}g}–{high:.{digits}g}{unit}" for low, high in pairwise(edges)]
        if len(set(names)) == len(names):
            break
    return pd.cut(values, edges.tolist(), labels=names, include_lowest=True)


def outcome(predictions: pd.DataFrame) -> pd.Series:
    """Classify predictions: 'right' if IoU >= 0.5, else 'wrong object' if box IoU < 0.5, else 'wrong outline'."""
    missed = np.where(predictions["box_iou"] < 0.5, "wrong object", "wrong outline")
    return pd.Series(np.where(predictions["iou"] >= 0.5, "right", missed), index=predictions.index)


def analyse(refs: Path, metrics: Sequence[Path], oracle: str) -> pd.DataFrame:
    """Compute every model's mIoU in each bin, and the share of each outcome, as a tidy table.

    refs: refs.parquet. metrics: metrics.json files of one data set and split; predictions.parquet lies beside each.
    oracle: the experiment whose step 2 at ratio 100 is the oracle; empty for none.
    Columns: dataset, split, ratio, experiment, step, label, attribute (a column of `describe`, or outcome), bin,
    expressions (number in the bin; for outcomes: all), mean and sd over seeds (mIoU or share; per cent), seeds.
    Raises DataError if there is no file, or if files differ in data set, split or expressions.
    """
    runs = {evaluation_of(path): Path(path).with_name("predictions.parquet") for path in metrics}
    if len({(run.dataset, run.split) for run in runs}) != 1:
        raise DataError("failures need metrics.json files of one data set and split")
    tables = {run: read_table(path, ["ref_id", "expression", "iou", "box_iou"]) for run, path in runs.items()}
    first = next(iter(runs))
    bins = binned(describe(refs, tables[first]))
    rows = []
    for run, table in tables.items():
        check_expressions(runs[run], table, runs[first], tables[first])
        for attribute in _ATTRIBUTES:
            for name, iou in table["iou"].groupby(bins[attribute], observed=True):
                rows.append((*run, attribute, name, len(iou), 100 * iou.mean()))
        outcomes = outcome(table)
        rows += [(*run, "outcome", name, len(table), 100 * (outcomes == name).mean()) for name in _OUTCOMES]
    columns = [*first._fields, "attribute", "bin", "expressions", "value"]
    data = summarise(pd.DataFrame(rows, columns=columns), ["attribute", "bin"])
    named = zip(captions.labels(data, oracle), data["ratio"], strict=True)
    data.insert(len(MODEL), "label", [f"{label}, {ratio:g} %" for label, ratio in named])
    return data


def table(data: pd.DataFrame) -> Table:
    """Make a table from `analyse`'s data: mIoU by bin (rows) and model (columns), then the outcomes."""
    title = f"{captions.dataset_name(data['dataset'].iloc[0])} {data['split'].iloc[0]}"
    grids = []
    for heading, attributes in (("mIoU", list(_ATTRIBUTES)), ("share of expressions, %", ["outcome"])):
        cells = []
        for row in data[data["attribute"].isin(attributes)].itertuples():
            group = _ATTRIBUTES.get(row.attribute, "outcome")
            texts = {"expressions": f"{row.expressions:,}", row.label: with_spread(row.mean, row.sd, 1)}
            cells.append((group, row.bin, "", texts))
        grids.append(arrange(f"{title}: {heading}", ("by", ""), cells))
    notes = (
        captions.MIOU,
        "Sizes are quartiles and shapes terciles of the expressions' objects; a convex object fills its hull, which is "
        "1. Relation: the expression has a word such as above, next, behind, between, or a place 'of' something; "
        "location: none of these, but a word such as left, top, middle, second; attribute: neither.",
        "right: IoU of at least 0.5. All others are wrong object with a box IoU below 0.5, else wrong outline.",
        captions.seeds(data),
    )
    return Table("Where models fail", notes, tuple(grids), data)


@style.applied()
def draw(data: pd.DataFrame) -> Figure:
    """Draw `analyse`'s data: a panel of mIoU for each attribute, all on one scale, and a panel of outcomes."""
    figure, panel = style.panels(2, 3, width=3.2, height=2.6)
    keys = _keys(data)
    top = max(1.0, 1.05 * (data["mean"] + data["sd"].fillna(0))[data["attribute"] != "outcome"].max())
    for place, (attribute, title) in enumerate(_ATTRIBUTES.items()):
        axes = panel(*divmod(place, 3))
        _by_bin(axes, where(data, attribute=attribute), keys)
        axes.set_title(title, loc="left")
        axes.set_ylim(0, top)
    figure.supylabel(f"{captions.dataset_name(data['dataset'].iloc[0])} {data['split'].iloc[0]}: mIoU, %", fontsize=9)
    shares = where(data, attribute="outcome").pivot(index="label", columns="bin", values="mean")
    _outcomes(panel(1, 2), shares.loc[[str(key.get_label()) for key in keys]])
    style.legend(figure, keys)
    return figure


def _keys(data: pd.DataFrame) -> list[Line2D]:
    """Return a legend entry for each model, in its experiment's colour, or the oracle's."""
    models = data.drop_duplicates("label")
    colours = style.experiment_colours(models["experiment"])
    is_oracle = models["label"].str.startswith(f"{captions.ORACLE}, ")
    colour = models["experiment"].map(colours).mask(is_oracle, style.ORACLE)
    return list(map(style.key, models["label"], colour, cycle(style.MARKERS)))


def _by_bin(axes: Axes, part: pd.DataFrame, keys: Sequence[Line2D]) -> None:
    """Draw one attribute: bins from left to right, with each model's mIoU ± standard deviation."""
    counts = part.drop_duplicates("bin").set_index("bin")["expressions"]
    for place, key in enumerate(keys):
        rows, shift = where(part, label=key.get_label()), 0.12 * (place - (len(keys) - 1) / 2)
        looks: dict[str, Any] = {"color": key.get_color(), "marker": key.get_marker(), "markersize": 4.5}
        axes.errorbar(np.arange(len(counts)) + shift, rows["mean"], rows["sd"].fillna(0), linewidth=1, **looks)
    axes.set_xticks(range(len(counts)), [f"{name}\nn = {count:,}" for name, count in counts.items()])
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.grid(axis="y")


def _outcomes(axes: Axes, shares: pd.DataFrame) -> None:
    """Draw stacked bars: for each model, the shares of right answers, wrong outlines and wrong objects."""
    left = np.zeros(len(shares))
    for name, colour in _OUTCOMES.items():
        bars = axes.barh(range(len(shares)), shares[name], left=left, height=0.62, color=colour, label=name)
        texts = [f"{share:.0f}" if share >= 7 else "" for share in shares[name]]  # below 7 % a number does not fit
        ink = style.TEXT if name == "wrong outline" else "white"
        axes.bar_label(bars, texts, label_type="center", fontsize=7.5, color=ink)
        left += shares[name].to_numpy()
    axes.set_yticks(range(len(shares)), [label.replace(", ", "\n", 1) for label in shares.index])
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="expressions, %")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=3, handlelength=0.9, columnspacing=0.8)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
