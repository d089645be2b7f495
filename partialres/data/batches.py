"""From training rows to batches: which expression of which ref, its image and its token sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from partialres.data.crop import Crop
from partialres.data.inputs import Inputs
from partialres.data.samples import Samples, cropped, jittered
from partialres.data.vocabulary import Vocabulary
from partialres.model.pointer import Batch


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
