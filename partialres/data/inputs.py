"""The images as a model sees them: pixels or cached features, whole or in part, batched with words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from partialres.data.batch import Batch
from partialres.data.images import ImageCache
from partialres.data.views import Window, whole
from partialres.files import DataError, read_json

FEATURES = "features.npy"  # float16 [images, fusion, H, W], rows in the image cache's order
FEATURES_INFO = "features.json"


class Inputs:
    """Every image as cached pixels, or where they exist as the frozen visual part's features.

    A square frame of `size` pixels holds each image at its top left, as wide or as high as the frame.
    """

    def __init__(self, images: Path, stride: int, features: Path | None = None) -> None:
        """images: folder of the image cache. stride: of the model's features. features: folder of `cache-features`."""
        self.cache = ImageCache(images)
        self.size, self.stride = self.cache.size, stride
        if self.size % stride:
            raise DataError(f"{images}: images of {self.size} pixels do not divide by the backbone's stride {stride}")
        self.features, self.visual_digest = None, None
        if features:
            try:
                self.features = np.load(features / FEATURES, mmap_mode="r")
                self.visual_digest = read_json(features / FEATURES_INFO)["visual"]
                whole = self.features.shape[::2] == (len(self.cache), self.size // stride)
            except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
                raise DataError(
                    f"{features}: no whole cache of features ({error}); run cache-features again"
                ) from error
            if not whole:
                raise DataError(f"{features}: of other images or sizes; run cache-features again")

    def rows(self, image_ids: Sequence[int]) -> np.ndarray:
        """Return the cache rows int64 [n] of image ids; raises DataError for an image that is not in the cache."""
        try:
            return np.array([self.cache.rows[int(image)] for image in image_ids], dtype=np.int64)
        except KeyError as error:
            raise DataError(f"image {error} is not in the image cache; run cache-images on these refs again") from None

    def window(self, row: int) -> Window:
        """Return the window that shows the whole image in a cache row."""
        height, width = self.cache.shape[row].tolist()
        return whole(self.cache.original(row), (height, width), self.size)

    def batch(self, rows: np.ndarray, words: np.ndarray) -> Batch:
        """Batch expressions, their words int64 [B, L], about the whole images in cache rows [B]."""
        distinct, index = np.unique(rows, return_inverse=True)  # each image is in the batch once
        windows = [self.window(row) for row in distinct.tolist()]
        images = self.frames(distinct, windows) if self.features is None else self.features[distinct]
        return self._batch(images, windows, index, words)

    def view_batch(
        self, rows: np.ndarray, windows: Sequence[Window], words: np.ndarray, index: np.ndarray | None = None
    ) -> Batch:
        """Batch B expressions about I windows of the images in cache rows [I]; index [B] tells whose, or they are B."""
        return self._batch(self.frames(rows, windows), windows, np.arange(len(rows)) if index is None else index, words)

    def frames(self, rows: np.ndarray, windows: Sequence[Window]) -> np.ndarray:
        """Return what windows show of the images in cache rows [I]: uint8 [I, size, size, 3], black outside."""
        frames = np.zeros((len(rows), self.size, self.size, 3), dtype=np.uint8)
        for frame, row, window in zip(frames, rows.tolist(), windows, strict=True):
            image = window.image(self.cache.image(row))
            frame[: image.shape[0], : image.shape[1]] = image
        return frames

    def _batch(self, images: np.ndarray, windows: Sequence[Window], index: np.ndarray, words: np.ndarray) -> Batch:
        cells = self.size // self.stride
        valid = np.zeros((len(windows), cells, cells), dtype=bool)
        for inside, window in zip(valid, windows, strict=True):
            height, width = (-(-side // self.stride) for side in window.shape)
            inside[:height, :width] = True
        longest = max(1, int((words != 0).sum(1).max()))
        return Batch(*map(torch.from_numpy, (images, valid, index, words[:, :longest])))
