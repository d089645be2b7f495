"""Compute with boxes given as x, y, width, height in pixels, x to the right and y down."""

from typing import Any

import numpy as np


def to_corners(boxes: np.ndarray) -> np.ndarray:
    """Convert boxes [..., 4] to their corners [..., 2, 2]: top left, bottom right."""
    boxes = np.asarray(boxes, dtype=np.float64)
    return np.stack([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-2)


def from_points(points: np.ndarray) -> np.ndarray:
    """Return the bounding boxes [..., 4] of points [..., N, 2], for example of two opposite corners in any order."""
    low, high = np.min(points, axis=-2), np.max(points, axis=-2)
    return np.concatenate([low, high - low], axis=-1)


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the IoU of pairs of boxes, [..., 4] each: [...] in [0, 1], and 0 if both are empty."""
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    intersection = np.prod(np.clip(high - low, 0, None), axis=-1)
    union = np.prod(first[..., 2:], axis=-1) + np.prod(second[..., 2:], axis=-1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def within(box: Any, height: int, width: int) -> list[float] | None:
    """Clip a box [x, y, width, height] from a file to the image; None if it is malformed or has no area there."""
    if not isinstance(box, list) or len(box) != 4 or {*map(type, box)} - {int, float} or not max(map(abs, box)) < 2**53:
        return None
    corners = to_corners(np.array(box))
    inside = np.clip(corners, 0, [width, height])
    if not np.isfinite(corners).all() or (inside[1] <= inside[0]).any():
        return None
    cut = box if (inside == corners).all() else from_points(inside)  # a box inside the image keeps its exact numbers
    return [float(value) for value in cut]
