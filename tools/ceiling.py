"""Compute the best IoU that contours of N points can reach on given masks: python -m tools.ceiling SIZE REFS ...

REFS are refs.parquet files of `partialres prepare`; SIZE is the long side, in pixels, of the images that a model sees.
Prints, for both samplings, the mean IoU of each mask with the polygon through its own points, and iou_upstream.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from partialres.evaluation import Prediction, score_masks
from partialres.files import read_table
from partialres.geometry import contour

SAMPLINGS: tuple[contour.Sampling, ...] = ("uniform", "released")


def ceiling(refs: pd.DataFrame, number: int, sampling: contour.Sampling, size: int) -> tuple[float, float, float]:
    """Return mean IoU, mean iou_upstream and the share of contours with fewer than N points, all in per cent."""
    rows = refs[["mask", "height", "width"]].itertuples(index=False, name=None)
    points = [contour.sample(contour.decode(*row), number, sampling) for row in rows]
    predictions = [Prediction(place, "", outline, np.ones(2 * number)) for place, outline in enumerate(points)]
    scores = score_masks(refs, predictions, size, multiple=32)
    short = np.mean([np.isnan(outline).any() for outline in points])
    return 100 * scores["iou"].mean(), 100 * scores["iou_upstream"].mean(), 100 * float(short)


def main(size: int, files: list[Path]) -> None:
    """Print a line for each number of points and sampling."""
    refs = pd.concat([read_table(path) for path in files], ignore_index=True)
    refs = refs[refs["mask"].notna()].reset_index(drop=True)
    several = int((refs["parts"].map(len) > 1).sum())
    print(f"{len(refs)} refs, {several} of them in several parts")
    for number in (12, 18):
        for sampling in SAMPLINGS:
            plain, released, short = ceiling(refs, number, sampling, size)
            print(f"{number} {sampling}: IoU {plain:.2f}, iou_upstream {released:.2f}, too few points {short:.1f} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.ceiling", description=__doc__)
    parser.add_argument("size", type=int)
    parser.add_argument("files", type=Path, nargs="+", metavar="refs")
    arguments = parser.parse_args()
    main(arguments.size, arguments.files)
