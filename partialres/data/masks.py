"""Encode every form of COCO segmentation as one compressed RLE, checking it before pycocotools' C code reads it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as coco

from partialres.files import DataError
from partialres.geometry.rle import Rle, check_runs, run_lengths


def encode_segmentation(
    segmentation: Any, height: int, width: int
) -> tuple[str | None, list[list[float]] | None, list[tuple[str, str]]]:
    """Check and encode the segmentation of a COCO annotation, for an image of this size.

    segmentation: a list of polygons, or one RLE or a list of RLEs, each compressed or as plain runs. None or an empty
    list means that there is no mask, which is not a fault.
    Returns the whole mask as the counts of a COCO compressed RLE, the polygons x, y, x, y, ... in pixels as given
    (empty for an RLE), and the faults as pairs of a key of refer.PROBLEMS and a detail. Broken parts are left out.
    Without a mask, counts and polygons are None.
    """
    polygons: list[list[float]] = []
    rles: list[Rle] = []
    faults: list[tuple[str, str]] = []
    given = [] if segmentation is None else segmentation
    for number, part in enumerate(given if isinstance(given, list) else [given]):
        is_rle = isinstance(part, dict)
        try:
            if is_rle:
                rles.append(_rle(part, height, width))
            else:
                polygons.append(_polygon(part, height, width))
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            faults.append(("broken run-length mask" if is_rle else "broken polygon", f"part {number}: {error}"))
    if polygons:
        rles.extend(coco.frPyObjects(polygons, height, width))
    whole = coco.merge(rles)
    if coco.area(whole) > 0:
        return whole["counts"].decode("ascii"), polygons, faults
    if rles:
        faults.append(("mask without pixels", f"in {width} x {height}"))
    return None, None, faults


def check_masks(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a table with ref_id, height, width and mask, read from a file, once every mask is seen to fill its image.

    Raises DataError that names the file and the ref of a mask that does not.
    """
    masks = table.loc[table["mask"].notna(), ["ref_id", "mask", "height", "width"]]
    for ref_id, counts, height, width in masks.itertuples(index=False, name=None):
        try:
            check_runs(run_lengths(counts.encode()), height, width)
        except ValueError as error:
            raise DataError(f"{path}: ref {ref_id}: broken mask ({error}); prepare the data set again") from None
    return table


def _polygon(part: Any, height: int, width: int) -> list[float]:
    """Check a polygon and return it as a list of floats; raises ValueError or TypeError that says what is wrong."""
    flat = np.asarray(part, dtype=np.float64)
    good = flat.ndim == 1 and len(flat) % 2 == 0 and len(flat) >= 6 and np.isfinite(flat).all()
    if not good or {*map(type, part)} - {int, float}:  # numpy takes text for numbers
        raise ValueError("not the finite numbers x, y, x, y, ... of at least 3 points")
    points, size = flat.reshape(-1, 2), np.array([width, height])
    low, high = points.min(axis=0), points.max(axis=0)
    # pycocotools walks along every pixel of an edge, so a corner far outside would take it extremely long.
    if (high <= 0).any() or (low >= size).any() or (low < -size).any() or (high > 2 * size).any():
        raise ValueError("wholly outside the image, or more than an image's size beyond its edge")
    # A figure of eight has no signed area but covers pixels: only points on one line cover none.
    if np.linalg.matrix_rank(points - points[0], tol=1e-6) < 2:
        raise ValueError("all points on one line")
    return flat.tolist()


def _rle(part: dict[str, Any], height: int, width: int) -> Rle:
    """Check an RLE and compress it if plain; raises ValueError, TypeError or KeyError that says what is wrong."""
    counts, size = part["counts"], part.get("size", [height, width])
    if list(size) != [height, width]:
        raise ValueError(f"its size {size} is not the image's height and width {[height, width]}")
    counts = counts.encode("ascii") if isinstance(counts, str) else counts
    runs = run_lengths(counts) if isinstance(counts, bytes) else np.asarray(counts)
    if runs.ndim != 1 or runs.dtype.kind not in "iu":
        raise ValueError("counts are neither whole numbers nor text")
    check_runs(runs, height, width)
    if isinstance(counts, bytes):
        return {"size": [height, width], "counts": counts}
    return coco.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
