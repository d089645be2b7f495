"""Training refs with their words and targets, and how each is seen in an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from partialres.data.crop import Crop
from partialres.data.inputs import Inputs
from partialres.data.jitter import View, draw_view, whole_view
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError
from partialres.geometry import contour, tokens
from partialres.geometry.boxes import to_corners


@dataclass(frozen=True)
class Jitter:
    """Large-scale jitter of training refs: how much, and what a ref's contour in a cropped image is traced from."""

    scales: tuple[float, float]  # `TrainConfig.jitter`
    outlines: Sequence[np.ndarray]  # n of float [K, 2]: whole outlines in pixels of the original images; boxes: unused
    sampling: contour.Sampling = "uniform"


@dataclass(frozen=True)
class Quantisation:
    """How points become tokens; fields of the model's config."""

    bins: int
    rounding: str
    span: str

    def sequence(self, points: np.ndarray, extent: np.ndarray) -> np.ndarray:
        """Points [N, 2] in pixels of the frame -> tokens int64 [2N + 1] (eq. 2)."""
        return tokens.points_to_sequence(points, extent, self.bins, self.rounding)


@dataclass(frozen=True)
class Samples:
    """Training refs, each with all its expressions and one target: a sequence, or a box and from step 2 on a mask."""

    rows: np.ndarray  # int64 [n]: image cache rows
    words: list[np.ndarray]  # n of int64 [expressions, L]
    targets: np.ndarray | None  # int64 [n, T]: of the whole images; None for a mask head
    points: Sequence[np.ndarray | None] = field(default=())  # n of float [N, 2], pixels of the original images
    quantisation: Quantisation | None = None
    jitter: Jitter | None = None
    corners: np.ndarray | None = None  # float [n, 2, 2]: boxes, in pixels of the original images
    prompted: bool = False  # a target begins with the corners of its box
    cropped: bool = False  # of the image the surroundings of the box are seen
    weights: np.ndarray | None = None  # float32 [n]: see `Batch`
    boxes: np.ndarray | None = None  # a mask head's targets: see `Batch`
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def parts(self, member: int) -> list[np.ndarray | None]:
        """What a ref's sequence is made of, in pixels of the original image: see `sequence`."""
        box = self.corners[member] if self.prompted and self.corners is not None else None
        return [box, self.points[member]]

    def sequence(self, parts: Sequence[np.ndarray | None], extent: np.ndarray) -> np.ndarray:
        """A ref's tokens int64 [T] in a view of its image.

        parts: in pixels of the view, the corners [2, 2] of the box, or None if no sequence has them, and the contour
        [N, 2], or None if it is not known: its tokens and the end's are then -1. extent: pixels that the bins span.
        """
        assert self.quantisation is not None
        known = np.concatenate([part for part in parts if part is not None])
        found = self.quantisation.sequence(known, extent)
        if parts[1] is not None:
            return found
        number = next(len(many) for many in self.points if many is not None)
        return np.concatenate([found[:-1], np.full(2 * number + 1, -1)])


def make_samples(
    refs: pd.DataFrame, points: Sequence[np.ndarray | None], inputs: Inputs, vocabulary: Vocabulary, bins: int,
    rounding: str, span: str = "frame", jitter: Jitter | None = None, *,
    prompt: str = "none", view: str = "image", weights: np.ndarray | None = None,
) -> Samples:  # fmt: skip
    """Samples of refs (columns image_id, expressions) whose contours or box corners are points [n][N, 2].

    points: in pixels of the original images; brought to the frame and quantised here (eq. 2), and again for every view
    of an image. None where the contour is not known: with a prompt the box is learned alone. bins, rounding, span,
    prompt, view: of the model's config; with a prompt or a view of the box, refs has column bbox. weights: float [n].
    Raises DataError if there is no ref.
    """
    if not len(refs):
        raise DataError("no training refs: is the ratio too small, or did selection keep nothing and label nothing?")
    rows = inputs.rows(refs["image_id"].tolist())
    needed = prompt == "box" or view == "box"
    corners = np.stack([to_corners(np.asarray(box, dtype=float)) for box in refs["bbox"]]) if needed else None
    samples = Samples(
        rows, encode_expressions(refs, vocabulary), None, points, Quantisation(bins, rounding, span), jitter,
        corners=corners, prompted=prompt == "box", cropped=view == "box",
        weights=None if weights is None else np.asarray(weights, dtype=np.float32),
    )  # fmt: skip
    if samples.cropped:
        return samples
    targets = []
    for member, row in enumerate(rows.tolist()):
        parts = [None if part is None else part * inputs.scale(row) for part in samples.parts(member)]
        targets.append(samples.sequence(parts, inputs.extent(row, span)))
    return replace(samples, targets=np.stack(targets))


