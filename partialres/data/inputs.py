"""Batch images, as pixels or cached features, whole or through windows, with the words of expressions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from partialres.data.batch import Batch
from partialres.data.images import Image, ImageCache
from partialres.data.views import Window, whole
from partialres.files import DataError, read_json

FEATURES = "features.npy"  # float16 [images, fusion, H, W], in the image cache's order
FEATURES_INFO = "features.json"


class Inputs:
    """Gives every image as cached pixels or, if features are given, as cached output of the frozen visual part.

    Each image lies at the top left of a square frame of `size` pixels, as long as its longer side; the rest is black.
    """

    def __init__(self, images: Path, stride: int, features: Path | None = None) -> None:
        """images: folder of the image cache. stride: the model's, pixels. features: folder of `cache-features`."""
        self.cache = ImageCache(images)
        self.size, self.stride = self.cache.size, stride
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

    def batch(self, rows: np.ndarray, words: np.ndarray) -> Batch:
        """Batch B expressions, with words int64 [B, L], and the whole images of their cache rows [B]."""
        distinct, index = np.unique(rows, return_inverse=True)  # each image is in the batch once
        windows = [self.window(row) for row in distinct.tolist()]
        images = self.frames(distinct, windows) if self.features is None else self.features[distinct]
        return batch_of(images, windows, index, words, self.stride)

    def view_batch(
        self, rows: np.ndarray, windows: Sequence[Window], words: np.ndarray, index: np.ndarray | None = None
    ) -> Batch:
        """Batch B expressions with I windows of the images in cache rows [I]. index [B]: their windows; None: I = B."""
        index = np.arange(len(rows)) if index is None else index
        return batch_of(self.frames(rows, windows), windows, index, words, self.stride)

    def frames(self, rows: np.ndarray, windows: Sequence[Window]) -> np.ndarray:
        """Return what windows show of the images in cache rows [I]: uint8 [I, size, size, 3], black outside."""
        return frames([self.cache.image(row) for row in rows.tolist()], windows)


def frames(images: Sequence[Image], windows: Sequence[Window]) -> np.ndarray:
    """Return what windows show of I resized images, at least one: uint8 [I, size, size, 3], black outside."""
    shown = np.zeros((len(images), windows[0].size, windows[0].size, 3), dtype=np.uint8)
    for frame, image, window in zip(shown, images, windows, strict=True):
        seen = window.image(image)
        frame[: seen.shape[0], : seen.shape[1]] = seen
    return shown


def batch_of(images: np.ndarray, windows: Sequence[Window], index: np.ndarray, words: np.ndarray, stride: int) -> Batch:
    """Batch expressions, their words int64 [B, L], about I frames or their features; index: int64 [B], which of them.

    windows: what the I frames show. stride: side, in pixels of the frame, of a position of the features.
    """
    cells = windows[0].size // stride
    valid = np.zeros((len(windows), cells, cells), dtype=bool)
    for inside, window in zip(valid, windows, strict=True):
        height, width = (-(-side // stride) for side in window.shape)
        inside[:height, :width] = True
    longest = max(1, int((words != 0).sum(1).max()))
    return Batch(*map(torch.from_numpy, (images, valid, index, words[:, :longest])))
