"""Masks and contours: a mask traced to N points, and N points filled to a mask.

Only pycocotools rasterises, so that every scored mask follows one convention. A traced contour follows pixel edges:
cv2 gives pixel centres, which would shrink every mask by half a pixel on each side.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from pycocotools import mask as coco
from shapely import Polygon, box, make_valid

from partialres.geometry.runs import Rle, unpack_window

Sampling = Literal["uniform", "released"]  # which pixels of a contour become its N points


def decode(counts: str | bytes, height: int, width: int) -> np.ndarray:
    """A COCO compressed RLE -> mask, bool [height, width]."""
    counts = counts.encode() if isinstance(counts, str) else counts
    return coco.decode({"size": [height, width], "counts": counts}).astype(bool)


def encode(mask: np.ndarray) -> str:
    """A mask, bool [height, width] -> COCO compressed RLE counts."""
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()


def polygon_rle(points: np.ndarray, height: int, width: int) -> Rle:
    """The polygon through points [N, 2] (pixels), filled: a COCO RLE of an image of that size.

    Rows of NaN are points that are not there. Fewer than three points fill nothing.
    """
    points = np.asarray(points, dtype=np.float64)
    points = points[~np.isnan(points).any(axis=1)]
    if len(points) < 3:
        return coco.encode(np.zeros((height, width), dtype=np.uint8, order="F"))
    return coco.frPyObjects([points.reshape(-1).tolist()], height, width)[0]


def fill(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """The polygon through points [N, 2] (pixels; see polygon_rle), filled: bool [height, width]."""
    return coco.decode(polygon_rle(points, height, width)).astype(bool)


def fill_window(points: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """`fill` cut to the box around what is filled, much less than the image: see `runs.unpack_window`."""
    return unpack_window(polygon_rle(points, height, width))


def largest_outline(mask: np.ndarray) -> np.ndarray:
    """The outer contour of the largest part of a mask (paper sec. 3), along pixel edges.

    mask: bool [height, width]. Returns float64 [K, 2], x and y in pixels, clockwise as seen (y down), starting at the
    topmost and of those the leftmost corner. Raises ValueError if the mask is empty.
    """
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))  # of an empty mask 0 x 0
    if not width:
        raise ValueError("the mask is empty")
    mask = mask[y : y + height, x : x + width]
    # Every pixel becomes 2 x 2, so that no part is too thin to have an inside; the outline runs through the outermost
    # quarters' centres, and a quarter of a pixel out from there is the pixels' own edge.
    doubled = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outlines = [_grown(contour[:, 0] + (2 * x, 2 * y)) for contour in contours]
    return _clockwise_from_top(max(outlines, key=lambda outline: abs(signed_area(outline))))


def _grown(contour: np.ndarray) -> np.ndarray:
    """The pixel edges around a contour int [K, 2] through the pixel centres of a doubled mask: float64 [L, 2]."""
    grown = Polygon((contour + 0.5) / 2).buffer(0.25, join_style="mitre")
    part = max(getattr(grown, "geoms", [grown]), key=lambda polygon: polygon.area)
    return np.asarray(part.exterior.coords)[:-1]


def _clockwise_from_top(points: np.ndarray) -> np.ndarray:
    """The same closed contour, clockwise as seen and starting at its topmost, then leftmost, point."""
    if signed_area(points) < 0:
        points = points[::-1]
    start = np.lexsort((points[:, 0], points[:, 1]))[0]
    return np.roll(points, -int(start), axis=0)


def signed_area(points: np.ndarray) -> float:
    """Area of a closed polygon [N, 2] in square pixels; positive if clockwise as seen (y down)."""
    following = np.roll(points, -1, axis=0)
    return 0.5 * float(np.sum(points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]))


def resample(points: np.ndarray, number: int) -> np.ndarray:
    """`number` points evenly spaced along a closed polyline [K, 2], the first being its first: float64 [number, 2].

    Raises ValueError if the polyline has no length.
    """
    points = np.asarray(points, dtype=np.float64)
    closed = np.vstack([points, points[:1]])
    steps = np.hypot(*np.diff(closed, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    if along[-1] == 0:
        raise ValueError("the contour has no length")
    at = np.arange(number) * (along[-1] / number)
    return np.stack([np.interp(at, along, closed[:, axis]) for axis in (0, 1)], axis=1)


def sample(mask: np.ndarray, number: int, sampling: Sampling) -> np.ndarray:
    """N points on the contour of a mask, bool [height, width], in one of two ways: `trace` or `trace_released`."""
    return trace(mask, number) if sampling == "uniform" else trace_released(mask, number)


def trace(mask: np.ndarray, number: int) -> np.ndarray:
    """N points uniformly along the largest outer contour, clockwise (paper sec. 3): float64 [number, 2] in pixels.

    mask: bool [height, width]. Raises ValueError if the mask is empty.
    """
    return resample(largest_outline(mask), number)


def trace_released(mask: np.ndarray, number: int) -> np.ndarray:
    """The released sampling: of the L pixels of the largest contour every ceil(L / number)-th, from the first on.

    mask: bool [height, width]. Returns float64 [number, 2], whole pixels, anticlockwise as seen. Often these are fewer
    points than asked for: the rows that are left are NaN, all of them where the contour encloses no area.
    Raises ValueError if the mask is empty.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    if not contours:
        raise ValueError("the mask is empty")
    largest = max(contours, key=cv2.contourArea)
    points = np.full((number, 2), np.nan)
    if cv2.contourArea(largest) > 0:
        chosen = largest[:: -(-len(largest) // number), 0]
        points[: len(chosen)] = chosen
    return points


def cut(outline: np.ndarray, height: int, width: int) -> np.ndarray | None:
    """The largest part of a closed polyline [K, 2] inside a window of height x width at the origin, or None if none is.

    Clockwise and from its topmost, then leftmost point, as `largest_outline` is: float64 [L, 2] in pixels.
    """
    within = make_valid(Polygon(outline)).intersection(box(0, 0, width, height))
    parts = [part for part in getattr(within, "geoms", [within]) if part.area > 0]
    if not parts:
        return None
    largest = max(parts, key=lambda part: part.area)
    largest = max(getattr(largest, "geoms", [largest]), key=lambda part: part.area)  # make_valid may nest them
    return _clockwise_from_top(np.asarray(largest.exterior.coords)[:-1])
