"""Draw example predictions, like the paper's Figure 5: one row per expression, one column per model."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from partialres.data.images import read_image
from partialres.files import DataError, read_table
from partialres.geometry import contour
from partialres.report import style
from partialres.report.intervals import check_expressions

_ROWS = 4  # expressions: more would make the figure taller than a screen
_CELL, _TEXT, _TITLES, _LINE = 1.9, 1.6, 0.3, 0.15  # inches: a picture's width, the text column, titles, a note's line
_TALLEST = 0.75  # largest height of the figure, over its width
_TINT, _DRAIN = 0.6, 0.8  # share of the tint inside a mask, and of grey outside it
_Example = tuple[pd.Series, str, list[pd.Series]]  # a ref, an expression of it, each model's prediction


@style.applied()
def qualitative(refs: Path, images: Path, models: Sequence[tuple[str, Path]]) -> Figure:
    """Draw a few expressions: image and box, true mask, then each model's mask, contour points and IoU.

    refs: refs.parquet. images: folder to which its file names are relative. models: column title and
    predictions.parquet of at least one model. Expressions are not picked by hand: they lie at evenly spaced quantiles
    of the IoU of the model with the highest mean IoU, at most one per ref, best first.
    Raises DataError if the models were scored on different expressions, or an image or a true mask is missing.
    """
    tables = [read_table(path, ["ref_id", "expression", "points", "mask", "iou"]) for _, path in models]
    for (_, path), table in zip(models, tables, strict=True):
        check_expressions(path, table, models[0][1], tables[0])
    best = int(np.argmax([table["iou"].mean() for table in tables]))
    places = _spread(tables[best])
    described = read_table(refs, ["ref_id", "file_name", "height", "width", "bbox", "mask"]).set_index("ref_id")
    examples = []
    for place in places:
        ref_id, expression = tables[best].loc[place, ["ref_id", "expression"]]
        if ref_id not in described.index or pd.isna(described.at[ref_id, "mask"]):
            raise DataError(f"{refs}: no true mask of ref {ref_id}, which {models[best][1]} was scored on")
        examples.append((described.loc[ref_id], expression, [table.loc[place] for table in tables]))
    titles = ["image and box", "true mask", *(title for title, _ in models)]
    note = (
        f"Rows are {len(places)} of {len(tables[best]):,} expressions, at evenly spaced quantiles of the IoU of "
        f"'{models[best][0]}' (the highest mean IoU), best first; none is picked by hand. Dots: predicted contour "
        "points. Numbers: IoU, per cent."
    )
    return _draw(examples, titles, images, note)


def _spread(table: pd.DataFrame) -> list[int]:
    """Return the rows at evenly spaced quantiles of IoU, best first: _ROWS of them, or fewer if there are fewer refs.

    If the ref at a quantile is already used, the nearest row of an unused ref is taken.
    """
    ranked = table.sort_values("iou", ascending=False, kind="stable")
    ranks: list[int] = []
    for place in range(min(_ROWS, table["ref_id"].nunique())):
        free = np.flatnonzero(~ranked["ref_id"].isin(ranked["ref_id"].iloc[ranks]))
        target = int((place + 0.5) / _ROWS * len(ranked))
        ranks.append(int(free[np.abs(free - target).argmin()]))
    return [int(ranked.index[rank]) for rank in sorted(ranks)]


def _draw(examples: Sequence[_Example], titles: Sequence[str], images: Path, note: str) -> Figure:
    """Lay out the examples: in each row the expression, then a picture under each title; the note at the bottom."""
    width = _TEXT + len(titles) * _CELL
    foot = textwrap.wrap(note, int(width * 19))
    heights = np.array([_CELL * min(1, ref["height"] / ref["width"]) for ref, _, _ in examples])
    margins = _TITLES + (len(foot) + 1) * _LINE
    heights *= min(1, (_TALLEST * width - margins) / heights.sum())
    total = heights.sum() + margins
    figure = Figure(figsize=(width, total))
    figure.text(_LINE / 2 / width, _LINE / 2 / total, "\n".join(foot), fontsize=7.5, color=style.SOFT)
    panels = figure.subplots(
        len(examples), 1 + len(titles), squeeze=False, width_ratios=[_TEXT, *[_CELL] * len(titles)],
        height_ratios=heights.tolist(), gridspec_kw={
            "left": 0, "right": 1 - 0.05 / width, "wspace": 0.03, "hspace": 0.05,
            "top": 1 - _TITLES / total, "bottom": (margins - _TITLES) / total,
        },
    )  # fmt: skip
    for row, (ref, expression, predictions) in zip(panels, examples, strict=True):
        row[0].set_axis_off()
        text = "\n".join(textwrap.wrap(f"“{expression}”", 21))
        row[0].text(0.06, 0.5, text, va="center", fontsize=9, style="italic", parse_math=False)
        _draw_row(row[1:], ref, predictions, images)
    for axes, title in zip(panels[0, 1:], titles, strict=True):
        axes.set_title(title)
    return figure


def _draw_row(panels: Sequence[Axes], ref: pd.Series, predictions: Sequence[pd.Series], images: Path) -> None:
    """Draw one example's pictures, in pixel coordinates with (0, 0) at the image's top left corner."""
    height, width = int(ref["height"]), int(ref["width"])
    picture = read_image(images / ref["file_name"], height, width)
    truth = contour.decode(ref["mask"], height, width)
    masks = [contour.decode(prediction["mask"], height, width) for prediction in predictions]
    tinted = [_tinted(picture, truth, style.TRUTH), *(_tinted(picture, mask, style.PREDICTED) for mask in masks)]
    for axes, view in zip(panels, (picture, *tinted), strict=True):
        axes.imshow(view, extent=(0, width, height, 0))
        axes.autoscale(False)  # points outside the image must not shrink it
        axes.set_axis_off()
    x, y, w, h = ref["bbox"]
    for colour, line in (("black", 2.6), (style.BOX, 1.4)):
        panels[0].add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=line))
    for colour, line in (("white", 2.2), (style.TRUTH, 1.2)):
        centres = np.arange(width) + 0.5, np.arange(height) + 0.5
        panels[1].contour(*centres, truth, [0.5], colors=[colour], linewidths=line)
    for axes, prediction in zip(panels[2:], predictions, strict=True):
        points = np.array([list(point) for point in prediction["points"]], dtype=float).reshape(-1, 2)
        for colour, line in (("white", 2.2), (style.PREDICTED, 1.2)):
            axes.fill(*points.T, fill=False, edgecolor=colour, linewidth=line, joinstyle="round", zorder=2)
        looks: dict[str, Any] = {"color": style.PREDICTED, "edgecolor": "white", "linewidth": 0.6, "zorder": 3}
        axes.scatter(points[:, 0], points[:, 1], s=12, **looks)
        shade = {"boxstyle": "round,pad=0.25", "facecolor": "black", "alpha": 0.65, "linewidth": 0}
        looks = {"va": "top", "fontsize": 8.5, "color": "white", "bbox": shade, "zorder": 4}
        axes.text(0.03, 0.96, f"{100 * prediction['iou']:.0f}", transform=axes.transAxes, **looks)


def _tinted(picture: np.ndarray, mask: np.ndarray, colour: str) -> np.ndarray:
    """Draw the mask in one colour, whatever the object's own, by its brightness; fade the rest to grey."""
    grey = picture.mean(axis=2, keepdims=True)
    rest = (1 - _DRAIN) * picture + _DRAIN * grey
    tint = (1 - _TINT) * grey + _TINT * 255 * np.array(to_rgb(colour))
    return np.where(mask[..., None], tint, rest).round().astype(np.uint8)