def encode_expressions(refs: pd.DataFrame, vocabulary: Vocabulary) -> list[np.ndarray]:
    """The words of each ref's expressions, int64 [expressions, L] a ref."""
    return [np.stack([vocabulary.encode(expression) for expression in many]) for many in refs["expressions"]]


def jittered(samples: Samples, inputs: Inputs, member: int, rng: np.random.Generator) -> tuple[View, np.ndarray]:
    """A view of a ref's image drawn at random, and the ref's tokens int64 [T] in it.

    A contour that the view cuts is that of the largest part inside; where nothing is inside, the image is seen whole.
    """
    jitter, quantisation = samples.jitter, samples.quantisation
    assert jitter is not None and quantisation is not None
    row = int(samples.rows[member])
    (height, width), original = inputs.cache.shape[row].tolist(), inputs.cache.original(row)
    whole = whole_view(height, width, inputs.size)
    parts = [None if part is None else np.asarray(part, dtype=np.float64) for part in samples.parts(member)]
    there = np.concatenate([part for part in parts if part is not None])
    there = whole.points(there[~np.isnan(there).any(axis=1)], *original)
    corners = np.stack([there.min(axis=0), there.max(axis=0)]) if len(there) else np.array([[0, 0], [width, height]])
    view = draw_view(rng, height, width, inputs.size, jitter.scales, corners)
    seen = [
        None if part is None else _points_in(view, part, jitter.outlines[member], original, jitter.sampling)
        for part in parts
    ]
    if any(part is not None and inside is None for part, inside in zip(parts, seen, strict=True)):
        view, seen = whole, [None if part is None else whole.points(part, *original) for part in parts]
    return view, samples.sequence(seen, inputs.extent(row, quantisation.span, view))


def cropped(samples: Samples, inputs: Inputs, member: int, rng: np.random.Generator) -> tuple[Crop, np.ndarray]:
    """A ref's box with surroundings drawn at random, and the ref's tokens int64 [T] in it."""
    assert samples.corners is not None and samples.quantisation is not None
    row = int(samples.rows[member])
    crop = inputs.crop(row, samples.corners[member], rng)
    seen = [None if part is None else crop.points(part) for part in samples.parts(member)]
    return crop, samples.sequence(seen, inputs.extent(row, samples.quantisation.span, crop))


def _points_in(
    view: View, points: np.ndarray, outline: np.ndarray, original: tuple[int, int], sampling: contour.Sampling
) -> np.ndarray | None:
    """Points [N, 2] of the original image in a view, or None if none of what they are about is in it.

    A box (N = 2) is cut to the view. A contour that is cut is traced again, from its whole outline.
    """
    if len(points) == 2:
        corners = view.box(points, *original)
        return corners if (corners[1] > corners[0]).all() else None
    height, width = view.shape
    seen = view.points(points, *original)
    if not view.crops or np.isnan(seen).all():
        return seen
    whole = view.points(outline, *original)
    if (whole >= 0).all() and (whole <= (width, height)).all():
        return seen
    inside = contour.cut(whole, height, width)
    if inside is None:
        return None
    if sampling == "uniform":
        return contour.resample(inside, len(points))
    mask = contour.fill(inside, height, width)
    return contour.trace_released(mask, len(points)) if mask.any() else None
