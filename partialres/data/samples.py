"""Training refs with their words and targets: token sequences, or for a mask head boxes and masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from partialres.config import ModelConfig
from partialres.data.batch import Batch
from partialres.data.images import resize
from partialres.data.inputs import Inputs
from partialres.data.views import Window, around, jittered
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError
from partialres.geometry import boxes, contour
from partialres.geometry.tokens import points_to_sequence


@dataclass(frozen=True)
class SequenceSamples:
    """Refs, each with all its expressions, whose targets are boxes (N = 2) or contours as token sequences (eq. 2)."""

    rows: np.ndarray  # int64 [n], of the image cache
    words: list[np.ndarray]  # n of int64 [expressions, L]
    points: list[np.ndarray]  # n of float64 [N, 2], pixels of the image files
    model: ModelConfig  # says how points become tokens
    boxes: np.ndarray | None = None  # float64 [n, 2, 2], corners of the known boxes, whose surroundings are seen
    jitter: tuple[float, float] | None = None  # range of scales
    outlines: Sequence[np.ndarray] = ()  # n of float [K, 2]: what a cut contour is traced from again; boxes: unused
    sampling: contour.Sampling = "uniform"
    tokens: np.ndarray | None = None  # int64 [n, 2N + 1], made once where every epoch sees whole images

    def batch(self, members: np.ndarray, words: np.ndarray, inputs: Inputs, seeds: tuple[int, int]) -> Batch:
        """Batch some refs, by their places int64 [B], with one expression each, int64 [B, L], and their tokens.

        seeds: with a ref's place they decide how it is seen.
        """
        rows = self.rows[members]
        if self.tokens is not None:
            return replace(inputs.batch(rows, words), tokens=torch.from_numpy(self.tokens[members]))
        seen = [self.view(member, inputs, seeds) for member in members.tolist()]
        batch = inputs.view_batch(rows, [window for window, _ in seen], words)
        return replace(batch, tokens=torch.from_numpy(self.sequences(seen, inputs.stride)))

    def sequences(self, seen: Iterable[tuple[Window, np.ndarray]], stride: int) -> np.ndarray:
        """Turn the points [N, 2] in each window into tokens int64 [2N + 1] (eq. 2): [B, 2N + 1]."""
        bins, upstream = self.model.bins, self.model.upstream
        return np.stack(
            [
                points_to_sequence(points, window.extent(upstream.span, stride), bins, upstream.rounding)
                for window, points in seen
            ]
        )

    def view(self, member: int, inputs: Inputs, seeds: tuple[int, int]) -> tuple[Window, np.ndarray]:
        """See a ref in its whole image, or drawn at random around its box or at some scale.

        Returns the window, and the ref's points [N, 2] in it; where nothing of it is inside, the whole image is seen.
        """
        whole, rng = inputs.window(self.rows[member]), np.random.default_rng([*seeds, member])
        points = self.points[member]
        if self.boxes is not None:
            window = around(whole, self.boxes[member], rng)
            return window, window.to_frame(points)
        if self.jitter is not None:
            given = points[~np.isnan(points).any(axis=1)]
            corners = np.stack([given.min(0), given.max(0)]) if len(given) else [(0, 0), whole.file_size[::-1]]
            window = jittered(whole, np.array(corners), self.jitter, rng)
            inside = self._inside(member, window)
            if inside is not None:
                return window, inside
        return whole, whole.to_frame(points)

    def _inside(self, member: int, window: Window) -> np.ndarray | None:
        """Return a ref's points [N, 2] in a window, or None if nothing of the ref is inside.

        A box is cut to the window. A contour that is cut is traced again, from its whole outline.
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


def sequence_samples(
    refs: pd.DataFrame, inputs: Inputs, vocabulary: Vocabulary, model: ModelConfig,
    jitter: tuple[float, float] | None = None, sampling: contour.Sampling = "uniform",
) -> SequenceSamples:  # fmt: skip
    """Make samples of refs (columns image_id, expressions, bbox and points; with jitter of contours also outline).

    points: float [N, 2] a ref, in pixels of the image files. Raises DataError if there is no ref.
    """
    points = [np.asarray(each, dtype=np.float64) for each in refs["points"]]
    samples = SequenceSamples(
        *_rows_and_words(refs, inputs, vocabulary), points, model, jitter=jitter, sampling=sampling,
        boxes=known_boxes(refs) if model.view == "box" else None,
        outlines=refs["outline"].tolist() if "outline" in refs else (),
    )  # fmt: skip
    if samples.boxes is not None or jitter is not None:
        return samples
    whole = (samples.view(member, inputs, (0, 0)) for member in range(len(points)))
    return replace(samples, tokens=samples.sequences(whole, inputs.stride))


@dataclass(frozen=True)
class MaskSamples:
    """Refs, each with all its expressions, whose targets are boxes and, from step 2 on, masks: for a mask head."""

    rows: np.ndarray  # and words: as of SequenceSamples
    words: list[np.ndarray]
    boxes: np.ndarray  # float32 [n, 4]: centre x, y, width, height in units of the frame
    masks: np.ndarray | None  # uint8 [n, G, G]: see `coverage`

    def batch(self, members: np.ndarray, words: np.ndarray, inputs: Inputs, seeds: tuple[int, int]) -> Batch:
        """Batch some refs as `SequenceSamples.batch` does; their images are always seen whole."""
        masks = None if self.masks is None else torch.from_numpy(self.masks[members])
        whole = inputs.batch(self.rows[members], words)
        return replace(whole, boxes=torch.from_numpy(self.boxes[members]), masks=masks)


Samples = SequenceSamples | MaskSamples


def mask_samples(
    refs: pd.DataFrame, inputs: Inputs, vocabulary: Vocabulary, *, masks: bool, upsampling: int
) -> MaskSamples:
    """Make samples of refs (columns image_id, bbox, expressions; with masks also height, width and mask).

    upsampling: cells of the mask along the side of an image position. Raises DataError if there is no ref.
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

    mask: bool [height, width], of the whole image. Areas are averaged, so that a mask resized from the cells back to
    the image keeps its edges.
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
    """Return the image cache rows int64 [n] of refs, and their expressions' words, n of int64 [expressions, L]."""
    if not len(refs):
        raise DataError("no training refs: is the ratio too small, or did selection keep nothing and label nothing?")
    words = [np.stack([vocabulary.encode(text) for text in texts]) for texts in refs["expressions"]]
    return inputs.rows(refs["image_id"].tolist()), words
