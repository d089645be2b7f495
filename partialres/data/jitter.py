"""Large-scale jitter: each training ref seen larger or smaller than it is, its image, box, mask and contour alike.

As released: the image's long side becomes `size` times a factor, uniform in (0.3, 1.4). Where the image then is wider
or higher than the frame of `size` pixels, a crop of at most the frame is drawn that holds most of the object; a smaller
one is padded at its right and bottom.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from partialres.data.images import Image, resize

OVERLAPS = (0.9, 0.8, 0.7, 0.6, 0.5)  # the share of the object that a crop must hold: the greatest that can be had
TRIES = 100  # crops drawn for each


@dataclass(frozen=True)
class View:
    """An image resized to height x width pixels, of which a window of at most size x size is the frame's top left."""

    height: int
    width: int
    size: int
    x: int = 0  # the window's left and top
    y: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the window in pixels, each at most `size`."""
        return min(self.height, self.size), min(self.width, self.size)

    @property
    def crops(self) -> bool:
        """Whether some of the image is outside."""
        return self.shape != (self.height, self.width)

    def image(self, image: Image) -> Image:
        """The window's pixels, uint8 [h, w, 3], of the image at any size."""
        return self._window(resize(image, self.height, self.width))

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """The window's part of a mask, bool [h, w], of a mask bool [height, width] at any size: the nearest pixel's."""
        resized = cv2.resize(mask.astype(np.uint8), (self.width, self.height), interpolation=cv2.INTER_NEAREST_EXACT)
        return self._window(resized.astype(bool))

    def points(self, points: np.ndarray, height: int, width: int) -> np.ndarray:
        """Points [N, 2] in pixels of the image at height x width -> in pixels of the window, or beyond it."""
        return np.asarray(points, dtype=np.float64) * (self.width / width, self.height / height) - (self.x, self.y)

    def box(self, corners: np.ndarray, height: int, width: int) -> np.ndarray:
        """A box's corners [2, 2] (left top, right bottom; pixels of height x width) -> in the window, cut to it."""
        return np.clip(self.points(corners, height, width), 0, self.shape[::-1])

    def _window(self, whole: np.ndarray) -> np.ndarray:
        height, width = self.shape
        return whole[self.y : self.y + height, self.x : self.x + width]


def whole_view(height: int, width: int, size: int) -> View:
    """The view without jitter: the image as it is, its sides at most `size` pixels."""
    return View(height, width, size)


def draw_view(
    rng: np.random.Generator, height: int, width: int, size: int, scales: tuple[float, float], corners: np.ndarray
) -> View:
    """A random view of an image whose long side is `size` pixels.

    height, width: of the image in pixels. scales: least and greatest factor. corners: of the object's box, [2, 2] in
    the same pixels.
    """
    factor = rng.uniform(*scales)
    tall, wide = max(1, round(height * factor)), max(1, round(width * factor))
    view = View(tall, wide, size)
    return _cropped(rng, view, view.points(corners, height, width)) if view.crops else view


def _cropped(rng: np.random.Generator, view: View, corners: np.ndarray) -> View:
    """A window at random among those that hold enough of the object, or where none is found, the one that holds most.

    corners: of the object's box, [2, 2] in pixels of the resized image.
    """
    spare = np.array([view.width, view.height]) - view.shape[::-1]  # x and y at which a window may start: 0 to these
    for overlap in OVERLAPS:
        starts = rng.integers(0, spare + 1, size=(TRIES, 2))
        enough = np.flatnonzero(_share(starts, view, corners) >= overlap)
        if len(enough):
            x, y = starts[enough[0]].tolist()
            return View(view.height, view.width, view.size, x, y)
    centred = np.rint(corners.mean(axis=0) - np.array(view.shape[::-1]) / 2).astype(np.int64)
    x, y = np.clip(centred, 0, spare).tolist()
    return View(view.height, view.width, view.size, x, y)


def _share(starts: np.ndarray, view: View, corners: np.ndarray) -> np.ndarray:
    """The share of the box's area, float [n] in [0, 1], in the windows that start at [n, 2]."""
    least = np.maximum(starts, corners[0])
    greatest = np.minimum(starts + view.shape[::-1], corners[1])
    area = np.maximum(corners[1] - corners[0], 1e-9).prod()
    shares: np.ndarray = np.clip(greatest - least, 0, None).prod(axis=1) / area
    return shares
