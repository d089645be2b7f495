"""Pseudo points: contours of unlabelled refs, kept where they agree with the known box, spaced evenly (RPP)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from partialres import metrics
from partialres.config import PseudoConfig
from partialres.evaluation import Prediction
from partialres.files import progress
from partialres.geometry import contour, projection
from partialres.geometry.runs import unpack_windows

BLOCK = 64  # masks looked at together, which bounds the memory


def candidates(refs: pd.DataFrame, expressions: str = "first") -> pd.DataFrame:
    """The unlabelled refs of a split table, without masks, each with its first expression or with all of them."""
    unlabelled = refs[~refs["labelled"]].drop(columns=["mask", "parts"], errors="ignore").reset_index(drop=True)
    if expressions == "all":
        return unlabelled
    return unlabelled.assign(expressions=[[many[0]] for many in unlabelled["expressions"]])


def points_table(refs: pd.DataFrame, predictions: list[Prediction]) -> pd.DataFrame:
    """points.parquet: ref_id, expression, points [N][2] in pixels, probabilities [2N], d (eq. 8; 0 to 2).

    Of a ref's contours, one an expression, that with the lowest D. refs: the candidates, with ref_id, bbox, height and
    width.
    """
    places = [prediction.position for prediction in predictions]
    sizes = refs[["height", "width"]].to_numpy()[places].tolist()
    boxes = refs["bbox"].iloc[places].tolist()
    losses = np.zeros(len(predictions))
    for start in range(0, len(predictions), BLOCK):
        block = slice(start, start + BLOCK)
        masks = [
            contour.polygon_rle(prediction.points, *size)
            for prediction, size in zip(predictions[block], sizes[block], strict=True)
        ]
        losses[block] = projection.runs_dice_losses(masks, np.array(boxes[block], dtype=np.float64))
    table = pd.DataFrame(
        {
            "ref_id": refs["ref_id"].to_numpy()[places],
            "expression": [prediction.expression for prediction in predictions],
            "points": [prediction.points.tolist() for prediction in predictions],
            "probabilities": [prediction.probabilities.tolist() for prediction in predictions],
            "d": losses,
        }
    )
    best = table.sort_values("d", kind="stable").drop_duplicates("ref_id").index
    return table.loc[best.sort_values()].reset_index(drop=True)


def select(
    points: pd.DataFrame, sizes: pd.DataFrame, config: PseudoConfig, number: int, sampling: contour.Sampling = "uniform"
) -> pd.DataFrame:
    """selected.parquet: ref_id, points [number][2], d, weight of the candidates with D below the threshold.

    points: a points table. sizes: ref_id, height, width. number: N. With resampling (RPP) the kept points are connected
    to a mask and N points spaced on its outline, evenly or as released; a mask that vanishes when filled, or has no
    contour to be sampled, is left out, never replaced. Weights, in training's loss, have mean one: all alike, or by the
    geometric mean of the probabilities of a contour's tokens.
    """
    below = points[points["d"] < config.threshold]
    polygons = [as_array(flat) for flat in below["points"]]
    made = np.ones(len(below), dtype=bool)
    if config.resample:
        shapes = dict(zip(sizes["ref_id"], sizes[["height", "width"]].to_numpy().tolist(), strict=True))
        extents = [shapes[ref_id] for ref_id in below["ref_id"]]
        polygons = list(progress(_resampled(polygons, extents, number, sampling), "select", total=len(polygons)))
        made[:] = [not np.isnan(polygon).all() for polygon in polygons]
    points_of = [polygon.tolist() for polygon in polygons]
    columns = {"ref_id": below["ref_id"], "points": points_of, "d": below["d"], "weight": np.ones(len(below))}
    if config.weight == "probability":
        columns["weight"] = [float(np.exp(np.log(np.maximum(sure, 1e-9)).mean())) for sure in below["probabilities"]]
    kept = pd.DataFrame(columns)[made].reset_index(drop=True)
    return kept.assign(weight=kept["weight"] / kept["weight"].mean())


def _resampled(
    polygons: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], number: int, sampling: contour.Sampling
) -> Iterator[np.ndarray]:
    """Of each polygon [N, 2] filled, points [number, 2] on the mask's outline; where there is none all are NaN."""
    for start in range(0, len(polygons), BLOCK):
        block = slice(start, start + BLOCK)
        masks = [
            contour.polygon_rle(polygon, *size) for polygon, size in zip(polygons[block], sizes[block], strict=True)
        ]
        for mask, corner in unpack_windows(masks):
            yield contour.sample(mask, number, sampling) + corner if mask.any() else np.full((number, 2), np.nan)


def as_array(points: Sequence[Sequence[float]]) -> np.ndarray:
    """One cell of a column of points, as lists or as parquet gives it (an array of arrays): float64 [N, 2]."""
    return np.array(list(points), dtype=np.float64)


def summarise(points: pd.DataFrame, selected: pd.DataFrame, truth: pd.DataFrame) -> dict[str, Any]:
    """How many candidates were kept, and how good they truly are, in per cent.

    truth: refs with ref_id, height, width and mask, which training never sees: only this report does.
    """
    known = truth[truth["mask"].notna()]
    masks = {
        ref_id: {"size": [height, width], "counts": counts.encode()}
        for ref_id, height, width, counts in zip(
            *(known[column].tolist() for column in ("ref_id", "height", "width", "mask")), strict=True
        )
    }

    def mean_iou(table: pd.DataFrame) -> float:
        scores = []
        for ref_id, flat in zip(table["ref_id"], table["points"], strict=True):
            if ref_id in masks:
                real = masks[ref_id]
                both, either = metrics.areas(contour.polygon_rle(as_array(flat), *real["size"]), real)
                scores.append(both / either if either else 0.0)
        return 100 * float(np.mean(scores)) if scores else 0.0

    return {
        "candidates": len(points),
        "kept": len(selected),
        "kept_share": 100 * len(selected) / max(1, len(points)),
        "true_iou_kept": mean_iou(selected),
        "true_iou_all": mean_iou(points),
        "mean_d": float(points["d"].mean()) if len(points) else 0.0,
    }
