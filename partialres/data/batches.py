"""From refs to batches: which expressions of which refs follow each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from torch.utils.data import DataLoader, Dataset

from partialres.data.batch import Batch
from partialres.data.inputs import Inputs
from partialres.data.samples import Samples
from partialres.data.views import Window
from partialres.data.vocabulary import Vocabulary


class _Epoch(Dataset[Batch]):
    """The batches of one epoch, made on demand so that loader workers can make them ahead."""

    def __init__(
        self, samples: Samples, inputs: Inputs, chosen: np.ndarray, steps: list[np.ndarray], seeds: tuple[int, int]
    ) -> None:
        self.samples, self.inputs, self.chosen, self.steps, self.seeds = samples, inputs, chosen, steps, seeds

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, step: int) -> Batch:
        members = self.steps[step]
        words = np.stack([self.samples.words[member][self.chosen[member]] for member in members])
        return self.samples.batch(members, words, self.inputs, self.seeds)


def steps_per_epoch(samples: Samples, batch: int) -> int:
    """Count the batches of an epoch, in which every ref is seen once."""
    return -(-len(samples.rows) // batch)


def batch_size(samples: Samples, batch: int, step: int) -> int:
    """Count the refs in an epoch's batch of that number: sizes differ by one at most, the larger ones first."""
    least, larger = divmod(len(samples.rows), steps_per_epoch(samples, batch))
    return least + (step < larger)


def epoch_batches(
    samples: Samples, inputs: Inputs, batch: int, seed: int, epoch: int, workers: int = 0, *,
    grouped: bool = False, share: Callable[[np.ndarray], np.ndarray] = lambda members: members,
) -> Iterator[Batch]:  # fmt: skip
    """Make the batches of an epoch: each ref once, with one of its expressions, in an order that (seed, epoch) fix.

    grouped: refs of one image follow each other, so that a batch has fewer images for the backbone to see. share: of a
    batch's refs [n] those that this process trains on. How a ref is seen depends on (seed, epoch, its place) alone, not
    on its batch or worker.
    """
    rng = np.random.default_rng([seed, epoch])
    expressions = np.array([len(each) for each in samples.words])
    chosen = (rng.random(len(expressions)) * expressions).astype(np.int64)
    order = rng.permutation(len(expressions))
    if grouped:
        _, first = np.unique(samples.rows[order], return_index=True)  # an image's place is its first ref's
        place = dict(zip(samples.rows[order[first]].tolist(), first.tolist(), strict=True))
        order = order[np.argsort([place[row] for row in samples.rows[order].tolist()], kind="stable")]
    steps = [share(members) for members in np.array_split(order, steps_per_epoch(samples, batch))]
    return iter(DataLoader(_Epoch(samples, inputs, chosen, steps, (seed, epoch)), batch_size=None, num_workers=workers))


def expression_batches(
    refs: pd.DataFrame, inputs: Inputs, vocabulary: Vocabulary, batch: int, block: tuple[int, int] = (0, 1),
    windows: Sequence[Window] | None = None,
) -> Iterator[tuple[np.ndarray, list[str], Batch]]:  # fmt: skip
    """Batch all expressions of refs, image by image so that each image's visual features are made once.

    windows: how each ref is seen, if not in its whole image. block: (i, n) for the i-th of n parts of the images, one
    process's work. Yields positions int64 [B] in refs, the expressions, and the batch; about `batch` expressions each.
    """
    rows = inputs.rows(refs["image_id"].tolist())
    positions: list[int] = []
    texts: list[str] = []

    def flush() -> tuple[np.ndarray, list[str], Batch]:
        members = np.array(positions)
        words = np.stack([vocabulary.encode(text) for text in texts])
        if windows is None:
            return members, list(texts), inputs.batch(rows[members], words)
        distinct, index = np.unique(members, return_inverse=True)
        seen = [windows[member] for member in distinct.tolist()]
        return members, list(texts), inputs.view_batch(rows[distinct], seen, words, index)

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
