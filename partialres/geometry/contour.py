"""Trace masks to contour points, and fill contour points to masks.

Only pycocotools rasterises, so that all scored masks follow one convention. Outlines run along pixel edges: cv2 gives
pixel centres, which would shrink every mask by half a pixel on each side.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from pycocotools import mask as coco
from shapely import Polygon, box, get_parts, make_valid

from partialres.geometry.rle import Rle

Sampling = Literal["uniform", "released"]  # how N points are taken from a contour

_CUT = np.sqrt(2) / 4  # pixels from an inner corner to either end of the line that cuts it off


def decode(counts: str | bytes, height: int, width: int) -> np.ndarray:
    """Decode the counts of a COCO compressed RLE: bool [height, width]."""
    return coco.decode({"size": [height, width], "counts": counts}).view(bool)


def encode(mask: np.ndarray) -> str:
    """Encode a mask, bool [height, width], as the counts of a COCO compressed RLE."""
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()


def polygon_rle(points: np.ndarray, height: int, width: int) -> Rle:
    """Fill the polygon through points [N, 2] in pixels, NaN rows left out: a COCO RLE, empty for under three."""
    points = np.asarray(points, dtype=np.float64)
    points = points[~np.isnan(points).any(axis=1)]
    if len(points) < 3:
        return coco.encode(np.zeros((height, width), dtype=np.uint8, order="F"))
    return coco.frPyObjects([points.reshape(-1).tolist()], height, width)[0]


def fill(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fill the polygon through points [N, 2] in pixels, as `polygon_rle` does: bool [height, width]."""
    return coco.decode(polygon_rle(points, height, width)).view(bool)


def window(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut a mask, bool [height, width], to its bounding box: a view, bool [h, w], and its corner, int64 [2] (x, y).

    Raises ValueError if the mask is empty.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        raise ValueError("the mask is empty")
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.array([columns[0], rows[0]])


def largest_outline(mask: np.ndarray) -> np.ndarray:
    """Trace the outer contour of a mask's largest part along pixel edges (paper sec. 3).

    mask: bool [height, width]. Pixels that touch only at a corner belong to one part: every inner corner is cut off, so
    that the outline does not pass the same point twice there.
    Returns float64 [K, 2], x and y in pixels, clockwise as seen (y down), from the topmost and then leftmost corner. If
    parts are equally large, the lowest is traced.
    Raises ValueError if the mask is empty.
    """
    part, corner = window(mask)
    # cv2 walks around pixels anticlockwise, which is clockwise in the transposed image. In a mask of twice the size it
    # passes each corner of a pixel by itself.
    columns = np.ascontiguousarray(part.T, dtype=np.uint8)
    doubled = cv2.resize(columns, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = [_from_top(_edges(contour[:, 0, ::-1], corner)) for contour in contours]
    # Areas are multiples of 1/16; ties go to the outline that starts lowest.
    return max(outlines, key=lambda outline: (round(16 * signed_area(outline)), *outline[0, ::-1]))


def _edges(contour: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Turn a clockwise contour of the doubled mask, int [K, 2], into corners of pixel edges, float64 [L, 2] in pixels.

    contour // 2 is a pixel, and contour % 2 its corner nearest to the edge. A right turn goes around this corner. A
    diagonal step turns left at it: an inner corner, which is cut off and gives two points. corner: added to the pixels.
    """
    steps = np.roll(contour, -1, axis=0) - contour
    diagonal = steps.all(axis=1)
    turns = (steps != np.roll(steps, 1, axis=0)).any(axis=1) & ~np.roll(diagonal, 1)
    steps[~diagonal] = 0
    arriving = steps @ np.array([[1, 1], [-1, 1]]) // 2  # the diagonal, turned clockwise by 45 degrees
    ends = np.stack([-_CUT * arriving, _CUT * (steps - arriving)], axis=1)  # of the cut, from the corner: [K, 2, 2]
    points = (contour % 2)[:, None] + ends + (contour // 2 + corner)[:, None]
    return points[np.stack([turns, diagonal], axis=1)]


def _from_top(points: np.ndarray) -> np.ndarray:
    """Start a closed contour [N, 2] at its topmost, of those its leftmost, point."""
    return np.roll(points, -np.lexsort(points.T)[0], axis=0)


def signed_area(points: np.ndarray) -> float:
    """Return the area of a closed polygon [N, 2] in square pixels; positive if clockwise as seen (y down)."""
    x, y = points.T
    return 0.5 * float(x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1])


def resample(points: np.ndarray, number: int) -> np.ndarray:
    """Space points evenly along a closed polyline [K, 2], from its first point on: float64 [number, 2].

    Raises ValueError if the polyline has no length.
    """
    points = np.asarray(points, dtype=np.float64)
    x, y = np.concatenate([points, points[:1]]).T
    along = np.zeros(len(x))
    np.cumsum(np.sqrt((x[1:] - x[:-1]) ** 2 + (y[1:] - y[:-1]) ** 2), out=along[1:])
    if along[-1] == 0:
        raise ValueError("the contour has no length")
    at = np.arange(number) * (along[-1] / number)
    return np.stack([np.interp(at, along, x), np.interp(at, along, y)], axis=1)


def sample(mask: np.ndarray, number: int, sampling: Sampling) -> np.ndarray:
    """Take N points from the contour of a mask, bool [height, width], by `trace` or `trace_released`."""
    return trace(mask, number) if sampling == "uniform" else trace_released(mask, number)


def trace(mask: np.ndarray, number: int) -> np.ndarray:
    """Space points evenly along `largest_outline` (paper sec. 3): float64 [number, 2], x and y in pixels."""
    return resample(largest_outline(mask), number)


def trace_released(mask: np.ndarray, number: int) -> np.ndarray:
    """Sample as the released code does: every ceil(L / number)-th of the L pixels of the largest contour.

    mask: bool [height, width], not empty. Returns float64 [number, 2], whole pixels, anticlockwise as seen. There are
    often fewer points than `number`: the remaining rows are NaN. All are NaN if the contour encloses no area.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea)
    points = np.full((number, 2), np.nan)
    if cv2.contourArea(largest) > 0:
        chosen = largest[:: -(-len(largest) // number), 0]
        points[: len(chosen)] = chosen
    return points


def cut(outline: np.ndarray, height: int, width: int) -> np.ndarray | None:
    """Cut a closed polyline [K, 2] to a window of height x width at the origin and return the largest part.

    Returns float64 [L, 2] in pixels, directed and started as in `largest_outline`; None if nothing is inside.
    """
    inside = make_valid(Polygon(outline)).intersection(box(0, 0, width, height))
    parts = get_parts(get_parts(inside))  # a collection may hold several polygons as one
    largest = max(parts, key=lambda part: part.area, default=None)
    if largest is None or largest.area == 0:
        return None
    points = np.asarray(largest.exterior.coords)[:-1]
    return _from_top(points if signed_area(points) > 0 else points[::-1])
