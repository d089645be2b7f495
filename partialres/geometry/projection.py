"""How well a pseudo mask agrees with a known box, seen in their shadows on the two axes (paper eq. 8)."""

from __future__ import annotations

import numpy as np

from partialres.geometry.runs import Rle, shadows


def _interval(low: float, length: float, extent: int, rounding: str) -> np.ndarray:
    """The pixels of an axis that [low, low + length) covers: bool [extent]. See projection_dice_loss for rounding."""
    ends = np.rint([low, low + length]) if rounding == "round" else np.cumsum(np.trunc([low, length]))
    first, last = np.clip(ends, 0, extent).astype(int)
    start, end = max(low, 0.0), min(low + length, float(extent))
    if rounding == "round" and first == last and start < end:  # it has no pixel's centre: the pixel it lies in
        first = min(int((start + end) / 2), extent - 1)
        last = first + 1
    shadow = np.zeros(extent, dtype=bool)
    shadow[first:last] = True
    return shadow


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice coefficient of two bool arrays of one shape, in [0, 1]; 1 if both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else 1.0


def projection_dice_loss(mask: np.ndarray, box: np.ndarray, rounding: str = "round") -> float:
    """How far a mask's shadows on the two axes are from its box's (paper eq. 8).

    D = (1 - dice(mask_x, box_x)) + (1 - dice(mask_y, box_y)), from 0 (equal) to 2 (disjoint).

    mask: bool [height, width]. box: x, y, width, height in pixels, cut to the image. rounding: to the box's pixels,
    "round" for those whose centres are inside (at least one), or "truncate" as the released code does to each of the
    four numbers.
    Raises ValueError if the box has no area inside the image.
    """
    covered = mask.astype(bool)
    return _loss(np.asarray(covered.any(axis=0)), np.asarray(covered.any(axis=1)), box, rounding)


def runs_dice_loss(rle: Rle, box: np.ndarray, rounding: str = "round") -> float:
    """`projection_dice_loss` of a mask in COCO run lengths, which is not unpacked."""
    return _loss(*shadows(rle), box, rounding)


def _loss(shadow_x: np.ndarray, shadow_y: np.ndarray, box: np.ndarray, rounding: str) -> float:
    extents = len(shadow_x), len(shadow_y)
    box_x, box_y = (_interval(box[axis], box[axis + 2], extents[axis], rounding) for axis in (0, 1))
    if not box_x.any() or not box_y.any():
        raise ValueError(f"box {list(box)} has no area inside the {extents[0]} x {extents[1]} image")
    return 2.0 - dice(shadow_x, box_x) - dice(shadow_y, box_y)
