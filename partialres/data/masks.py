"""Encode every form of a COCO segmentation as one compressed RLE, checked before pycocotools' C code sees it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco

from partialres.geometry.rle import Rle, run_lengths


class Segmentation(NamedTuple):
    """The mask of an annotation.

    counts: COCO compressed RLE of the whole mask; None if there is no mask. parts: the polygons [x, y, x, y, ...] in
    pixels as given; None without a mask, empty if it was given as an RLE. faults: (key of refer.PROBLEMS, detail).
    """

    counts: str | None
    parts: list[list[float]] | None
    faults: list[tuple[str, str]]


def encode_segmentation(segmentation: Any, height: int, width: int) -> Segmentation:
    """Check and encode a segmentation as COCO files hold it, for an image of this size.

    segmentation: a list of polygons, or one RLE or a list of them, each compressed or plain runs. None or an empty list
    means that there is no mask, which is no fault. Broken parts are left out and named in `faults`.
    """
    if segmentation is None or segmentation == []:
        return Segmentation(None, None, [])
    parts: list[list[float]] = []
    rles: list[Rle] = []
    faults: list[tuple[str, str]] = []
    for number, part in enumerate(segmentation if isinstance(segmentation, list) else [segmentation]):
        is_rle = isinstance(part, dict)
        try:
            if is_rle:
                rles.append(_rle(part, height, width))
            else:
                parts.append(_polygon(part, height, width))
        except (TypeError, ValueError, KeyError) as error:
            kind = "broken run-length mask" if is_rle else "broken polygon"
            faults.append((kind, f"part {number}: {error}"))
    if parts:
        rles.extend(coco.frPyObjects(parts, height, width))
    if not rles:
        return Segmentation(None, None, faults)
    whole = rles[0] if len(rles) == 1 else coco.merge(rles)
    if coco.area(whole) == 0:
        return Segmentation(None, None, [*faults, ("mask without pixels", f"in {width} x {height}")])
    return Segmentation(whole["counts"].decode("ascii"), parts, faults)


def _polygon(part: Any, height: int, width: int) -> list[float]:
    """Check a polygon and return it as plain floats. Raises ValueError or TypeError that says what is wrong."""
    flat = np.asarray(part, dtype=np.float64)
    if flat.ndim != 1:
        raise ValueError("not a list of numbers x, y, x, y, ...")
    if len(flat) % 2:
        raise ValueError(f"an odd length, {len(flat)}")
    if len(flat) < 6:
        raise ValueError(f"fewer than 3 points, {len(flat) // 2}")
    if not np.isfinite(flat).all():
        raise ValueError("not every coordinate is a finite number")
    points, size = flat.reshape(-1, 2), np.array([width, height])
    low, high = points.min(axis=0), points.max(axis=0)
    if (high <= 0).any() or (low >= size).any():
        raise ValueError("wholly outside the image")
    if (low < -size).any() or (high > 2 * size).any():  # pycocotools walks along every pixel of an edge
        raise ValueError("reaches more than an image's size outside")
    if _is_a_line(points - low):
        raise ValueError("zero area")
    return flat.tolist()


def _is_a_line(points: np.ndarray) -> bool:
    """Tell whether points [N, 2] >= 0 lie on one line. (A figure of eight has no signed area, but covers pixels.)"""
    tiny = 1e-9 * (1 + points.max(axis=0).sum()) ** 2
    x, y = (points - points[0]).T
    farthest = np.argmax(x * x + y * y)
    return bool(np.all(np.abs(x * y[farthest] - y * x[farthest]) <= tiny))


def _rle(part: dict[str, Any], height: int, width: int) -> Rle:
    """Check an RLE and compress plain runs. Raises ValueError, TypeError or KeyError that says what is wrong."""
    counts, size = part["counts"], part.get("size", [height, width])
    if list(size) != [height, width]:
        raise ValueError(f"its size {size} is not the image's height and width {[height, width]}")
    counts = counts.encode("ascii") if isinstance(counts, str) else counts
    runs = run_lengths(counts) if isinstance(counts, bytes) else np.asarray(counts)
    if runs.ndim != 1 or runs.dtype.kind not in "iu":
        raise ValueError("counts are neither whole numbers nor text")
    if len(runs) == 0 or runs.min() < 0 or runs.sum() != height * width:
        raise ValueError(f"runs of {runs.sum()} pixels in all, an image of {height * width}")
    if isinstance(counts, bytes):
        return {"size": [height, width], "counts": counts}
    return coco.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
