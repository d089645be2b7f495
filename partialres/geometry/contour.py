"""Trace the contours of masks as points, and fill contours to get masks.

All filling is done by pycocotools, so that scored masks follow one convention. Outlines run along pixel edges, since
the pixel centres that cv2 gives would shrink every mask by half a pixel on each side.
"""

from typing import Literal

import cv2
import numpy as np
from pycocotools import mask as coco
from shapely import Polygon, box, get_parts, make_valid

from partialres.geometry.rle import Rle

Sampling = Literal["uniform", "released"]  # how N points are taken from a contour

_CUT = np.sqrt(2) / 4  # distance in pixels, along x and y, of each end of a cut from the inner corner that it cuts off


def decode(counts: str | bytes, height: int, width: int) -> np.ndarray:
    """Decode the counts of a COCO compressed RLE: bool [height, width]."""
    return coco.decode({"size": [height, width], "counts": counts}).view(bool)


def encode(mask: np.ndarray) -> str:
    """Encode a mask, bool [height, width], as the counts of a COCO compressed RLE."""
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()


def polygon_rle(points: np.ndarray, height: int, width: int) -> Rle:
    """Fill the polygon through points [N, 2] in pixels, ignoring NaN rows: a COCO RLE, empty if fewer than three."""
    points = np.asarray(points, dtype=np.float64)
    points = points[~np.isnan(points).any(axis=1)]
    if len(points) < 3:
        return coco.encode(np.zeros((height, width), dtype=np.uint8, order="F"))
    return coco.frPyObjects([points.reshape(-1).tolist()], height, width)[0]


def fill(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fill the polygon through points [N, 2] in pixels, as `polygon_rle` does: bool [height, width]."""
    return coco.decode(polygon_rle(points, height, width)).view(bool)


def window(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crop a mask, bool [height, width], to its bounding box; return a view, bool [h, w], and its top left, int64 [2].

    Raises ValueError if the mask is empty.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        raise ValueError("the mask is empty")
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.array([columns[0], rows[0]])


def largest_outline(mask: np.ndarray) -> np.ndarray:
    """Trace the outer contour of a mask's largest part along pixel edges (paper sec. 3).

    mask: bool [height, width]. Pixels that touch only at a corner belong to the same part. Every inner corner is cut
    off, so that the outline does not pass such a corner twice.
    Returns float64 [K, 2], x and y in pixels, clockwise as seen (y down). If parts are equally large, the one
    whose top is lowest is traced.
    Raises ValueError if the mask is empty.
    """
    part, corner = window(mask)
    # cv2 walks around pixels anticlockwise, hence clockwise on the transposed mask. Doubling the mask makes each pixel
    # four, so that the walk visits every corner of a pixel separately.
    columns = np.ascontiguousarray(part.T, dtype=np.uint8)
    doubled = cv2.resize(columns, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = [_edges(contour[:, 0, ::-1], corner) for contour in contours]
    # Areas are multiples of 1/16; ties go to the outline with the lowest top, then the rightmost.
    return max(outlines, key=lambda outline: (round(16 * signed_area(outline)), *outline.min(axis=0)[::-1]))


def _edges(contour: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Turn a clockwise contour of the doubled mask, int [K, 2], into corners along pixel edges, float64 [L, 2], pixels.

    contour // 2 is a pixel, and contour % 2 its corner nearest to the edge. A right turn gives this corner. A diagonal
    step is a left turn at an inner corner, which is cut off and gives two points. corner: offset added to all points.
    """
    steps = np.roll(contour, -1, axis=0) - contour
    diagonal = steps.all(axis=1)
    turns = (steps != np.roll(steps, 1, axis=0)).any(axis=1) & ~np.roll(diagonal, 1)
    steps[~diagonal] = 0
    arriving = steps @ np.array([[1, 1], [-1, 1]]) // 2  # the diagonal step rotated clockwise by 45 degrees
    ends = np.stack([-_CUT * arriving, _CUT * (steps - arriving)], axis=1)  # ends of the cut from the corner, [K, 2, 2]
    points = (contour % 2)[:, None] + ends + (contour // 2 + corner)[:, None]
    return points[np.stack([turns, diagonal], axis=1)]


def from_above(points: np.ndarray) -> np.ndarray:
    """Let a closed contour [N, 2], clockwise as seen, start at its topmost point above the middle of its bounding box.

    That point is inserted if the contour lacks it. The paper does not say where a sequence starts. If it started at the
    topmost corner, it would jump to another corner as an object turns, and every point with it.
    """
    x, y = points.T
    next_x, next_y = np.roll(points, -1, axis=0).T
    middle = (x.min() + x.max()) / 2
    crossing = np.flatnonzero((x <= middle) & (middle <= next_x) & (x < next_x))  # the upper side runs to the right
    share = (middle - x[crossing]) / (next_x[crossing] - x[crossing])
    heights = y[crossing] + share * (next_y[crossing] - y[crossing])
    start = np.array([middle, heights.min()])
    others = np.roll(points, -crossing[heights.argmin()] - 1, axis=0)
    return np.vstack([start, others[(others != start).any(axis=1)]])


def signed_area(points: np.ndarray) -> float:
    """Return the area of a closed polygon [N, 2] in square pixels; positive if clockwise as seen (y down)."""
    x, y = points.T
    return 0.5 * float(x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1])


def resample(points: np.ndarray, number: int) -> np.ndarray:
    """Space points evenly along a closed polyline [K, 2], starting at its first point: float64 [number, 2].

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
    """Take `number` points from the contour of a mask, bool [height, width], with `trace` or `trace_released`."""
    return trace(mask, number) if sampling == "uniform" else trace_released(mask, number)


def trace(mask: np.ndarray, number: int) -> np.ndarray:
    """Space points evenly along `largest_outline` (paper sec. 3), `from_above`: float64 [number, 2], x, y in pixels."""
    return resample(from_above(largest_outline(mask)), number)


def trace_released(mask: np.ndarray, number: int) -> np.ndarray:
    """Sample as the released code does: take every ceil(L / number)-th of the largest contour's L pixels.

    mask: bool [height, width], not empty. Returns float64 [number, 2], whole pixels, anticlockwise as seen. Often there
    are fewer points than `number`; the other rows are NaN. All are NaN if the contour encloses no area.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea)
    points = np.full((number, 2), np.nan)
    if cv2.contourArea(largest) > 0:
        chosen = largest[:: -(-len(largest) // number), 0]
        points[: len(chosen)] = chosen
    return points


def cut(outline: np.ndarray, height: int, width: int) -> np.ndarray | None:
    """Clip a closed polyline [K, 2] to a window of height x width at the origin and return the largest part.

    Returns float64 [L, 2] in pixels, clockwise, `from_above`; None if nothing is left.
    """
    inside = make_valid(Polygon(outline)).intersection(box(0, 0, width, height))
    parts = get_parts(get_parts(inside))  # a collection may contain a multipolygon
    largest = max(parts, key=lambda part: part.area, default=None)
    if largest is None or largest.area == 0:
        return None
    points = np.asarray(largest.exterior.coords)[:-1]
    return from_above(points if signed_area(points) > 0 else points[::-1])
