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

from partialres.geometry.runs import Rle

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
    if np.isnan(points).any():
        points = points[~np.isnan(points).any(axis=1)]
    if len(points) < 3:
        return coco.encode(np.zeros((height, width), dtype=np.uint8, order="F"))
    return coco.frPyObjects([points.reshape(-1).tolist()], height, width)[0]


def fill(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """The polygon through points [N, 2] (pixels; see polygon_rle), filled: bool [height, width]."""
    return coco.decode(polygon_rle(points, height, width)).astype(bool)


def largest_outline(mask: np.ndarray) -> np.ndarray:
    """The outer contour of the largest part of a mask (paper sec. 3), along pixel edges.

    mask: bool [height, width]. Pixels that touch at a corner are of one part; every inner corner is cut off, so that
    they do not part there. Returns float64 [K, 2], x and y in pixels, clockwise as seen (y down), starting at the
    topmost and of those the leftmost corner. Of parts of one size it is the lowest, by these corners.
    Raises ValueError if the mask is empty.
    """
    # Columns lie together in memory, as in run lengths: cv2 is shown the transposed mask, whose contours, to it
    # anticlockwise, are in the image clockwise.
    columns = np.ascontiguousarray(mask.T, dtype=np.uint8)
    contours, _ = cv2.findContours(columns, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = [_from_top(_edges(np.ascontiguousarray(contour[:, 0, ::-1]))) for contour in contours]
    if not outlines:
        raise ValueError("the mask is empty")
    if len(outlines) == 1:
        return outlines[0]
    # Areas are multiples of 1/16.
    return max(outlines, key=lambda outline: (round(16 * signed_area(outline)), *outline[0, ::-1]))


# The eight steps from a pixel to a neighbour, clockwise as seen, x before y; those with odd numbers are diagonal.
_STEPS = np.array([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]])
_INNER = np.sqrt(2) / 4  # pixels from an inner corner to where it is cut off


def _corners(arrived: int, leaving: int) -> list[np.ndarray]:
    """The corners of a clockwise outline at a pixel, in pixels from the pixel's own, by the steps (of `_STEPS`) with
    which the contour comes to it and leaves it.

    The outline runs along the pixels' edges. At a pixel it turns right, at each of its outer corners; in the middle of
    a diagonal step left, at the corner that both pixels share.
    """
    before, after = arrived - arrived % 2, leaving + leaving % 2  # which way the outline runs
    outer = [before - 1 + 2 * turn for turn in range((after - before) % 8 // 2)]
    found = [np.maximum(_STEPS[corner % 8], 0.0) for corner in outer]
    if leaving % 2:
        inner = np.maximum(_STEPS[leaving], 0.0)
        found += [inner - _INNER * _STEPS[after % 8], inner + _INNER * _STEPS[leaving - 1]]
    return found


def _corner_table() -> tuple[np.ndarray, np.ndarray]:
    """`_corners` of every two steps, float64 [M, 2], at 9 x (step come by) + (step left by), and how many, int [81].

    Here a step is numbered 3 dy + dx + 4, so that 4, none, is that of a pixel alone, which has its four corners.
    """
    table: list[list[np.ndarray]] = [[] for _ in range(81)]
    numbers = (_STEPS @ (1, 3) + 4).tolist()
    for arrived, come in enumerate(numbers):
        for leaving, left in enumerate(numbers):
            table[9 * come + left] = _corners(arrived, leaving)
    table[9 * 4 + 4] = [np.maximum(step, 0.0) for step in _STEPS[1::2]]
    return np.array([corner for found in table for corner in found]), np.array([len(found) for found in table])


_CORNERS, _NUMBER = _corner_table()
_START = np.cumsum(_NUMBER) - _NUMBER


def _edges(contour: np.ndarray) -> np.ndarray:
    """The corners of the pixel edges around a contour of adjacent pixels, int [K, 2] clockwise: float64 [L, 2]."""
    places = contour[:, 0] + 3 * contour[:, 1]
    places = np.concatenate([places[-1:], places, places[:1]])
    steps = places[1:] - places[:-1] + 4
    turns = 9 * steps[:-1] + steps[1:]
    number = _NUMBER.take(turns)
    ends = np.cumsum(number)
    corners = np.arange(ends[-1]) + np.repeat(_START.take(turns) - ends + number, number)
    return _CORNERS.take(corners, axis=0) + np.repeat(contour, number, axis=0)


def _from_top(points: np.ndarray) -> np.ndarray:
    """The same closed contour, starting at its topmost, of those its leftmost, point."""
    x, y = points.T
    top = np.flatnonzero(y == y.min())
    start = int(top[x[top].argmin()])
    return np.concatenate([points[start:], points[:start]])


def signed_area(points: np.ndarray) -> float:
    """Area of a closed polygon [N, 2] in square pixels; positive if clockwise as seen (y down)."""
    x, y = points.T
    return 0.5 * float(x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1])


def resample(points: np.ndarray, number: int) -> np.ndarray:
    """`number` points evenly spaced along a closed polyline [K, 2], the first being its first: float64 [number, 2].

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
    points = np.asarray(largest.exterior.coords)[:-1]
    return _from_top(points if signed_area(points) > 0 else points[::-1])
