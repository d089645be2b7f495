"""Score predicted masks, as COCO run lengths, and summarise the scores of masks and boxes."""

import pandas as pd
from pycocotools import mask as coco

from partialres.geometry.rle import Rle

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def areas(first: Rle, second: Rle) -> tuple[int, int]:
    """Return the number of pixels in the intersection and in the union of two masks of equal size."""
    both = int(coco.area(coco.merge([first, second], intersect=True)))
    return both, int(coco.area(first)) + int(coco.area(second)) - both


def iou(first: Rle, second: Rle) -> float:
    """Return the intersection over union of two masks, in [0, 1]; 0 if both are empty."""
    both, either = areas(first, second)
    return both / either if either else 0.0


def summarise(predictions: pd.DataFrame) -> dict[str, float | int]:
    """Summarise the scores of a split's expressions, one per row, in per cent.

    predictions: ref_id, iou, iou_upstream, intersection, union, box_iou. mIoU is the mean IoU over expressions; oIoU
    the sum of intersections over the sum of unions; Pr@X the share of expressions with IoU >= X; box_accuracy the share
    whose box IoU is at least 0.5.
    """
    scores: dict[str, float | int] = {
        "expressions": len(predictions),
        "refs": int(predictions["ref_id"].nunique()),
        "mIoU": 100 * float(predictions["iou"].mean()),
        "oIoU": 100 * float(predictions["intersection"].sum() / max(1, predictions["union"].sum())),
    }
    for threshold in THRESHOLDS:
        scores[f"Pr@{threshold}"] = 100 * float((predictions["iou"] >= threshold).mean())
    scores["box_accuracy"] = 100 * float((predictions["box_iou"] >= 0.5).mean())
    scores["mIoU_upstream"] = 100 * float(predictions["iou_upstream"].mean())
    return scores


def summarise_boxes(predictions: pd.DataFrame) -> dict[str, float | int]:
    """Summarise step 1's scores in per cent. predictions: a row per expression with ref_id and box_iou (0 to 1)."""
    return {
        "expressions": len(predictions),
        "refs": int(predictions["ref_id"].nunique()),
        "box_accuracy": 100 * float((predictions["box_iou"] >= 0.5).mean()),
        "mean_box_iou": 100 * float(predictions["box_iou"].mean()),
    }
