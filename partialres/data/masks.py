"""Every form of a COCO segmentation -> one compressed RLE, checked before pycocotools' C code sees it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from partialres.geometry.runs import run_lengths


class Segmentation(NamedTuple):
    """An annotation's mask.

    counts: COCO compressed RLE of the whole mask, None without one. parts: its polygons [x, y, x, y, ...] in
    pixels as given, None without a mask, empty if the mask was given as runs. faults: (kind of
    refer.PROBLEMS, what is wrong).
    """

    counts: str | None
    parts: list[list[float]] | None
    faults: list[tuple[str, str]]


def encode_segmentation(segmentation: Any, height: int, width: int) -> Segmentation:
    """A segmentation as COCO files have it, of an image of that size, encoded.

    segmentation: a list of polygons, or one RLE or a list of them, each compressed or plain runs. None or an
    empty list is an absent mask, which is no fault. Broken parts are left out and named in `faults`.
    """
    if segmentation is None or segmentation == []:
        return Segmentation(None, None, [])
    given = segmentation if isinstance(segmentation, list) else [segmentation]
    parts: list[list[float]] = []
    rles: list[dict[str, Any]] = []
    faults: list[tuple[str, str]] = []
    for number, part in enumerate(given):
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
    """A polygon as plain floats. Raises ValueError or TypeError that says what is wrong with it."""
    flat = np.asarray(part, dtype=np.float64)
    if flat.ndim != 1:
        raise ValueError("not a list of numbers x, y, x, y, ...")
    if len(flat) % 2:
        raise ValueError(f"an odd length, {len(flat)}")
    if len(flat) < 6:
        raise ValueError(f"fewer than 3 points, {len(flat) // 2}")
    if not np.isfinite(flat).all():
        raise ValueError("not every coordinate is a finite number")
    x, y = flat[0::2], flat[1::2]
    left, right, top, bottom = x.min(), x.max(), y.min(), y.max()
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise ValueError("wholly outside the image")
    if left < -width or right > 2 * width or top < -height or bottom > 2 * height:
        # pycocotools walks every pixel of an edge, in the image or not
        raise ValueError("reaches more than an image's size outside")
    if _is_a_line(x - left, y - top):
        raise ValueError("zero area")
    return [float(value) for value in flat.tolist()]


def _is_a_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Whether all points lie on one line. (A figure of eight has no signed area and still covers pixels.)"""
    tiny = 1e-9 * (1 + x.max() + y.max()) ** 2
    doubled_area = x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1]
    if abs(doubled_area) > tiny:
        return False
    x, y = x - x[0], y - y[0]
    far = np.argmax(x * x + y * y)
    return bool(np.all(np.abs(x * y[far] - y * x[far]) <= tiny))


def _rle(part: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """A COCO compressed RLE. Raises ValueError, TypeError or KeyError that says what is wrong."""
    counts, size = part["counts"], part.get("size", [height, width])
    if list(size) != [height, width]:
        raise ValueError(f"its size {size} is not the image's height and width {[height, width]}")
    if isinstance(counts, (str, bytes)):
        text = counts.encode("ascii") if isinstance(counts, str) else counts
        runs = run_lengths(text)
    else:
        runs = np.asarray(counts)
        if runs.ndim != 1 or runs.dtype.kind not in "iu":
            raise ValueError("counts are neither whole numbers nor text")
    if len(runs) == 0 or runs.min() < 0 or runs.sum() != height * width:
        raise ValueError(f"runs of {runs.sum()} pixels in all, an image of {height * width}")
    if isinstance(counts, (str, bytes)):
        return {"size": [height, width], "counts": text}
    rle: dict[str, Any] = coco.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return rle
