"""Training samples: refs with words and targets, which are token sequences or, for a mask head, boxes and masks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import numpy as np
import pandas as pd
import torch

from partialres.config import ModelConfig
from partialres.data.batch import Batch
from partialres.data.images import resize
from partialres.data.inputs import Cells, Inputs
from partialres.data.views import OVERLAPS, Window, around, jittered
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError
from partialres.geometry import boxes, contour
from partialres.geometry.tokens import points_to_sequence


@dataclass(frozen=True)
class SequenceSamples:
    """Refs with all their expressions; targets are token sequences (eq. 2) of boxes (N = 2) or contours."""

    rows: np.ndarray  # int64 [n], each ref's row in the image cache
    words: list[np.ndarray]  # n arrays, int64 [expressions, L]
    points: list[np.ndarray]  # n arrays, float64 [N, 2], pixels of the image files
    model: ModelConfig  # its settings decide how points become tokens
    boxes: np.ndarray | None = None  # float64 [n, 2, 2], corners of the known boxes if the model sees crops around them
    jitter: tuple[float, float] | None = None  # range of scales
    outlines: Sequence[np.ndarray] = ()  # n arrays, float [K, 2]: to sample N points again if jitter cuts the contour
    sampling: contour.Sampling = "uniform"
    tokens: np.ndarray | None = None  # int64 [n, 2N + 1], made once if every epoch shows whole images

    def batch(
        self, members: np.ndarray, words: np.ndarray, inputs: Inputs, windows: Sequence[Window], least: Cells = (1, 1)
    ) -> Batch:
        """Batch the refs `members`, int64 [B], with one expression each, int64 [B, L], and their tokens.

        windows: B, from `windows`. least: rows and columns of positions to keep.
        """
        rows = self.rows[members]
        if self.tokens is not None:
            return replace(inputs.batch(rows, words, least), tokens=torch.from_numpy(self.tokens[members]))
        seen = [self.view(member, window, inputs) for member, window in zip(members.tolist(), windows, strict=True)]
        shown = [(row, window) for row, (window, _) in zip(rows.tolist(), seen, strict=True)]
        places = {each: place for place, each in enumerate(dict.fromkeys(shown))}  # each view is in the batch once
        index = np.array([places[each] for each in shown])
        distinct = np.array([row for row, _ in places])
        batch = inputs.view_batch(distinct, [window for _, window in places], words, index, least)
        return replace(batch, tokens=torch.from_numpy(self.sequences(seen, inputs.stride)))

    @cached_property
    def _of_image(self) -> dict[int, list[int]]:
        """The refs about each image, by its row in the image cache."""
        order = np.argsort(self.rows, kind="stable").tolist()
        return {row: list(refs) for row, refs in groupby(order, key=self.rows.tolist().__getitem__)}

    def sequences(self, seen: Iterable[tuple[Window, np.ndarray]], stride: int) -> np.ndarray:
        """Turn B pairs of a window and the points [N, 2] in it into tokens (eq. 2): int64 [B, 2N + 1]."""
        bins, upstream = self.model.bins, self.model.upstream
        return np.stack(
            [
                points_to_sequence(points, window.extent(upstream.span, stride), bins, upstream.rounding)
                for window, points in seen
            ]
        )

    def windows(self, inputs: Inputs, seeds: tuple[int, int]) -> list[Window]:
        """Choose the windows of all n refs: their whole images, random crops around their boxes, or random scales.

        A window at a random scale serves every ref of the image that it shows well, so that the backbone runs once for
        them. seeds: with a ref's number they fix its random crop, with its image's row the random scales.
        """
        whole = [inputs.window(row) for row in self.rows.tolist()]
        if self.boxes is not None:
            cropped = enumerate(zip(whole, self.boxes, strict=True))
            return [around(view, box, np.random.default_rng([*seeds, member])) for member, (view, box) in cropped]
        if self.jitter is None:
            return whole
        chosen: dict[int, Window] = {}
        for row, refs in self._of_image.items():
            chosen |= self._at_random_scales(refs, whole[refs[0]], self.jitter, np.random.default_rng([*seeds, row]))
        return [chosen[member] for member in range(len(whole))]

    def _at_random_scales(
        self, refs: Sequence[int], whole: Window, scales: tuple[float, float], rng: np.random.Generator
    ) -> dict[int, Window]:
        """Choose the windows of an image's refs. whole: the window that shows all of the image."""
        corners = {ref: corners_of(self.points[ref], whole) for ref in refs}
        chosen: dict[int, Window] = {}
        for ref in rng.permutation(refs).tolist():
            if ref not in chosen:
                window = jittered(whole, corners[ref], scales, rng)
                served = {other for other in refs if window.share(corners[other]) >= OVERLAPS[0]} - chosen.keys()
                chosen |= dict.fromkeys([ref, *served], window)
        return chosen

    def view(self, member: int, window: Window, inputs: Inputs) -> tuple[Window, np.ndarray]:
        """Return a ref's window and its points [N, 2] in it; if a random scale shows nothing of it, the whole image."""
        points = self.points[member]
        if self.jitter is None:
            return window, window.to_frame(points)
        inside = self._inside(member, window)
        if inside is not None:
            return window, inside
        whole = inputs.window(int(self.rows[member]))
        return whole, whole.to_frame(points)

    def _inside(self, member: int, window: Window) -> np.ndarray | None:
        """Return a ref's points [N, 2] in a window, or None if nothing of the ref is inside.

        A box is cut to the window. If a contour is cut, N points are sampled again from its cut outline.
        """
        points, (height, width) = self.points[member], window.shape
        seen = window.to_frame(points)
        if len(points) == 2:
            low, high = np.clip(seen, 0, (width, height))
            return np.stack([low, high]) if (high > low).all() else None
        if not window.cuts or np.isnan(seen).all():
            return seen
        outline = window.to_frame(self.outlines[member])
        if (outline >= 0).all() and (outline <= (width, height)).all():
            return seen
        inside = contour.cut(outline, height, width)
        if inside is None:
            return None
        if self.sampling == "uniform":
            return contour.resample(inside, len(points))
        mask = contour.fill(inside, height, width)
        return contour.trace_released(mask, len(points)) if mask.any() else None


