"""How well a pseudo mask agrees with a known box, seen in their shadows on the two axes (paper eq. 8)."""

from __future__ import annotations

import numpy as np


def _interval(low: float, length: float, extent: int) -> np.ndarray:
    """The pixels of an axis whose centres lie inside [low, low + length): bool [extent], at least one if length > 0."""
    first = int(np.clip(np.rint(low), 0, extent))
    last = int(np.clip(np.rint(low + length), 0, extent))
    shadow = np.zeros(extent, dtype=bool)
    shadow[first:last] = True
    return shadow


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice coefficient of two bool arrays of one shape, in [0, 1]; 1 if both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else 1.0


def projection_dice_loss(mask: np.ndarray, box: np.ndarray) -> float:
    """How far a mask's shadows on the two axes are from its box's (paper eq. 8).

    D = (1 - dice(mask_x, box_x)) + (1 - dice(mask_y, box_y)), from 0 (equal) to 2 (disjoint).

    mask: bool [height, width]. box: x, y, width, height in pixels, cut to the image.
    Raises ValueError if the box has no area inside the image.
    """
    height, width = mask.shape
    box_x, box_y = _interval(box[0], box[2], width), _interval(box[1], box[3], height)
    if not box_x.any() or not box_y.any():
        raise ValueError(f"box {list(box)} has no area inside the {width} x {height} image")
    mask = mask.astype(bool)
    return 2.0 - dice(mask.any(axis=0), box_x) - dice(mask.any(axis=1), box_y)


