"""Batch images, as pixels or cached features, whole or through windows, with the words of expressions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from partialres.data.batch import Batch
from partialres.data.images import Image, ImageCache
from partialres.data.views import Window, whole
from partialres.files import DataError, read_json

FEATURES = "features.npy"  # float16 [images, fusion, F, F], in the image cache's order; 0 in the padding
FEATURES_INFO = "features.json"
Cells = tuple[int, int]  # rows, columns of positions of the features


class Inputs:
    """Gives every image as cached pixels or, if features are given, as cached output of the frozen visual part.

    Each image lies at the top left of a square frame of `size` pixels, as long as its longer side; the rest is black.
    A batch leaves out the rows and columns of positions that are padding of all its images.
    """

    def __init__(self, images: Path, stride: int, features: Path | None = None, whole_frames: bool = False) -> None:
        """images: folder of the image cache. stride: the model's, pixels. features: folder of `cache-features`.

        whole_frames: leave out no padding (`UpstreamConfig.whole_frames`).
        """
        self.cache = ImageCache(images)
        self.size, self.stride, self.whole_frames = self.cache.size, stride, whole_frames
        if self.size % stride:
            raise DataError(f"{images}: the image size {self.size} is not a multiple of the backbone's stride {stride}")
        self.features, self.visual_digest = None, None
        if features:
            try:
                self.features = np.load(features / FEATURES, mmap_mode="r")
                self.visual_digest = read_json(features / FEATURES_INFO)["visual"]
                fits = self.features.shape[::2] == (len(self.cache), self.size // stride)
            except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
                raise DataError(
                    f"{features}: no complete cache of features ({error}); run cache-features again"
                ) from error
            if not fits:
                raise DataError(f"{features}: made from other images or another size; run cache-features again")

    def rows(self, image_ids: Sequence[int]) -> np.ndarray:
        """Return the cache rows int64 [n] of these image ids; raises DataError for an image not in the cache."""
        try:
            return np.array([self.cache.rows[int(image)] for image in image_ids], dtype=np.int64)
        except KeyError as error:
            raise DataError(f"image {error} is not in the image cache; run cache-images on these refs again") from None

    def window(self, row: int) -> Window:
        """Return the window that shows the whole image of a cache row."""
        height, width = self.cache.shape[row].tolist()
        return whole(self.cache.original(row), (height, width), self.size)

    def cells(self, windows: Sequence[Window], least: Cells = (1, 1)) -> Cells:
        """Return the rows and columns of positions, at least `least`, that a batch of windows keeps."""
        return kept_cells(windows, self.stride, self.whole_frames, least)

    def batch(self, rows: np.ndarray, words: np.ndarray, least: Cells = (1, 1)) -> Batch:
        """Batch B expressions, with words int64 [B, L], and the whole images of their cache rows [B].

        least: rows and columns to keep, for a part of a larger batch.
        """
        distinct, index = np.unique(rows, return_inverse=True)  # each image is in the batch once
        windows = [self.window(row) for row in distinct.tolist()]
        if self.features is None:
            return self.view_batch(distinct, windows, words, index, least)
        kept = self.cells(windows, least)
        features = self.features[distinct, :, : kept[0], : kept[1]]
        return batch_of(features, kept, windows, index, words, self.stride)

    def view_batch(
        self, rows: np.ndarray, windows: Sequence[Window], words: np.ndarray, index: np.ndarray, least: Cells = (1, 1)
    ) -> Batch:
        """Batch B expressions with I windows of the images in cache rows [I]. index: int64 [B], their windows."""
        kept = self.cells(windows, least)
        return batch_of(self.frames(rows, windows, kept), kept, windows, index, words, self.stride)

    def frames(self, rows: np.ndarray, windows: Sequence[Window], cells: Cells | None = None) -> np.ndarray:
        """Return what windows show of the images in cache rows [I]: uint8 [I, height, width, 3], black outside.

        cells: the rows and columns of positions to show; None: all of the frame.
        """
        height, width = (self.stride * each for each in cells) if cells else (self.size, self.size)
        return frames([self.cache.image(row) for row in rows.tolist()], windows, height, width)


def kept_cells(windows: Sequence[Window], stride: int, whole_frames: bool, least: Cells = (1, 1)) -> Cells:
    """Return the rows and columns of positions that a batch of windows keeps; see `Inputs`."""
    if whole_frames:
        return windows[0].size // stride, windows[0].size // stride
    rows, columns = zip(least, *(window.cells(stride) for window in windows), strict=True)
    return max(rows), max(columns)


def frames(images: Sequence[Image], windows: Sequence[Window], height: int, width: int) -> np.ndarray:
    """Return what windows show of I resized images: uint8 [I, height, width, 3], black outside."""
    shown = np.zeros((len(images), height, width, 3), dtype=np.uint8)
    for frame, image, window in zip(shown, images, windows, strict=True):
        seen = window.image(image)
        frame[: seen.shape[0], : seen.shape[1]] = seen
    return shown


def valid_positions(windows: Sequence[Window], stride: int) -> np.ndarray:
    """Tell which positions of the frame, `stride` pixels each, show something of I images: bool [I, F, F]."""
    cells = windows[0].size // stride
    valid = np.zeros((len(windows), cells, cells), dtype=bool)
    for each, window in zip(valid, windows, strict=True):
        down, across = window.cells(stride)
        each[:down, :across] = True
    return valid


def batch_of(
    images: np.ndarray, kept: Cells, windows: Sequence[Window], index: np.ndarray, words: np.ndarray, stride: int
) -> Batch:
    """Batch expressions, their words int64 [B, L], about I images or their features; index: int64 [B], which of them.

    kept: the rows and columns of positions that are there. windows: what the I images show. stride: side, in pixels of
    the frame, of a position of the features.
    """
    valid = valid_positions(windows, stride)
    words = words[:, : max(1, int((words != 0).sum(1).max()))]
    return Batch(
        torch.from_numpy(images), torch.from_numpy(valid), torch.from_numpy(index), torch.from_numpy(words),
        padded=not valid[:, : kept[0], : kept[1]].all(),
    )  # fmt: skip
