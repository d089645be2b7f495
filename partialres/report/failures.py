"""Where models fail: IoU by what the object and the expression are like, and wrong objects against wrong outlines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from partialres.files import DataError, read_table
from partialres.geometry import contour
from partialres.report import style, words
from partialres.report.evaluations import Evaluation, dataset_name, evaluation_of, in_order, ordered
from partialres.report.render import ABSENT, Column, Grid, Row, Table, with_spread

# Words that place an object in the image, and words that place it by another object, as people use them in RefCOCO.
LOCATION = (
    "left", "right", "top", "bottom", "middle", "center", "centre", "upper", "lower", "front", "back", "rear", "side",
    "corner", "edge", "end", "far", "close", "closest", "nearest", "farthest", "furthest", "leftmost", "rightmost",
    "topmost", "bottommost", "lefthand", "righthand", "background", "foreground", "first", "second", "third", "fourth",
    "fifth", "last",
)  # fmt: skip
RELATION = (
    "above", "below", "under", "underneath", "beneath", "over", "behind", "beside", "besides", "between", "near",
    "nearby", "next", "by", "against", "around", "across", "along", "inside", "outside", "opposite", "facing",
)  # fmt: skip
# A place of something is a relation to it ("left of the lamp"), of the picture itself it is none ("left of the photo").
_PLACE_OF = re.compile(rf"\b(?:{'|'.join(LOCATION)}) of\b")
_OF_THE_IMAGE = re.compile(r"\b(?:of|in|on) (?:the )?(?:image|picture|pic|photo|photograph|screen|frame|scene|shot)\b")
_OUTCOMES = ("right", "wrong outline", "wrong object")
_ATTRIBUTES = {
    "size": "mask area, share of the image",
    "parts": "separate parts of the mask",
    "solidity": "convexity (mask area / convex hull)",
    "kind": "kind of expression",
    "length": "words of the expression",
}
_LENGTHS = ((1, 2), (3, 4), (5, 7), (8, np.inf))
_COLOURS = dict(zip(_OUTCOMES, (style.RIGHT, style.WRONG_OUTLINE, style.WRONG_OBJECT), strict=True))
_MARKERS = ("s", "o", "D", "^")


def kind_of(expression: str) -> str:
    """How an expression tells its object: 'relation' to another object, 'location' in the image, 'attribute' alone.

    By its words: RELATION, and 'of' after one of LOCATION, go before LOCATION, so that 'left of the lamp' is a relation
    and 'left lamp' a location.
    """
    text = _OF_THE_IMAGE.sub("", " ".join(re.findall(r"[a-z]+", expression.lower())))
    named = set(text.split())
    if named & set(RELATION) or _PLACE_OF.search(text):
        return "relation"
    return "location" if named & set(LOCATION) else "attribute"


def describe(refs: pd.DataFrame, expressions: pd.DataFrame) -> pd.DataFrame:
    """What each expression and its object are like, a row an expression, aligned with `expressions`.

    refs: ref_id, height, width, mask. expressions: ref_id, expression. Columns: size (mask area over image area, 0-1),
    parts (8-connected parts of the mask), solidity (mask area over its convex hull's in pixels, 0-1), kind
    (`kind_of`), length (words). Raises DataError that names a ref without a mask.
    """
    wanted = refs[refs["ref_id"].isin(expressions["ref_id"])].drop_duplicates("ref_id")
    lacking = set(expressions["ref_id"]) - set(wanted.loc[wanted["mask"].notna(), "ref_id"])
    if lacking:
        raise DataError(f"no true mask of ref {min(lacking)}: give the refs.parquet that the models were scored on")
    objects = {}
    for ref_id, height, width, mask in wanted[["ref_id", "height", "width", "mask"]].itertuples(index=False):
        decoded = contour.decode(mask, int(height), int(width)).astype(np.uint8)
        hull = np.zeros(decoded.shape, dtype=np.uint8)
        found = cv2.findNonZero(decoded)
        if found is None:
            raise DataError(f"ref {ref_id}: its true mask is empty; leave it out or mend its annotation")
        cv2.fillConvexPoly(hull, cv2.convexHull(found), 1)
        area = int(decoded.sum())
        parts = cv2.connectedComponents(decoded, connectivity=8)[0] - 1
        objects[ref_id] = (area / decoded.size, parts, area / max(area, int((hull | decoded).sum())))
    described = pd.DataFrame(
        [objects[ref_id] for ref_id in expressions["ref_id"]],
        columns=["size", "parts", "solidity"],
        index=expressions.index,
    )
    return described.assign(
        kind=expressions["expression"].map(kind_of),
        length=expressions["expression"].map(lambda text: len(text.split())),
    )


def binned(described: pd.DataFrame) -> pd.DataFrame:
    """`describe`'s columns as ordered categories: quartiles of size, terciles of solidity, 1, 2, 3+ parts, ...

    Quantiles are of the expressions; equal ones are one bin, so there may be fewer.
    """
    return pd.DataFrame(
        {
            "size": _quantiles(described["size"] * 100, 4, " %"),
            "parts": pd.cut(described["parts"], [0, 1, 2, np.inf], labels=["1", "2", "3+"]),
            "solidity": _quantiles(described["solidity"], 3, ""),
            "kind": pd.Categorical(described["kind"], ["attribute", "location", "relation"], ordered=True),
            "length": pd.cut(
                described["length"],
                [0, *(most for _, most in _LENGTHS)],
                labels=[f"{least}+" if np.isinf(most) else f"{least}-{most}" for least, most in _LENGTHS],
            ),
        },
        index=described.index,
    )


def _quantiles(values: pd.Series, number: int, unit: str) -> pd.Series:
    """Bins of about equal counts, named by their bounds."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, number + 1)))
    if len(edges) == 1:
        return pd.Series(pd.Categorical([f"{edges[0]:.2g}{unit}"] * len(values)), index=values.index)
    names = [f"{low:.2g}–{high:.2g}{unit}" for low, high in pairwise(edges)]
    if len(set(names)) < len(names):  # bounds that two digits do not tell apart
        names = [f"{low:.4g}–{high:.4g}{unit}" for low, high in pairwise(edges)]
    return pd.cut(values, edges.tolist(), labels=names, include_lowest=True)


def outcome(predictions: pd.DataFrame) -> pd.Series:
    """'right' with IoU of at least 0.5; else 'wrong object' with a box IoU below 0.5, 'wrong outline' above."""
    missed = np.where(predictions["box_iou"] < 0.5, "wrong object", "wrong outline")
    return pd.Series(np.where(predictions["iou"] >= 0.5, "right", missed), index=predictions.index)


def analyse(refs: Path, metrics: Sequence[Path]) -> pd.DataFrame:
    """Every model's mIoU in each bin, and its outcomes, as a tidy table.

    refs: refs.parquet. metrics: metrics.json files of one data set and split; predictions.parquet lies beside each.
    Columns: dataset, split, ratio, experiment, step, label, attribute (of `describe`, or outcome), bin, expressions
    (over all seeds alike; of an outcome: all), mean and sd over seeds (mIoU, or the outcome's share; per cent), seeds.
    Raises DataError if there is no file, files are of several data sets or splits, or of other expressions.
    """
    runs = [evaluation_of(path) for path in metrics]
    predictions = [Path(path).with_name("predictions.parquet") for path in metrics]
    if len({(run.dataset, run.split) for run in runs}) != 1:
        raise DataError("failures are told of one data set and split: give metrics.json files of one")
    columns = ["ref_id", "expression", "iou", "box_iou"]
    tables = [read_table(path, columns) for path in predictions]
    for path, table in zip(predictions, tables, strict=True):
        if not table[["ref_id", "expression"]].equals(tables[0][["ref_id", "expression"]]):
            raise DataError(
                f"{path}: scored on other expressions than {predictions[0]}; evaluate both on one refs.parquet"
            )
    objects = read_table(refs, ["ref_id", "height", "width", "mask"])
    try:
        bins = binned(describe(objects, tables[0]))
    except DataError as error:
        raise DataError(f"{refs}: {error}") from None
    return _over_seeds(
        [row for run, table in zip(runs, tables, strict=True) for row in _figures(run, table, bins)], bins
    )


def _figures(run: Evaluation, table: pd.DataFrame, bins: pd.DataFrame) -> list[dict[str, Any]]:
    """One evaluation's figures, a row a bin."""
    whose = {name: getattr(run, name) for name in ("dataset", "split", "ratio", "experiment", "step", "seed")}
    rows = []
    for attribute in _ATTRIBUTES:
        for name, group in (100 * table["iou"]).groupby(bins[attribute], observed=True):
            rows.append(whose | {"attribute": attribute, "bin": name, "expressions": len(group), "value": group.mean()})
    shares = 100 * outcome(table).value_counts(normalize=True).reindex(_OUTCOMES, fill_value=0)
    rows += [
        whose | {"attribute": "outcome", "bin": name, "expressions": len(table), "value": share}
        for name, share in shares.items()
    ]
    return rows


def _over_seeds(rows: list[dict[str, Any]], bins: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds, models in the order of reports, bins in theirs."""
    key = ["dataset", "split", "ratio", "experiment", "step", "attribute", "bin"]
    grouped = pd.DataFrame(rows).groupby(key, sort=False)
    table = grouped.agg(
        expressions=("expressions", "first"), mean=("value", "mean"), sd=("value", "std"), seeds=("seed", "nunique")
    ).reset_index()
    table.insert(5, "label", _labels(table))
    order = [(name, each) for name in _ATTRIBUTES for each in bins[name].cat.categories]
    order += [("outcome", each) for each in _OUTCOMES]
    place = [order.index(pair) for pair in zip(table["attribute"], table["bin"], strict=True)]
    return ordered(table.assign(place=place).sort_values("place", kind="stable")).drop(columns="place")


def _labels(table: pd.DataFrame) -> list[str]:
    names = zip(table["experiment"], table["step"], table["ratio"], strict=True)
    return [f"{words.label(experiment, step, final=False)}, {ratio:g} %" for experiment, step, ratio in names]


def table(data: pd.DataFrame) -> Table:
    """The failures as a table: a grid of mIoU by bin, a row a bin and a column a model, and one of outcomes.

    data: of `analyse`.
    """
    models = list(dict.fromkeys(data["label"]))
    title = f"{dataset_name(data['dataset'].iloc[0])} {data['split'].iloc[0]}"
    grids = []
    for heading, attributes in (("mIoU", list(_ATTRIBUTES)), ("share of expressions, %", ["outcome"])):
        rows = []
        for attribute in attributes:
            part = data[data["attribute"] == attribute]
            for name in dict.fromkeys(part["bin"]):
                cells = part[part["bin"] == name].set_index("label")
                texts = [
                    with_spread(cells.at[model, "mean"], cells.at[model, "sd"], 1) if model in cells.index else ABSENT
                    for model in models
                ]
                group = _ATTRIBUTES.get(attribute, "outcome")
                rows.append(Row(group, str(name), (f"{cells['expressions'].iloc[0]:,}", *texts)))
        columns = tuple(Column("", name) for name in ("expressions", *models))
        grids.append(Grid(f"{title}: {heading}", ("by", ""), columns, tuple(rows)))
    notes = (
        words.MEANING["mIoU"],
        "Sizes are quartiles and shapes terciles of the expressions' objects; a convex object has an area of 1 of its "
        "hull. Relation: the expression has a word such as above, next, behind, between, or a place 'of' something; "
        "location: none of these, but a word such as left, top, middle, second; attribute: neither.",
        "right: IoU of at least 0.5. Of the rest, wrong object: box IoU below 0.5; wrong outline: of at least 0.5.",
        words.seeds(data),
    )
    return Table("Where models fail", notes, tuple(grids), data)


def draw(data: pd.DataFrame, png: Path, pdf: Path) -> None:
    """The failures as one figure: a panel of mIoU for each attribute, and one of outcomes. data: of `analyse`."""
    models = list(dict.fromkeys(data["label"]))
    with style.applied():
        figure, panels = style.panels(2, 3, width=3.2, height=2.6)
        colours = _colours(data, models)
        scores = data[data["attribute"] != "outcome"]
        spread = scores["sd"].fillna(0)
        least, most = (scores["mean"] - spread).min(), (scores["mean"] + spread).max()
        for axes, attribute in zip(panels.flat, _ATTRIBUTES, strict=False):
            axes.set_ylim(least - 3, most + 3)  # one scale, so that panels can be compared
            _by_bin(axes, data[data["attribute"] == attribute], models, colours)
            axes.set_title(_ATTRIBUTES[attribute], loc="left")
        whose = f"{dataset_name(data['dataset'].iloc[0])} {data['split'].iloc[0]}"
        for row in panels:
            row[0].set_ylabel(f"{whose}: mIoU, %")
        _outcomes(panels.flat[-1], data[data["attribute"] == "outcome"], models)
        handles = [
            style.key(model, colours[model], marker=_MARKERS[place % len(_MARKERS)])
            for place, model in enumerate(models)
        ]
        style.legend(figure, handles)
        style.save(figure, png, pdf)


def _colours(data: pd.DataFrame, models: Sequence[str]) -> dict[str, str]:
    """The colours that the experiments have in other figures."""
    known = {"baseline": style.BASELINE, "ours": style.FINAL, "oracle": style.ORACLE}
    names = [data.loc[data["label"] == model, "experiment"].iloc[0] for model in models]
    extra = style.extra_colours([name for name in in_order("experiment", names) if name not in known])
    return {model: (known | dict(extra))[name] for model, name in zip(models, names, strict=True)}


def _by_bin(axes: Axes, part: pd.DataFrame, models: Sequence[str], colours: dict[str, str]) -> None:
    """One attribute: bins from left to right, each model's mIoU ± standard deviation in each."""
    bins = list(dict.fromkeys(part["bin"]))
    for place, model in enumerate(models):
        rows = part[part["label"] == model].set_index("bin").reindex(bins)
        shift = 0.12 * (place - (len(models) - 1) / 2)
        looks: dict[str, Any] = {"color": colours[model], "marker": _MARKERS[place % len(_MARKERS)]}
        looks |= {"markersize": 4.5, "linewidth": 1, "elinewidth": 1.2, "markeredgecolor": "white"}
        axes.errorbar(np.arange(len(bins)) + shift, rows["mean"], rows["sd"].fillna(0), markeredgewidth=0.5, **looks)
    counts = part.drop_duplicates("bin").set_index("bin")["expressions"]
    axes.set_xticks(range(len(bins)), [f"{name}\nn = {counts[name]:,}" for name in bins])
    axes.set_xlim(-0.5, len(bins) - 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y")


def _outcomes(axes: Axes, part: pd.DataFrame, models: Sequence[str]) -> None:
    """Stacked bars: of each model, the shares of right answers, wrong outlines and wrong objects."""
    shares = part.pivot(index="label", columns="bin", values="mean").loc[models, list(_OUTCOMES)]
    left = np.zeros(len(models))
    for name in _OUTCOMES:
        axes.barh(range(len(models)), shares[name], left=left, height=0.62, color=_COLOURS[name], label=name)
        ink = style.TEXT if name == "wrong outline" else "white"
        for place, share in enumerate(shares[name]):
            if share >= 7:  # per cent: room for the number
                centre = left[place] + share / 2
                axes.text(centre, place, f"{share:.0f}", ha="center", va="center", fontsize=7.5, color=ink)
        left += shares[name].to_numpy()
    axes.set_yticks(range(len(models)), [model.replace(", ", "\n", 1) for model in models])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("expressions, %")
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.4, 1), ncols=3, handlelength=0.9, columnspacing=0.8, handletextpad=0.4
    )
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
