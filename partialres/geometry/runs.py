"""Masks as COCO run lengths, many at a time, read without being unpacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rle = dict  # {"size": [height, width], "counts": bytes}


@dataclass(frozen=True)
class Spans:
    """The runs of set pixels of n masks, K in all, mask by mask: each goes down a column and on at the next one's top.

    heights, widths: of the masks, int64 [n]. owner: whose they are, int64 [K], in order.
    first_column, first_row, last_column, last_row: the pixels they begin and end with, int64 [K].
    """

    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    owner: NDArray[np.int64]
    first_column: NDArray[np.int64]
    first_row: NDArray[np.int64]
    last_column: NDArray[np.int64]
    last_row: NDArray[np.int64]


def spans(rles: Sequence[Rle]) -> Spans:
    """Where the set pixels of masks are. Raises ValueError for counts that are no RLE of the mask's size."""
    heights, widths = np.array([rle["size"] for rle in rles], dtype=np.int64).reshape(-1, 2).T
    runs, counts = paired_runs([rle["counts"] for rle in rles])
    pairs = (counts + 1) // 2
    last = np.cumsum(pairs)  # one past each mask's last pair
    ends = np.concatenate([[0], np.cumsum(runs)])  # in the pixels of all masks, one after another
    before = ends[2 * (last - pairs)]
    if (ends[2 * last] - before != heights * widths).any() or (runs < 0).any():
        raise ValueError("counts are not of a mask of this size")
    owner = np.repeat(np.arange(len(rles)), pairs)
    kept = ends[2::2] > ends[1::2]
    owner, starts, stops = owner[kept], ends[1::2][kept], ends[2::2][kept]
    starts, stops, tall = starts - before[owner], stops - before[owner], heights[owner]
    return Spans(heights, widths, owner, *np.divmod(starts, tall), *np.divmod(stops - 1, tall))


def run_lengths(counts: bytes) -> NDArray[np.int64]:
    """The runs of one COCO compressed RLE, background first, int64 [K]: see `paired_runs`."""
    runs, numbers = paired_runs([counts])
    return runs[: numbers[0]]


def paired_runs(texts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The runs of COCO compressed RLEs, in pairs, int64 [2 P], and how many runs each text has, int64 [n].

    A pair is a run of background and one of the mask; where a text ends with background, 0 is put after it. What
    pycocotools reads, but checked: a character less 48 is five bits of a number, low ones first, and a sixth that says
    whether more follow; the last one's highest bit is the sign. From the fourth number on they are differences to the
    number two before.
    Raises ValueError for text that is no RLE.
    """
    codes = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.int64) - 48
    closing = np.cumsum([len(text) for text in texts], dtype=np.int64) - 1  # the last character of each text
    ends = np.flatnonzero((codes & 32) == 0)
    numbers = np.searchsorted(ends, closing, side="right")  # up to the end of each text
    if not all(texts) or (codes < 0).any() or (codes > 63).any() or (codes[closing] & 32).any():
        raise ValueError("counts are not COCO's compressed text")
    if not len(codes):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:
        raise ValueError("counts have a number beyond any image")
    shift = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shift, starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)

    counts = np.diff(numbers, prepend=0)
    pairs = (counts + 1) // 2
    last = np.cumsum(pairs)
    first = last - pairs
    runs = np.zeros((int(last[-1]), 2), dtype=np.int64)  # odd counts leave the last of their second column at 0
    runs.reshape(-1)[np.arange(len(values)) + np.repeat(2 * first - numbers + counts, counts)] = values
    opening = runs[first]
    opening[:, 1] = 0  # the very first run of a mask is no part of the sums, the second is
    sums = np.cumsum(runs, axis=0)
    sums -= np.repeat(sums[first] - runs[first] + opening, pairs, axis=0)
    sums[first, 0] = opening[:, 0]
    sums[last[counts % 2 == 1] - 1, 1] = 0
    return sums.reshape(-1), counts


def shadows(rles: Sequence[Rle]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which columns and which rows masks cover, one mask after another: bool [sum of widths], bool [sum of heights].

    Of each mask equal to mask.any(axis=0) and mask.any(axis=1). Raises ValueError for counts that are no RLE.
    """
    found = spans(rles)
    left = (np.cumsum(found.widths) - found.widths)[found.owner]
    top = (np.cumsum(found.heights) - found.heights)[found.owner]
    columns = _covered(left + found.first_column, left + found.last_column + 1, int(found.widths.sum()))
    on = found.last_column > found.first_column  # spans that go on at the top of the next column
    bottom = top + found.heights[found.owner]
    end = top + found.last_row + 1
    over = np.where(found.last_column > found.first_column + 1, bottom, end)[on]  # and those that pass a whole column
    rows_from = np.concatenate([top + found.first_row, top[on]])
    rows_to = np.concatenate([np.where(on, bottom, end), over])
    return columns, _covered(rows_from, rows_to, int(found.heights.sum()))


def unpack_windows(rles: Sequence[Rle]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """The pixels of each mask in its bounding box, bool [h, w], and the box's corner in the image, int64 [2] (x, y).

    Columns lie together in memory, as in run lengths. Of an empty mask a pixel that is not set. Raises ValueError for
    counts that are no RLE.
    """
    found = spans(rles)
    owner, number = found.owner, np.bincount(found.owner, minlength=len(rles))
    on = found.last_column > found.first_column  # such a span has pixels in the image's bottom and top rows
    left, top = np.where(number, found.widths, 0), np.where(number, found.heights, 0)
    right, bottom = np.where(number, 0, 1), np.where(number, 0, 1)
    np.minimum.at(left, owner, found.first_column)
    np.maximum.at(right, owner, found.last_column + 1)
    np.minimum.at(top, owner, np.where(on, 0, found.first_row))
    np.maximum.at(bottom, owner, np.where(on, found.heights[owner], found.last_row + 1))

    height = bottom - top
    starts = (found.first_column - left[owner]) * height[owner] + found.first_row - top[owner]
    stops = (found.last_column - left[owner]) * height[owner] + found.last_row - top[owner] + 1
    # Of each window the runs before and of every span, and in a last pair the one after them all.
    runs = np.zeros((len(owner) + len(rles), 2), dtype=np.int64)
    pairs = np.arange(len(owner)) + owner
    runs[pairs, 1] = stops - starts
    runs[pairs, 0] = starts
    runs[pairs[1:], 0] -= np.where(owner[1:] == owner[:-1], stops[:-1], 0)
    ends = np.cumsum(number + 1)
    done = np.zeros(len(rles), dtype=np.int64)
    np.maximum.at(done, owner, stops)
    runs[ends - 1, 0] = height * (right - left) - done
    values = np.tile([False, True], int(number.max(initial=0)) + 1)
    for place, end in enumerate(ends.tolist()):
        lengths = runs[end - number[place] - 1 : end].reshape(-1)
        columns = np.repeat(values[: len(lengths)], lengths).reshape(-1, height[place])
        yield columns.T, np.array([left[place], top[place]])


def _covered(starts: NDArray[np.int64], ends: NDArray[np.int64], extent: int) -> NDArray[np.bool_]:
    """The places of [0, extent) that lie in any of the intervals [start, end): bool [extent]."""
    opened = np.bincount(starts, minlength=extent + 1) - np.bincount(ends, minlength=extent + 1)
    return np.asarray(np.cumsum(opened[:extent]) > 0)
