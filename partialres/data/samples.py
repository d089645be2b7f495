"""Training refs with their words and targets: token sequences, or for a mask head boxes and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import pandas as pd
import torch

from partialres.config import ModelConfig
from partialres.data.batch import Batch
from partialres.data.inputs import Inputs
from partialres.data.views import Window, around, jittered
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError
from partialres.geometry import boxes, contour, tokens


class Samples(Protocol):
    """Training refs, each with all its expressions."""

    @property
    def rows(self) -> np.ndarray:
        """Image cache rows, int64 [n]."""

    @property
    def words(self) -> list[np.ndarray]:
        """Word indices of each ref's expressions, n of int64 [expressions, L]."""

    def batch(self, members: np.ndarray, words: np.ndarray, inputs: Inputs, seeds: tuple[int, int]) -> Batch:
        """Batch some refs with one expression each and their targets.

        members: int64 [B]. words: int64 [B, L]. seeds: with a ref's place they decide how it is seen.
        """


@dataclass(frozen=True)
class SequenceSamples:
    """Refs whose targets are boxes (N = 2) or contours as token sequences."""

    rows: np.ndarray
    words: list[np.ndarray]
    points: list[np.ndarray]  # n of float64 [N, 2], pixels of the image files
    model: ModelConfig  # says how points become tokens, and whether the known box's surroundings are seen
    tokens: np.ndarray | None = None  # int64 [n, T], of whole images; None where each epoch sees another window
    boxes: np.ndarray | None = None  # float64 [n, 2, 2], corners of the known boxes, for view: box
    jitter: tuple[float, float] | None = None  # range of scales
    outlines: Sequence[np.ndarray] = ()  # n of float [K, 2]: what a cut contour is traced from again; boxes: unused
    sampling: contour.Sampling = "uniform"

    def batch(self, members: np.ndarray, words: np.ndarray, inputs: Inputs, seeds: tuple[int, int]) -> Batch:
        """See `Samples.batch`."""
        rows = self.rows[members]
        if self.tokens is not None:
            return replace(inputs.batch(rows, words), tokens=torch.from_numpy(self.tokens[members]))
        draw = self._around_box if self.boxes is not None else self._jittered
        drawn = [
            draw(member, inputs.window(row), np.random.default_rng([*seeds, member]))
            for member, row in zip(members.tolist(), rows.tolist(), strict=True)
        ]
        sequences = np.stack([self.sequence(points, window, inputs.stride) for window, points in drawn])
        batch = inputs.view_batch(rows, [window for window, _ in drawn], words)
        return replace(batch, tokens=torch.from_numpy(sequences))

    def sequence(self, points: np.ndarray, window: Window, stride: int) -> np.ndarray:
        """Points [N, 2] in pixels of a window -> tokens int64 [2N + 1] (eq. 2)."""
        upstream = self.model.upstream
        return tokens.points_to_sequence(
            points, window.extent(upstream.span, stride), self.model.bins, upstream.rounding
        )

    def _around_box(self, member: int, whole: Window, rng: np.random.Generator) -> tuple[Window, np.ndarray]:
        """See a ref's known box with surroundings drawn at random: the window, and the points in it."""
        assert self.boxes is not None
        window = around(whole, self.boxes[member], rng)
        return window, window.to_frame(self.points[member])

    def _jittered(self, member: int, whole: Window, rng: np.random.Generator) -> tuple[Window, np.ndarray]:
        """See a ref at a scale drawn at random; where nothing of it is inside, see the whole image."""
        assert self.jitter is not None
        points = self.points[member]
        given = points[~np.isnan(points).any(axis=1)]
        corners = np.stack([given.min(0), given.max(0)]) if len(given) else np.array([(0, 0), whole.file_size[::-1]])
        window = jittered(whole, corners, self.jitter, rng)
        seen = self._seen(member, window)
        return (window, seen) if seen is not None else (whole, whole.to_frame(points))

    def _seen(self, member: int, window: Window) -> np.ndarray | None:
        """Return a ref's points [N, 2] in a window, or None if nothing of the ref is inside.

        A box is cut to the window. A contour that is cut is traced again, from its whole outline.
        """
        points = self.points[member]
        if len(points) == 2:
            corners = window.cut_box(points)
            return corners if (corners[1] > corners[0]).all() else None
        (height, width), seen = window.shape, window.to_frame(points)
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
    rows = _rows(refs, inputs)
    samples = SequenceSamples(
        rows, encode_expressions(refs, vocabulary), [np.asarray(each, dtype=np.float64) for each in refs["points"]],
        model, jitter=jitter, sampling=sampling,
        boxes=known_boxes(refs) if model.view == "box" else None,
        outlines=refs["outline"].tolist() if "outline" in refs else (),
    )  # fmt: skip
    if samples.boxes is not None or jitter is not None:
        return samples
    windows = [inputs.window(row) for row in rows.tolist()]
    sequences = [
        samples.sequence(window.to_frame(points), window, inputs.stride)
        for window, points in zip(windows, samples.points, strict=True)
    ]
    return replace(samples, tokens=np.stack(sequences))


