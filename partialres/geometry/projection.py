"""How well a pseudo mask agrees with a known box, seen in their shadows on the two axes (paper eq. 8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from partialres.geometry.runs import Rle, shadows


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
    losses = 2.0
    for axis in (0, 1):
        shadow = np.asarray(mask.astype(bool).any(axis=axis))
        (first,), (last,) = _box_intervals(np.asarray(box)[None], np.array([mask.shape[::-1]]), axis, rounding)
        covered = np.zeros(len(shadow), dtype=bool)
        covered[first:last] = True
        losses -= dice(shadow, covered)
    return losses


def runs_dice_losses(rles: Sequence[Rle], boxes: np.ndarray, rounding: str = "round") -> np.ndarray:
    """`projection_dice_loss` of masks in COCO run lengths, none unpacked: float64 [n].

    boxes: [n, 4], one a mask. Raises ValueError if one has no area inside its image, or for counts that are no RLE.
    """
    sizes = np.array([rle["size"][::-1] for rle in rles], dtype=np.int64).reshape(-1, 2)  # widths and heights
    losses = np.full(len(rles), 2.0)
    for axis, shadow in enumerate(shadows(rles)):
        first, last = _box_intervals(boxes, sizes, axis, rounding)
        ends = np.cumsum(sizes[:, axis])
        starts = ends - sizes[:, axis]
        before = np.concatenate([[0], np.cumsum(shadow)])
        covered, shared = before[ends] - before[starts], before[starts + last] - before[starts + first]
        losses -= 2.0 * shared / (covered + last - first)
    return losses


def _box_intervals(boxes: np.ndarray, sizes: np.ndarray, axis: int, rounding: str) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of an axis (0 is x) that boxes [n, 4] cover: the first and one past the last, int64 [n].

    sizes: width and height of their images, [n, 2]. See projection_dice_loss for rounding and errors.
    """
    low, length, extent = boxes[:, axis], boxes[:, axis + 2], sizes[:, axis]
    high = low + length
    if rounding == "round":
        first, last = (np.clip(np.rint(end), 0, extent).astype(np.int64) for end in (low, high))
        start, end = np.maximum(low, 0), np.minimum(high, extent)
        thin = (first == last) & (start < end)  # it has no pixel's centre: the pixel it lies in
        first = np.where(thin, np.minimum(((start + end) / 2).astype(np.int64), extent - 1), first)
        last = np.where(thin, first + 1, last)
    else:
        ends = np.trunc(low), np.trunc(low) + np.trunc(length)
        first, last = (np.clip(end, 0, extent).astype(np.int64) for end in ends)
    outside = np.flatnonzero(first >= last)
    if len(outside):
        width, height = sizes[outside[0]].tolist()
        raise ValueError(f"box {boxes[outside[0]].tolist()} has no area inside the {width} x {height} image")
    return first, last
