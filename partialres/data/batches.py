"""From training rows to batches: which expression of which ref, its image and its token sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from partialres.data.crop import Crop, around, whole
from partialres.data.images import ImageCache
from partialres.data.jitter import View, draw_view, whole_view
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError, read_json
from partialres.geometry import contour, tokens
from partialres.geometry.boxes import to_corners
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

    def sequence(self, member: int, place: Callable[[np.ndarray], np.ndarray], extent: np.ndarray) -> np.ndarray:
        """A ref's tokens int64 [T] in a view of its image; -1 for the contour where it is not known.

        place: from points in pixels of the original image to the view's. extent: pixels that the bins span.
        """
        assert self.quantisation is not None
        points = self.points[member]
        box = [place(self.corners[member])] if self.prompted and self.corners is not None else []
        if points is not None:
            return self.quantisation.sequence(np.concatenate([*box, place(points)]), extent)
        number = next(len(many) for many in self.points if many is not None)
        unknown = np.full(2 * number + 1, -1)
        return np.concatenate([self.quantisation.sequence(np.concatenate(box), extent)[:-1], unknown])


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
    targets = [
        samples.sequence(member, scaled(inputs.scale(row)), inputs.extent(row, span))
        for member, row in enumerate(rows.tolist())
    ]
    return replace(samples, targets=np.stack(targets))


def scaled(scale: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Points times a scale."""
    return lambda points: points * scale


def encode_expressions(refs: pd.DataFrame, vocabulary: Vocabulary) -> list[np.ndarray]:
    """The words of each ref's expressions, int64 [expressions, L] a ref."""
    return [np.stack([vocabulary.encode(expression) for expression in many]) for many in refs["expressions"]]


def jittered(samples: Samples, inputs: Inputs, member: int, rng: np.random.Generator) -> tuple[View, np.ndarray]:
    """A view of a ref's image drawn at random, and the ref's tokens int64 [T] in it.

    A contour that the view cuts is that of the largest part inside; where nothing is inside, the image is seen whole.
    """
    jitter, quantisation = samples.jitter, samples.quantisation
    assert jitter is not None and quantisation is not None
    row, points = int(samples.rows[member]), samples.points[member]
    (height, width), original = inputs.cache.shape[row].tolist(), inputs.cache.original(row)
    whole = whole_view(height, width, inputs.size)
    known = [
        each for each in (points, None if samples.corners is None else samples.corners[member]) if each is not None
    ]
    there = np.concatenate([np.asarray(each, dtype=np.float64) for each in known])
    there = whole.points(there[~np.isnan(there).any(axis=1)], *original)
    corners = np.stack([there.min(axis=0), there.max(axis=0)]) if len(there) else np.array([[0, 0], [width, height]])
    view = draw_view(rng, height, width, inputs.size, jitter.scales, corners)

    def inside(points: np.ndarray) -> np.ndarray | None:
        return _points_in(
            view, np.asarray(points, dtype=np.float64), jitter.outlines[member], original, jitter.sampling
        )

    seen = [inside(each) for each in known]
    if any(each is None for each in seen):
        view = whole

    def place(points: np.ndarray) -> np.ndarray:
        found = view.points(points, *original) if view is whole else inside(points)
        assert found is not None
        return found

    return view, samples.sequence(member, place, inputs.extent(row, quantisation.span, view))


def cropped(samples: Samples, inputs: Inputs, member: int, rng: np.random.Generator) -> tuple[Crop, np.ndarray]:
    """A ref's box with surroundings drawn at random, and the ref's tokens int64 [T] in it."""
    assert samples.corners is not None and samples.quantisation is not None
    row = int(samples.rows[member])
    crop = inputs.crop(row, samples.corners[member], rng)
    return crop, samples.sequence(member, crop.points, inputs.extent(row, samples.quantisation.span, crop))


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


