"""Measure how well a mask agrees with a box, comparing their projections to the two axes (paper eq. 8)."""

import numpy as np


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the dice coefficient of two bool arrays of equal shape: 0 to 1, and 1 if both are all false."""
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else 1.0


def projection_dice_loss(mask: np.ndarray, box: np.ndarray, rounding: str = "round") -> float:
    """Compute the projection dice loss D between a mask and a box (paper eq. 8).

    D = (1 - dice(mask_x, box_x)) + (1 - dice(mask_y, box_y)), from 0 (equal) to 2 (disjoint).

    mask: bool [height, width]. box: x, y, width, height in pixels; only its part in the image counts. rounding: "round"
    takes the pixels whose centres lie in the box (at least one); "truncate" truncates each of its four numbers to an
    integer, as the released code does.
    Raises ValueError if the box has no area inside the image.
    """
    loss = 2.0
    for axis, extent in enumerate(mask.shape[::-1]):  # x, then y
        start, length, pixels = float(box[axis]), float(box[axis + 2]), np.arange(extent)
        if rounding == "truncate":
            inside = (pixels >= int(start)) & (pixels < int(start) + int(length))
        else:
            low, high = max(start, 0), min(start + length, extent)
            inside = (pixels >= round(low)) & (pixels < round(high))
            if low < high and not inside.any():  # thinner than a pixel: no centre lies inside
                inside[min(int((low + high) / 2), extent - 1)] = True
        if not inside.any():
            height, width = mask.shape
            raise ValueError(f"box {np.asarray(box).tolist()} has no area inside the {width} x {height} image")
        loss -= dice(np.asarray(mask.any(axis=axis)), inside)
    return loss
