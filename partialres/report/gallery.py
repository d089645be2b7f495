"""Pictures of what the models find, like the paper's Figure 5: a row an expression, a column a mask ratio."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from partialres.files import DataError, read_table
from partialres.geometry import contour
from partialres.report import style

_CELL = 2.1  # inches: width of a picture
_TALLEST = 2.6  # inches: a taller picture is narrowed
_GAP, _TEXT, _TITLES = 0.08, 0.17, 0.26  # inches: between pictures, a line of text, the column titles
_PIXELS = 640  # pictures are drawn at least this long on their longer side, so that small ones stay smooth
_TINT, _DRAIN = 0.5, 0.7  # shares: of the tint in a mask, of grey around it


@dataclass(frozen=True)
class _Example:
    """An expression with what each model made of it: a row of each model's predictions.parquet."""

    ref: pd.Series
    expression: str
    predictions: tuple[pd.Series, ...]


def qualitative(
    refs: Path, images: Path, predictions: Sequence[tuple[str, Path]], png: Path, pdf: Path, count: int = 6
) -> None:
    """Draw `count` expressions: image and box, true mask, then each model's mask, contour points and IoU.

    refs: refs.parquet. images: the folder its file names are in. predictions: (column title,
    predictions.parquet) of models scored on the same expressions. count: at least 1.
    The expressions lie at evenly spaced quantiles of the IoU of the model with the highest mean IoU, one a
    ref, best first: nobody picks them, and the figure says so.
    Raises DataError if there is no model, the models were scored on different expressions, or an image or a
    true mask is missing.
    """
    if not predictions:
        raise DataError("the gallery needs the predictions.parquet of at least one model")
    labels = [label for label, _ in predictions]
    tables = [_read_predictions(path) for _, path in predictions]
    for (_, path), table in zip(predictions, tables, strict=True):
        if not table.index.equals(tables[0].index):
            raise DataError(
                f"{path}: scored on other expressions than {predictions[0][1]}; evaluate all models on one split"
            )
    best = int(np.argmax([table["overlap"].mean() for table in tables]))
    chosen = _spread(tables[best], count)
    known = read_table(refs, ["ref_id", "file_name", "height", "width", "bbox", "mask"]).set_index("ref_id")
    examples = []
    for key in chosen:
        ref_id, expression = key
        if ref_id not in known.index or pd.isna(known.at[ref_id, "mask"]):
            raise DataError(f"{refs}: no true mask of ref {ref_id}, which {predictions[best][1]} was scored on")
        examples.append(_Example(known.loc[ref_id], expression, tuple(table.loc[key] for table in tables)))
    caption = (
        f"Rows are {len(chosen)} of {len(tables[best]):,} expressions, at evenly spaced quantiles of the "
        f"IoU of '{labels[best]}' (the highest mean IoU), best first; none is picked by hand. Dots: "
        "predicted contour points. Numbers: IoU, %."
    )
    with style.applied():
        style.save(_draw(examples, labels, images, caption), png, pdf)


def _read_predictions(path: Path) -> pd.DataFrame:
    """predictions.parquet by (ref_id, expression), sorted, with `overlap`: IoU in per cent."""
    table = read_table(path, ["ref_id", "expression", "points", "mask", "intersection", "union"])
    if table.empty:
        raise DataError(f"{path}: holds no predictions; evaluate again")
    union = table["union"].to_numpy(dtype=float)
    overlap = 100 * np.divide(table["intersection"], union, out=np.zeros(len(table)), where=union > 0)
    key = ["ref_id", "expression"]  # a ref can have the same text twice: the same input, the same prediction
    return table.assign(overlap=overlap).drop_duplicates(key).set_index(key).sort_index()


def _spread(table: pd.DataFrame, count: int) -> list[tuple[int, str]]:
    """The keys at `count` evenly spaced quantiles of IoU, best first; fewer if there are fewer refs.

    Where a ref is taken already, the nearest rank whose ref is free.
    """
    ranked = list(table.sort_values("overlap", ascending=False, kind="stable").index)
    refs: set[int] = set()
    chosen = []
    for place in range(count):
        target = int((place + 0.5) / count * len(ranked))
        free = [rank for rank, (ref_id, _) in enumerate(ranked) if ref_id not in refs]
        if not free:
            break
        rank = min(free, key=lambda rank: abs(rank - target))
        refs.add(ranked[rank][0])
        chosen.append(rank)
    return [ranked[rank] for rank in sorted(chosen)]