class _Steps(Dataset[Batch]):
    """The batches of one epoch, made on demand so that loader workers can make them ahead."""

    def __init__(
        self, samples: Samples, inputs: Inputs, chosen: np.ndarray, order: list[np.ndarray], seeds: tuple[int, int]
    ) -> None:
        self.samples, self.inputs, self.chosen, self.order, self.seeds = samples, inputs, chosen, order, seeds

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> Batch:
        members = self.order[step]
        words = np.stack([self.samples.words[member][self.chosen[member]] for member in members])
        if self.samples.boxes is not None:
            boxes, masks = (_tensor(of_all, members) for of_all in (self.samples.boxes, self.samples.masks))
            return replace(self.inputs.batch(self.samples.rows[members], words), boxes=boxes, masks=masks)
        return replace(self._sequences(members, words), weights=_tensor(self.samples.weights, members))

    def _sequences(self, members: np.ndarray, words: np.ndarray) -> Batch:
        rows = self.samples.rows[members]
        if self.samples.jitter is None and not self.samples.cropped:
            assert self.samples.targets is not None
            return self.inputs.batch(rows, words, self.samples.targets[members])
        draw = cropped if self.samples.cropped else jittered
        drawn = [
            draw(self.samples, self.inputs, member, np.random.default_rng([*self.seeds, member]))
            for member in members.tolist()
        ]
        views, targets = zip(*drawn, strict=True)
        return self.inputs.view_batch(rows, views, words, np.stack(targets))


def _tensor(of_all: np.ndarray | None, members: np.ndarray) -> torch.Tensor | None:
    """The members' part of what there may be of all samples."""
    return None if of_all is None else torch.from_numpy(of_all[members])


def steps_per_epoch(samples: Samples, batch: int) -> int:
    """Every ref is seen once an epoch; the last batch may be short."""
    return -(-len(samples) // batch)


def batch_size(samples: Samples, batch: int, step: int) -> int:
    """Refs in an epoch's batch of that number: all have as many, or one less in the later ones."""
    least, more = divmod(len(samples), steps_per_epoch(samples, batch))
    return least + (step < more)


def epoch_batches(
    samples: Samples, inputs: Inputs, batch: int, seed: int, epoch: int, workers: int = 0, *,
    grouped: bool = False, share: Callable[[np.ndarray], np.ndarray] = lambda members: members,
) -> Iterator[Batch]:  # fmt: skip
    """The batches of an epoch: each ref once, with one of its expressions, in an order that (seed, epoch) fix.

    grouped: refs of one image follow each other, so that a batch has fewer images for the backbone to see. share: of a
    batch's refs [n] those that this process trains on. With jitter a ref's view depends on (seed, epoch, its place)
    alone, not on its batch or worker.
    """
    rng = np.random.default_rng([seed, epoch])
    expressions = np.array([len(many) for many in samples.words])
    chosen = (rng.random(len(samples)) * expressions).astype(np.int64)
    order = rng.permutation(len(samples))
    if grouped:
        _, first = np.unique(samples.rows[order], return_index=True)  # an image's place is its first ref's
        place = dict(zip(samples.rows[order[first]].tolist(), first.tolist(), strict=True))
        order = order[np.argsort([place[row] for row in samples.rows[order].tolist()], kind="stable")]
    steps = [share(members) for members in np.array_split(order, steps_per_epoch(samples, batch))]
    return iter(DataLoader(_Steps(samples, inputs, chosen, steps, (seed, epoch)), batch_size=None, num_workers=workers))


def expression_batches(
    refs: pd.DataFrame, inputs: Inputs, vocabulary: Vocabulary, batch: int, block: tuple[int, int] = (0, 1),
    crops: Sequence[Crop] | None = None,
) -> Iterator[tuple[np.ndarray, list[str], Batch]]:  # fmt: skip
    """All expressions of refs, image by image so that each image's visual features are made once.

    crops: where each ref is seen, if not in its whole image. block: (i, n) for the i-th of n parts of the images, which
    follow each other: one process's work.
    Yields positions int64 [B] in refs, the expressions' texts, and the batch; about `batch` expressions each.
    """
    rows = inputs.rows(refs["image_id"].tolist())
    positions: list[int] = []
    texts: list[str] = []

    def flush() -> tuple[np.ndarray, list[str], Batch]:
        members = np.array(positions)
        words = np.stack([vocabulary.encode(text) for text in texts])
        if crops is None:
            return members, list(texts), inputs.batch(rows[members], words)
        seen, index = np.unique(members, return_inverse=True)
        views = [crops[member] for member in seen.tolist()]
        return members, list(texts), inputs.view_batch(rows[seen], views, words, index=index.astype(np.int64))

    by_image = np.argsort(rows, kind="stable")
    distinct, image = np.unique(rows[by_image], return_inverse=True)
    by_image = by_image[image * block[1] // len(distinct) == block[0]]
    expressions = refs["expressions"].tolist()
    for place, position in enumerate(by_image):
        positions.extend([int(position)] * len(expressions[position]))
        texts.extend(expressions[position])
        last_of_image = place + 1 == len(by_image) or rows[by_image[place + 1]] != rows[position]
        if last_of_image and len(texts) >= batch:
            yield flush()
            positions, texts = [], []
    if texts:
        yield flush()