def corners_of(points: np.ndarray, whole: Window) -> np.ndarray:
    """Return the corners [2, 2] of the box around points [N, 2], in pixels of the file; without any, of the image."""
    given = points[~np.isnan(points).any(axis=1)]
    return np.array([given.min(0), given.max(0)] if len(given) else [(0, 0), whole.file_size[::-1]])


def sequence_samples(
    refs: pd.DataFrame, inputs: Inputs, vocabulary: Vocabulary, model: ModelConfig,
    jitter: tuple[float, float] | None = None, sampling: contour.Sampling = "uniform",
) -> SequenceSamples:  # fmt: skip
    """Make samples from refs (columns image_id, expressions, bbox, points; to jitter contours also outline).

    points: float [N, 2] for each ref, in pixels of the image file. Raises DataError if there are no refs.
    """
    points = [np.asarray(each, dtype=np.float64) for each in refs["points"]]
    samples = SequenceSamples(
        *_rows_and_words(refs, inputs, vocabulary), points, model, jitter=jitter, sampling=sampling,
        boxes=known_boxes(refs) if model.view == "box" else None,
        outlines=refs["outline"].tolist() if "outline" in refs else (),
    )  # fmt: skip
    if samples.boxes is not None or jitter is not None:
        return samples
    windows = enumerate(samples.windows(inputs, (0, 0)))
    whole = (samples.view(member, window, inputs) for member, window in windows)
    return replace(samples, tokens=samples.sequences(whole, inputs.stride))


@dataclass(frozen=True)
class MaskSamples:
    """Refs with all their expressions, for a mask head; targets are boxes and, from step 2 on, masks."""

    rows: np.ndarray  # rows and words are as in SequenceSamples
    words: list[np.ndarray]
    boxes: np.ndarray  # float32 [n, 4]: centre x, y, width, height in units of the frame
    masks: np.ndarray | None  # uint8 [n, G, G]: see `coverage`

    def batch(
        self, members: np.ndarray, words: np.ndarray, inputs: Inputs, windows: Sequence[Window], least: Cells = (1, 1)
    ) -> Batch:
        """Batch refs as `SequenceSamples.batch` does, but always with whole images."""
        masks = None if self.masks is None else torch.from_numpy(self.masks[members])
        whole = inputs.batch(self.rows[members], words, least)
        return replace(whole, boxes=torch.from_numpy(self.boxes[members]), masks=masks)

    def windows(self, inputs: Inputs, seeds: tuple[int, int]) -> list[Window]:
        """Return the windows of the refs' whole images."""
        return [inputs.window(row) for row in self.rows.tolist()]


Samples = SequenceSamples | MaskSamples


def mask_samples(
    refs: pd.DataFrame, inputs: Inputs, vocabulary: Vocabulary, *, masks: bool, upsampling: int
) -> MaskSamples:
    """Make samples from refs (columns image_id, bbox, expressions; if `masks` also height, width and mask).

    upsampling: mask cells along the side of an image position. Raises DataError if there are no refs.
    """
    rows, words = _rows_and_words(refs, inputs, vocabulary)
    windows = [inputs.window(row) for row in rows.tolist()]
    framed = np.stack([window.to_frame(box) for window, box in zip(windows, known_boxes(refs), strict=True)])
    framed /= inputs.size
    centred = np.concatenate([framed.mean(axis=1), framed[:, 1] - framed[:, 0]], axis=1)
    covered = None
    if masks:
        cells = inputs.size // inputs.stride * upsampling
        columns = zip(windows, refs["mask"], refs["height"], refs["width"], strict=True)
        covered = np.stack([coverage(contour.decode(*mask), window, cells) for window, *mask in columns])
    return MaskSamples(rows, words, centred.astype(np.float32), covered)


def coverage(mask: np.ndarray, window: Window, cells: int) -> np.ndarray:
    """Compute how much of each cell of the frame a mask covers: uint8 [cells, cells], 0 to 255.

    mask: bool [height, width], of the whole image. Cells hold average coverage, not yes or no, so that resizing them
    back to the image restores the mask's edges.
    """
    height, width = window.shape
    frame = np.zeros((window.size, window.size), dtype=np.float32)
    frame[:height, :width] = resize(mask.astype(np.float32), height, width)
    side = window.size // cells
    shares: np.ndarray = frame.reshape(cells, side, cells, side).mean(axis=(1, 3))
    return np.rint(255 * shares).astype(np.uint8)


def known_boxes(refs: pd.DataFrame) -> np.ndarray:
    """Return the corners of the refs' boxes, float64 [n, 2, 2], in pixels of the image files."""
    return boxes.to_corners(np.reshape(refs["bbox"].tolist(), (-1, 4)))


def _rows_and_words(refs: pd.DataFrame, inputs: Inputs, vocabulary: Vocabulary) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the refs' image cache rows, int64 [n], and the words of their expressions, n int64 [expressions, L]."""
    if not len(refs):
        raise DataError("no refs to train on: the table has neither labelled refs nor selected pseudo masks")
    words = [np.stack([vocabulary.encode(text) for text in texts]) for texts in refs["expressions"]]
    return inputs.rows(refs["image_id"].tolist()), words