def _draw(examples: Sequence[_Example], labels: Sequence[str], images: Path, caption: str) -> Figure:
    columns = ["image and box", "true mask", *labels]
    width = len(columns) * (_CELL + _GAP) + _GAP
    letters = int(width * 15)  # that fit on a line
    texts = [textwrap.wrap(f"“{example.expression}”", letters) or [""] for example in examples]
    heights = [min(_TALLEST, _CELL * example.ref["height"] / example.ref["width"]) for example in examples]
    foot = textwrap.wrap(caption, int(width * 19))
    rows = sum(heights) + sum(_TEXT * len(lines) + 3 * _GAP for lines in texts)
    total = _TITLES + rows + _TEXT * len(foot) + 2 * _GAP
    figure = Figure(figsize=(width, total))
    top = total
    for column, title in enumerate(columns):
        centre = _GAP + column * (_CELL + _GAP) + _CELL / 2
        figure.text(centre / width, (top - 0.2) / total, title, ha="center", va="baseline", fontsize=10)
    top -= _TITLES
    for example, height, lines in zip(examples, heights, texts, strict=True):
        top -= 1.5 * _GAP
        figure.text(
            _GAP / width,
            top / total,
            "\n".join(lines),
            va="top",
            fontsize=9.5,
            style="italic",
            parse_math=False,
        )
        top -= _TEXT * len(lines) + 0.5 * _GAP
        panels = []
        for column in range(len(columns)):
            left = (_GAP + column * (_CELL + _GAP)) / width
            panels.append(figure.add_axes((left, (top - height) / total, _CELL / width, height / total)))
        _draw_row(panels, example, images)
        top -= height + _GAP
    top -= _GAP
    figure.text(_GAP / width, top / total, "\n".join(foot), va="top", fontsize=7.5, color=style.SOFT)
    return figure


def _draw_row(panels: Sequence[Axes], example: _Example, images: Path) -> None:
    ref = example.ref
    height, width = int(ref["height"]), int(ref["width"])
    picture = _read_image(images / ref["file_name"], height, width)
    scale = np.array([picture.shape[1] / width, picture.shape[0] / height])
    x, y, w, h = ref["bbox"]
    _show(panels[0], picture, height, width)
    for colour, line in (("black", 2.6), (style.BOX, 1.4)):
        panels[0].add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=line))
    truth = _enlarged(contour.decode(ref["mask"], height, width), picture)
    _show(panels[1], _tinted(picture, truth, style.TRUTH), height, width)
    outlines, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        _closed(panels[1], (outline[:, 0] + 0.5) / scale, style.TRUTH)
    for axes, prediction in zip(panels[2:], example.predictions, strict=True):
        mask = _enlarged(contour.decode(prediction["mask"], height, width), picture)
        _show(axes, _tinted(picture, mask, style.PREDICTED), height, width)
        points = np.array([list(point) for point in prediction["points"]], dtype=float).reshape(-1, 2)
        _closed(axes, points, style.PREDICTED)
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=15,
            color=style.PREDICTED,
            edgecolor="white",
            linewidth=0.7,
            zorder=3,
        )
        axes.text(
            0.03,
            0.96,
            f"{prediction['overlap']:.0f}",
            transform=axes.transAxes,
            va="top",
            fontsize=8.5,
            color="white",
            bbox={"boxstyle": "round,pad=0.25", "facecolor": "black", "alpha": 0.65, "linewidth": 0},
            zorder=4,
        )


def _read_image(path: Path, height: int, width: int) -> np.ndarray:
    """An image as uint8 [h, w, 3] RGB, enlarged to at least _PIXELS on its longer side."""
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except OSError as error:
        raise DataError(f"{path}: cannot be read as an image ({error}); is this the folder of raw images?") from error
    if picture.size != (width, height):
        raise DataError(f"{path}: is {picture.width} x {picture.height}, but refs.parquet says {width} x {height}")
    factor = max(1.0, _PIXELS / max(height, width))
    return np.asarray(picture.resize((round(width * factor), round(height * factor)), Image.Resampling.LANCZOS))


def _enlarged(mask: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """A mask, bool [height, width], at the picture's size, its edges smooth."""
    size = (picture.shape[1], picture.shape[0])
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5


def _tinted(picture: np.ndarray, mask: np.ndarray, colour: str) -> np.ndarray:
    """The picture with the mask tinted and colour drained from the rest, so that any object shows."""
    rest = picture.astype(np.float32)
    rest = (1 - _DRAIN) * rest + _DRAIN * rest.mean(axis=2, keepdims=True)
    tint = (1 - _TINT) * picture + _TINT * 255 * np.array(to_rgb(colour), dtype=np.float32)
    return np.where(mask[..., None], tint, rest).round().astype(np.uint8)


def _show(axes: Axes, picture: np.ndarray, height: int, width: int) -> None:
    """A picture in the pixel coordinates of the original image, (0, 0) being its corner."""
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="antialiased")
    axes.autoscale(False)  # points beyond the image do not shrink it
    axes.set_axis_off()


def _closed(axes: Axes, points: np.ndarray, colour: str) -> None:
    """The closed line through points [N, 2]; what sticks out of the image is cut."""
    ring = np.vstack([points, points[:1]])
    for shade, width in (("white", 2.2), (colour, 1.2)):
        axes.plot(*ring.T, color=shade, linewidth=width, zorder=2, scalex=False, scaley=False)
