"""Pseudo points: contours of unlabelled refs, kept where they agree with the known box, spaced evenly (RPP)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from partialres import metrics
from partialres.config import PseudoConfig
from partialres.evaluation import Prediction
from partialres.files import progress
from partialres.geometry import contour, projection


def candidates(refs: pd.DataFrame) -> pd.DataFrame:
    """The unlabelled refs of a split table, without masks, each with its first expression only: one contour a ref."""
    unlabelled = refs[~refs["labelled"]].drop(columns=["mask", "parts"], errors="ignore").reset_index(drop=True)
    return unlabelled.assign(expressions=[[many[0]] for many in unlabelled["expressions"]])


def points_table(refs: pd.DataFrame, predictions: list[Prediction]) -> pd.DataFrame:
    """points.parquet: ref_id, expression, points [N][2] in pixels, probabilities [2N], d (eq. 8; 0 to 2).

    refs: the candidates, with ref_id, bbox, height and width.
    """
    ids, given = refs["ref_id"].tolist(), refs["bbox"].tolist()
    sizes = refs[["height", "width"]].to_numpy().tolist()
    rows = []
    for prediction in predictions:
        height, width = sizes[prediction.position]
        mask = contour.polygon_rle(prediction.points, height, width)
        rows.append(
            {
                "ref_id": ids[prediction.position],
                "expression": prediction.expression,
                "points": prediction.points.tolist(),
                "probabilities": prediction.probabilities.tolist(),
                "d": projection.runs_dice_loss(mask, np.asarray(given[prediction.position], dtype=float)),
            }
        )
    return pd.DataFrame(rows, columns=["ref_id", "expression", "points", "probabilities", "d"])


def select(
    points: pd.DataFrame, sizes: pd.DataFrame, config: PseudoConfig, number: int, sampling: contour.Sampling = "uniform"
) -> pd.DataFrame:
    """selected.parquet: ref_id, points [number][2], d of the candidates with D below the threshold.

    points: a points table. sizes: ref_id, height, width. number: N. With resampling (RPP) the kept points are connected
    to a mask and N points spaced on its outline, evenly or as released; a mask that vanishes when filled, or has no
    contour to be sampled, is left out, never replaced.
    """
    shapes = dict(zip(sizes["ref_id"], sizes[["height", "width"]].to_numpy().tolist(), strict=True))
    kept = []
    below = points[points["d"] < config.threshold]
    for ref_id, flat, loss in progress(
        zip(below["ref_id"], below["points"], below["d"], strict=True), "select", total=len(below)
    ):
        shape = np.array([list(point) for point in flat], dtype=np.float64)
        if config.resample:
            mask, corner = contour.fill_window(shape, *shapes[ref_id])
            if not mask.any():
                continue
            shape = contour.sample(mask, number, sampling) + corner
            if np.isnan(shape).all():
                continue
        kept.append({"ref_id": ref_id, "points": shape.tolist(), "d": loss})
    return pd.DataFrame(kept, columns=["ref_id", "points", "d"])


def summarise(points: pd.DataFrame, selected: pd.DataFrame, truth: pd.DataFrame) -> dict[str, Any]:
    """How many candidates were kept, and how good they truly are, in per cent.

    truth: refs with ref_id, height, width and mask, which training never sees: only this report does.
    """
    masks = truth.set_index("ref_id")[["height", "width", "mask"]].dropna()

    def mean_iou(table: pd.DataFrame) -> float:
        scores = []
        for ref_id, flat in zip(table["ref_id"], table["points"], strict=True):
            if ref_id in masks.index:
                height, width, counts = masks.loc[ref_id]
                shape = np.array([list(point) for point in flat], dtype=np.float64)
                real = {"size": [int(height), int(width)], "counts": counts.encode()}
                both, either = metrics.areas(contour.polygon_rle(shape, int(height), int(width)), real)
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