@dataclass(frozen=True)
class MaskSamples:
    """Refs whose targets are boxes and, from step 2 on, masks: what a mask head learns."""

    rows: np.ndarray
    words: list[np.ndarray]
    boxes: np.ndarray  # float32 [n, 4]: centre x, y, width, height in units of the frame
    masks: np.ndarray | None  # uint8 [n, G, G]: see `coverage`

    def batch(self, members: np.ndarray, words: np.ndarray, inputs: Inputs, seeds: tuple[int, int]) -> Batch:
        """See `Samples.batch`."""
        masks = None if self.masks is None else torch.from_numpy(self.masks[members])
        whole = inputs.batch(self.rows[members], words)
        return replace(whole, boxes=torch.from_numpy(self.boxes[members]), masks=masks)


def mask_samples(
    refs: pd.DataFrame, inputs: Inputs, vocabulary: Vocabulary, *, masks: bool, upsampling: int
) -> MaskSamples:
    """Make samples of refs (columns image_id, bbox, expressions; with masks also height, width and mask).

    upsampling: cells of the mask along the side of an image position. Raises DataError if there is no ref.
    """
    rows = _rows(refs, inputs)
    windows = [inputs.window(row) for row in rows.tolist()]
    framed = np.stack(
        [window.to_frame(box) / window.size for window, box in zip(windows, known_boxes(refs), strict=True)]
    )
    centred = np.concatenate([framed.mean(axis=1), framed[:, 1] - framed[:, 0]], axis=1)
    cells = inputs.size // inputs.stride * upsampling
    covered = None
    if masks:
        columns = zip(windows, *(refs[name].tolist() for name in ("mask", "height", "width")), strict=True)
        covered = np.stack([coverage(contour.decode(*mask), window, cells) for window, *mask in columns])
    return MaskSamples(rows, encode_expressions(refs, vocabulary), centred.astype(np.float32), covered)


def coverage(mask: np.ndarray, window: Window, cells: int) -> np.ndarray:
    """Compute how much of each cell of the frame a mask covers: uint8 [cells, cells], 0 to 255.

    mask: bool [height, width], of the whole image. Areas are averaged, so that a mask resized from the cells back to
    the image keeps its edges.
    """
    height, width = window.shape
    how = cv2.INTER_AREA if max(window.shape) < max(mask.shape) else cv2.INTER_LINEAR
    frame = np.zeros((window.size, window.size), dtype=np.float32)
    frame[:height, :width] = cv2.resize(mask.astype(np.float32), (width, height), interpolation=how)
    side = window.size // cells
    shares: np.ndarray = frame.reshape(cells, side, cells, side).mean(axis=(1, 3))
    return np.rint(255 * shares).astype(np.uint8)


def known_boxes(refs: pd.DataFrame) -> np.ndarray:
    """Return the corners of the refs' boxes, float64 [n, 2, 2], in pixels of the image files."""
    return np.reshape([boxes.to_corners(np.asarray(box, dtype=float)) for box in refs["bbox"]], (-1, 2, 2))


def encode_expressions(refs: pd.DataFrame, vocabulary: Vocabulary) -> list[np.ndarray]:
    """Return the word indices of each ref's expressions, int64 [expressions, L] a ref."""
    return [np.stack([vocabulary.encode(text) for text in expressions]) for expressions in refs["expressions"]]


def _rows(refs: pd.DataFrame, inputs: Inputs) -> np.ndarray:
    if not len(refs):
        raise DataError("no training refs: is the ratio too small, or did selection keep nothing and label nothing?")
    return inputs.rows(refs["image_id"].tolist())
