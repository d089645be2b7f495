"""Masks as COCO run lengths, read without being unpacked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rle = dict  # {"size": [height, width], "counts": bytes}


def run_lengths(counts: bytes) -> NDArray[np.int64]:
    """The runs of a COCO compressed RLE, background first, int64 [K]: what pycocotools reads, but checked.

    A character less 48 is five bits of a number, low ones first, and a sixth that says whether more follow;
    the last one's highest bit is the sign. From the fourth number on they are differences to the number two
    before.
    Raises ValueError for text that is no RLE.
    """
    codes = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if len(codes) == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("counts are not COCO's compressed text")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:
        raise ValueError("counts have a number beyond any image")
    shift = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs: NDArray[np.int64] = np.add.reduceat((codes & 31) << shift, starts)
    runs -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def shadows(rle: Rle) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which columns and which rows of the image a mask covers: bool [width], bool [height].

    Equal to mask.any(axis=0) and mask.any(axis=1). Raises ValueError for counts that are no RLE.
    """
    height, width = rle["size"]
    edges = np.cumsum(run_lengths(rle["counts"]))
    starts, ends = edges[0:-1:2], edges[1::2]  # of the runs that belong to the mask, down the columns
    starts, ends = starts[ends > starts], ends[ends > starts]
    first_column, first_row = np.divmod(starts, height)
    last_column, last_row = np.divmod(ends - 1, height)
    on = first_column < last_column  # runs that go on at the top of the next column
    columns = _covered(first_column, last_column + 1, width)
    if (last_column - first_column > 1).any():
        return columns, np.ones(height, dtype=bool)
    rows_from = np.concatenate([first_row, np.zeros(int(on.sum()), dtype=np.int64)])
    rows_to = np.concatenate([np.where(on, height, last_row + 1), last_row[on] + 1])
    return columns, _covered(rows_from, rows_to, height)


def unpack_window(rle: Rle) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The pixels of a mask in its bounding box, bool [h, w], and the box's corner in the image, int64 [2] (x, y).

    Of an empty mask a pixel that is not set. Raises ValueError for counts that are no RLE.
    """
    height = rle["size"][0]
    columns, rows = (np.flatnonzero(shadow) for shadow in shadows(rle))
    if not len(columns):
        return np.zeros((1, 1), dtype=bool), np.zeros(2, dtype=np.int64)
    first, end = int(columns[0]) * height, (int(columns[-1]) + 1) * height
    edges = np.clip(np.cumsum(run_lengths(rle["counts"])), first, end) - first
    set_or_not = np.arange(len(edges)) % 2 == 1
    whole = np.repeat(set_or_not, np.diff(edges, prepend=0)).reshape(-1, height).T  # whole columns
    return whole[rows[0] : rows[-1] + 1], np.array([columns[0], rows[0]])


def _covered(starts: NDArray[np.int64], ends: NDArray[np.int64], extent: int) -> NDArray[np.bool_]:
    """The places of [0, extent) that lie in any of the intervals [start, end): bool [extent]."""
    opened = np.bincount(starts, minlength=extent + 1) - np.bincount(ends, minlength=extent + 1)
    return np.asarray(np.cumsum(opened[:extent]) > 0)
