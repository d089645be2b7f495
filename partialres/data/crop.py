"""Where a ref is seen: its whole image, or a window of it around its known box, enlarged to the frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from partialres.data.images import Image, resize

MARGIN = 0.3  # what a prediction's window holds around the box, in lengths of the box's longer side
MARGINS = 0.1, 0.6  # a training's, drawn for each side anew


@dataclass(frozen=True)
class Crop:
    """A window of a cached image, resized so that its long side is `size` pixels: the frame's top left."""

    left: int  # of the window, in pixels of the cached image
    top: int
    right: int
    bottom: int
    size: int
    scale: tuple[float, float]  # pixels of the cached image an original pixel, x and y

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels of the frame."""
        height, width = self.bottom - self.top, self.right - self.left
        longest = max(height, width)
        return max(1, round(height * self.size / longest)), max(1, round(width * self.size / longest))

    def image(self, image: Image) -> Image:
        """The window's pixels, uint8 [h, w, 3], of the cached image."""
        return resize(np.ascontiguousarray(image[self.top : self.bottom, self.left : self.right]), *self.shape)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2] in pixels of the original image -> in pixels of the frame, or beyond it."""
        return (np.asarray(points, dtype=np.float64) * self.scale - (self.left, self.top)) * self._factors()

    def original(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2] in pixels of the frame -> in pixels of the original image."""
        return (np.asarray(points, dtype=np.float64) / self._factors() + (self.left, self.top)) / self.scale

    def _factors(self) -> np.ndarray:
        """Pixels of the frame a pixel of the cached image, [2]: x and y."""
        height, width = self.shape
        return np.array([width / (self.right - self.left), height / (self.bottom - self.top)])


def whole(shape: tuple[int, int], size: int, scale: tuple[float, float]) -> Crop:
    """All of a cached image of shape (height, width), whose long side is `size` pixels."""
    return Crop(0, 0, shape[1], shape[0], size, scale)


def around(
    corners: np.ndarray, shape: tuple[int, int], size: int, scale: tuple[float, float],
    rng: np.random.Generator | None = None,
) -> Crop:  # fmt: skip
    """The window around a box, cut to the image: with MARGIN on every side, or with rng MARGINS drawn for each.

    corners: [2, 2], left top and right bottom, in pixels of the original image. shape: height and width of the cached
    image.
    """
    (left, top), (right, bottom) = np.asarray(corners, dtype=np.float64) * scale
    margins = np.full(4, MARGIN) if rng is None else rng.uniform(*MARGINS, 4)
    left, top, right, bottom = np.array([left, top, right, bottom]) + np.array([-1, -1, 1, 1]) * margins * max(
        right - left, bottom - top
    )
    height, width = shape
    first_x, first_y = min(max(int(left), 0), width - 1), min(max(int(top), 0), height - 1)
    last_x, last_y = (
        min(max(int(np.ceil(right)), first_x + 1), width),
        min(max(int(np.ceil(bottom)), first_y + 1), height),
    )
    return Crop(first_x, first_y, last_x, last_y, size, scale)
