"""Measure how well a mask agrees with a box by their projections to the two axes (paper eq. 8)."""

from __future__ import annotations

import numpy as np


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the dice coefficient of two bool arrays of one shape: 0 to 1, and 1 if both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else 1.0


def projection_dice_loss(mask: np.ndarray, box: np.ndarray, rounding: str = "round") -> float:
    """Compare the projections of a mask with those of a box (paper eq. 8).

    D = (1 - dice(mask_x, box_x)) + (1 - dice(mask_y, box_y)), from 0 (equal) to 2 (disjoint).

    mask: bool [height, width]. box: x, y, width, height in pixels, cut to the image. rounding: "round" takes the pixels
    whose centres lie in the box (at least one); "truncate" cuts each of its four numbers to an integer, as the released
    code does.
    Raises ValueError if the box has no area inside the image.
    """
    loss = 2.0
    for axis, extent in enumerate(mask.shape[::-1]):  # x, then y
        first, last = _covered(float(box[axis]), float(box[axis + 2]), extent, rounding)
        if first >= last:
            height, width = mask.shape
            raise ValueError(f"box {np.asarray(box).tolist()} has no area inside the {width} x {height} image")
        inside = np.zeros(extent, dtype=bool)
        inside[first:last] = True
        loss -= dice(np.asarray(mask.any(axis=axis)), inside)
    return loss


def _covered(start: float, length: float, extent: int, rounding: str) -> tuple[int, int]:
    """Return the first pixel that a side of a box covers on an axis of `extent` pixels, and the one after its last."""
    if rounding == "truncate":
        first, last = int(start), int(start) + int(length)
    else:
        low, high = max(start, 0), min(start + length, extent)
        first, last = round(low), round(high)
        if first == last and low < high:  # thinner than a pixel: no centre lies inside, so take the pixel around it
            first = min(int((low + high) / 2), extent - 1)
            last = first + 1
    return min(max(first, 0), extent), min(max(last, 0), extent)
