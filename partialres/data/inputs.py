"""The images as a model sees them: pixels or cached features, whole or in part, batched with words and targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from partialres.data.crop import Crop, around, whole
from partialres.data.images import ImageCache
from partialres.data.jitter import View
from partialres.files import DataError, read_json
from partialres.model.pointer import Batch

FEATURES = "features.npy"  # float16 [images, fusion, H, W], rows in the image cache's order
FEATURES_INFO = "features.json"


class Inputs:
    """The model's view of every image: cached pixels, or where they exist the frozen visual part's features.

    A square frame of `size` pixels holds each image at its top left, as wide or as high as the frame.
    """

    def __init__(self, images: Path, stride: int, features: Path | None = None) -> None:
        """images: folder of the image cache. stride: of the model's features. features: folder of `cache-features`."""
        self.cache = ImageCache(images)
        self.size, self.stride = self.cache.size, stride
        if self.size % stride:
            raise DataError(f"{images}: images of {self.size} pixels do not divide by the backbone's stride {stride}")
        self.features = np.load(features / FEATURES, mmap_mode="r") if features else None
        self.visual_digest = read_json(features / FEATURES_INFO)["visual"] if features else None

    def rows(self, image_ids: Sequence[int]) -> np.ndarray:
        """Cache rows int64 [n] of image ids; raises DataError for an image that is not in the cache."""
        try:
            return np.array([self.cache.rows[int(image)] for image in image_ids], dtype=np.int64)
        except KeyError as error:
            raise DataError(f"image {error} is not in the image cache; run cache-images on these refs again") from None

    def scale(self, row: int) -> np.ndarray:
        """Frame pixels an original pixel, [2]: x and y."""
        return np.array(self.cache.scale(row))

    def padded(self, row: int) -> tuple[int, int]:
        """Height and width of the part of the frame that holds any of the image, in whole strides: pixels."""
        return self._in_strides(self.cache.shape[row])

    def _in_strides(self, shape: Sequence[int]) -> tuple[int, int]:
        height, width = (-(-int(side) // self.stride) * self.stride for side in shape)
        return height, width

    def crop(self, row: int, corners: np.ndarray | None = None, rng: np.random.Generator | None = None) -> Crop:
        """The whole image in a cache row, or the surroundings of a box in it.

        corners: of the box, [2, 2] in pixels of the original image. rng: draws the surroundings (`crop.around`).
        """
        height, width = (int(side) for side in self.cache.shape[row])
        scale = self.cache.scale(row)
        if corners is None:
            return whole((height, width), self.size, scale)
        return around(corners, (height, width), self.size, scale, rng)

    def extent(self, row: int, span: str, view: View | Crop | None = None) -> np.ndarray:
        """Pixels that the bins of x and of y span, [2]: the frame's, or with span "image" the image's padded sides.

        view: of the image, where it is not seen whole.
        """
        padded = self.padded(row) if view is None else self._in_strides(view.shape)
        return np.array(padded[::-1] if span == "image" else (self.size, self.size), dtype=np.float64)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [n, size, size, 3], black outside the images."""
        frames = np.zeros((len(rows), self.size, self.size, 3), dtype=np.uint8)
        for frame, row in zip(frames, rows, strict=True):
            image = self.cache.image(int(row))
            frame[: image.shape[0], : image.shape[1]] = image
        return frames

    def valid(self, rows: np.ndarray) -> np.ndarray:
        """bool [n, size / stride, size / stride]: feature positions whose cell holds some of the image."""
        cells = self.size // self.stride
        valid = np.zeros((len(rows), cells, cells), dtype=bool)
        for mask, row in zip(valid, rows, strict=True):
            height, width = self.padded(int(row))
            mask[: height // self.stride, : width // self.stride] = True
        return valid

    def batch(self, rows: np.ndarray, words: np.ndarray, targets: np.ndarray | None = None) -> Batch:
        """A batch of expressions about the images in cache rows [B]; each distinct image is in it once.

        words: int64 [B, L]. targets: tokens int64 [B, T].
        """
        distinct, index = np.unique(rows, return_inverse=True)
        images = self.pixels(distinct) if self.features is None else self.features[distinct]
        return self._batch(images, self.valid(distinct), index.astype(np.int64), words, targets)

    def view_batch(
        self, rows: np.ndarray, views: Sequence[View | Crop], words: np.ndarray, targets: np.ndarray | None = None,
        index: np.ndarray | None = None,
    ) -> Batch:  # fmt: skip
        """A batch of expressions [B] about views [I] of the images in cache rows [I].

        index: int64 [B], which view each is about; each has its own if not given. Two refs of one image then do not
        share its features.
        """
        frames = np.zeros((len(rows), self.size, self.size, 3), dtype=np.uint8)
        cells = self.size // self.stride
        valid = np.zeros((len(rows), cells, cells), dtype=bool)
        for frame, mask, row, view in zip(frames, valid, rows, views, strict=True):
            image = view.image(self.cache.image(int(row)))
            frame[: image.shape[0], : image.shape[1]] = image
            height, width = self._in_strides(view.shape)
            mask[: height // self.stride, : width // self.stride] = True
        return self._batch(frames, valid, np.arange(len(rows)) if index is None else index, words, targets)

    def _batch(
        self, images: np.ndarray, valid: np.ndarray, index: np.ndarray, words: np.ndarray, targets: np.ndarray | None
    ) -> Batch:
        longest = max(1, int((words != 0).sum(1).max()))
        return Batch(
            images=torch.from_numpy(images),
            valid=torch.from_numpy(valid),
            image_index=torch.from_numpy(index),
            words=torch.from_numpy(words[:, :longest]),
            tokens=None if targets is None else torch.from_numpy(targets),
        )
