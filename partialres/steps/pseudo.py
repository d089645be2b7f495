"""Step 3, selection: pseudo points that agree with the known box (eq. 8), spaced evenly (RPP)."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from partialres import metrics
from partialres.config import PseudoConfig
from partialres.files import DataError
from partialres.geometry import contour

SELECTED = pa.schema({"ref_id": pa.int64(), "points": pa.list_(pa.list_(pa.float64())), "d": pa.float64()})


def select(
    points: pd.DataFrame, sizes: pd.DataFrame, config: PseudoConfig, number: int, sampling: contour.Sampling = "uniform"
) -> pd.DataFrame:
    """Keep the candidates with D below the threshold: rows of selected.parquet: ref_id, points `[number][2]` and d.

    points: from `points_table`. sizes: height and width by ref_id, its index. number: N. With resampling (RPP) each
    polygon is filled and N points are taken from the contour of that mask; a polygon that fills no pixel, or whose mask
    cannot be sampled, is left out.
    """
    if not sizes.index.is_unique or not points["ref_id"].isin(sizes.index).all():
        raise DataError(
            "the pseudo points are of refs that the split table lacks or has twice; give the table of their own run"
        )
    kept = points[points["d"] < config.threshold]
    polygons = [as_array(each) for each in kept["points"]]
    if config.resample:
        shapes = sizes.loc[kept["ref_id"], ["height", "width"]].to_numpy().tolist()
        pairs = zip(polygons, shapes, strict=True)
        polygons = [resampled(polygon, high, wide, number, sampling) for polygon, (high, wide) in pairs]
    made = np.array([not np.isnan(polygon).all() for polygon in polygons], dtype=bool)
    table = pd.DataFrame({"ref_id": kept["ref_id"], "points": [each.tolist() for each in polygons], "d": kept["d"]})
    return table[made].reset_index(drop=True)


def resampled(polygon: np.ndarray, height: int, width: int, number: int, sampling: contour.Sampling) -> np.ndarray:
    """Fill a polygon [N, 2] and take points [number, 2] from the mask's contour; all NaN if it fills no pixel."""
    mask = contour.fill(polygon, height, width)
    if not mask.any():
        return np.full((number, 2), np.nan)
    part, corner = contour.window(mask)  # cropped, because tracing visits every pixel
    return contour.sample(part, number, sampling) + corner


def as_array(points: Any) -> np.ndarray:
    """Convert one ref's points, nested lists or arrays as parquet gives them, to float64 [N, 2]."""
    return np.array(list(points), dtype=np.float64)


def summarise(points: Iterable[pd.DataFrame], selected: Iterable[pd.DataFrame], truth: pd.DataFrame) -> dict[str, Any]:
    """Report how many candidates were kept and their mean IoU with the true masks, per cent (None without any mask).

    points, selected: the files' groups of rows, of which one at a time is in memory. truth: refs with ref_id, height,
    width and mask. Only this report sees these masks, no training does.
    """
    real = truth[truth["mask"].notna()]
    columns = (real[column].tolist() for column in ("ref_id", "height", "width", "mask"))
    masks = {
        ref_id: {"size": [height, width], "counts": counts.encode()}
        for ref_id, height, width, counts in zip(*columns, strict=True)
    }

    def scored(tables: Iterable[pd.DataFrame]) -> tuple[list[float], float | None]:
        """Return every D, and the mean IoU."""
        losses, scores = [], []
        for table in tables:
            losses += table["d"].tolist()
            for ref_id, polygon in zip(table["ref_id"], table["points"], strict=True):
                if ref_id in masks:
                    mask = masks[ref_id]
                    scores.append(metrics.iou(contour.polygon_rle(as_array(polygon), *mask["size"]), mask))
        return losses, 100 * float(np.mean(scores)) if scores else None

    (all_, of_all), (kept, of_kept) = scored(points), scored(selected)
    return {
        "candidates": len(all_),
        "kept": len(kept),
        "kept_share": 100 * len(kept) / max(1, len(all_)),
        "true_iou_kept": of_kept,
        "true_iou_all": of_all,
        "mean_d": float(np.nanmean(all_)) if not np.isnan(all_).all() else 0.0,
    }
