"""Views of an image for the model: the whole, a crop around a known box, or a random scale (large-scale jitter)."""

from dataclasses import dataclass, replace

import numpy as np

from partialres.data.images import Image, resize

MARGIN = 0.3  # around the box in prediction, as a share of its longer side
MARGINS = 0.1, 0.6  # range of the margin in training, drawn for each side separately
OVERLAPS = (0.9, 0.8, 0.7, 0.6, 0.5)  # shares of an object's box that a jittered window must hold, tried in turn
TRIES = 100  # windows drawn for each share


@dataclass(frozen=True)
class Window:
    """A region of an image, resized, cut to size x size pixels, and placed at the top left of a frame of that size.

    Sizes are (height, width), points (x, y). There are three pixel grids: the image file's, in which boxes and contours
    are given; the cached image's, whose long side is `size`; and the frame's, which the model sees.
    """

    file_size: tuple[int, int]
    cached_size: tuple[int, int]
    size: int
    region: tuple[int, int, int, int]  # left, top, right, bottom in the cached image
    resized: tuple[int, int]  # size of the region after resizing
    offset: tuple[int, int] = (0, 0)  # where the frame begins in the resized region

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the visible part, in pixels of the frame."""
        return min(self.resized[0], self.size), min(self.resized[1], self.size)

    @property
    def cuts(self) -> bool:
        """Whether the frame leaves out a part of the resized region."""
        return self.shape != self.resized

    def cells(self, stride: int) -> tuple[int, int]:
        """Return how many rows and columns of positions of the features, `stride` pixels each, hold a visible part."""
        height, width = self.shape
        return -(-height // stride), -(-width // stride)

    def image(self, image: Image) -> Image:
        """Return the part of a cached image [h, w, 3] that the window shows, resized: uint8 [height, width, 3]."""
        left, top, right, bottom = self.region
        (height, width), (x, y) = self.shape, self.offset
        region = image[top:bottom, left:right]
        if region.shape[:2] != self.resized:
            region = resize(np.ascontiguousarray(region), *self.resized)
        return region[y : y + height, x : x + width]

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Convert points [..., 2] from pixels of the file to pixels of the frame; they may lie outside it."""
        cached = np.asarray(points, dtype=np.float64) * self._scale()
        return (cached - self.region[:2]) * self._factor() - self.offset

    def to_file(self, points: np.ndarray) -> np.ndarray:
        """Convert points [..., 2] from pixels of the frame to pixels of the file."""
        resized = np.asarray(points, dtype=np.float64) + self.offset
        return (resized / self._factor() + self.region[:2]) / self._scale()

    def share(self, corners: np.ndarray, moves: np.ndarray | float = 0.0) -> np.ndarray:
        """Return the shares, 0 to 1, [...], of a box's area that the window shows once the frame has moved.

        corners: [2, 2] in pixels of the file. moves: of the frame to the right and down, [..., 2] in its pixels.
        """
        low, high = self.to_frame(corners)
        shown = (np.minimum(high - moves, self.shape[::-1]) - np.maximum(low - moves, 0)).clip(min=0)
        shares: np.ndarray = shown.prod(axis=-1) / np.maximum(high - low, 1e-9).prod()
        return shares

    def extent(self, span: str, stride: int) -> np.ndarray:
        """Return the lengths that bins divide, [2] (x, y), pixels: the frame's sides, or `shape` padded to strides."""
        sides = [self.size] * 2 if span == "frame" else [-(-side // stride) * stride for side in self.shape[::-1]]
        return np.array(sides, dtype=np.float64)

    def _scale(self) -> np.ndarray:
        """Return pixels of the cached image per pixel of the file, [2] (x, y)."""
        return np.array(self.cached_size[::-1]) / np.array(self.file_size[::-1])

    def _factor(self) -> np.ndarray:
        """Return pixels of the resized region per pixel of the cached image, [2] (x, y)."""
        left, top, right, bottom = self.region
        return np.array([self.resized[1] / (right - left), self.resized[0] / (bottom - top)])


def whole(file_size: tuple[int, int], cached_size: tuple[int, int], size: int) -> Window:
    """Return the window that shows a whole image of these sizes (height, width)."""
    return Window(file_size, cached_size, size, (0, 0, cached_size[1], cached_size[0]), cached_size)


def around(view: Window, corners: np.ndarray, rng: np.random.Generator | None = None) -> Window:
    """Return the window that shows a box with a margin around it, enlarged until its longer side fills the frame.

    view: the whole image. corners: the box's, [2, 2] in pixels of the file. rng: draws each side's margin from MARGINS;
    without it every margin is MARGIN.
    """
    low, high = view.to_frame(corners)
    before, after = np.full((2, 2), MARGIN) if rng is None else rng.uniform(*MARGINS, (2, 2))
    longer, edge = (high - low).max(), np.array(view.cached_size[::-1])
    first = np.clip(np.trunc(low - before * longer), 0, edge - 1).astype(int)
    last = np.clip(np.ceil(high + after * longer), first + 1, edge).astype(int)
    wide, tall = (last - first).tolist()
    resized = (max(1, round(side * view.size / max(wide, tall))) for side in (tall, wide))
    return replace(view, region=(*first.tolist(), *last.tolist()), resized=tuple(resized))


def jittered(view: Window, corners: np.ndarray, scales: tuple[float, float], rng: np.random.Generator) -> Window:
    """Return a window at a random scale, as in the released code: a larger image is cut to the frame, others padded.

    view: the whole image. corners: an object's box, [2, 2] in pixels of the file. scales: smallest, largest. Cuts are
    drawn at random until one holds enough of the object; if none of TRIES for each of OVERLAPS does, because the object
    is too large, returns the whole image.
    """
    factor = rng.uniform(*scales)
    height, width = view.cached_size
    scaled = replace(view, resized=(max(1, round(height * factor)), max(1, round(width * factor))))
    if not scaled.cuts:
        return scaled
    spare = np.subtract(scaled.resized, scaled.shape)[::-1]  # the greatest offset
    for overlap in OVERLAPS:
        offsets = rng.integers(0, spare + 1, size=(TRIES, 2))
        enough = scaled.share(corners, offsets) >= overlap
        if enough.any():
            x, y = offsets[enough.argmax()].tolist()
            return replace(scaled, offset=(x, y))
    return view
