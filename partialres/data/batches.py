"""From refs to batches: which expressions of which refs follow each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby

import numpy as np
import pandas as pd
from torch.utils.data import DataLoader

from partialres.data.batch import Batch
from partialres.data.inputs import Inputs
from partialres.data.samples import Samples
from partialres.data.views import Window
from partialres.data.vocabulary import Vocabulary


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
        _, first, image = np.unique(samples.rows[order], return_index=True, return_inverse=True)
        order = order[np.argsort(first[image], kind="stable")]  # an image's place is its first ref's
    steps = [share(members) for members in np.array_split(order, steps_per_epoch(samples, batch))]
    make = partial(_training_batch, samples, inputs, chosen, (seed, epoch))
    return iter(DataLoader(steps, batch_size=None, collate_fn=make, num_workers=workers))  # type: ignore[arg-type]


def _training_batch(
    samples: Samples, inputs: Inputs, chosen: np.ndarray, seeds: tuple[int, int], members: np.ndarray
) -> Batch:
    """Make a batch of some refs; loader workers call it ahead. chosen: int64 [n], which expression of each ref."""
    words = np.stack([samples.words[member][chosen[member]] for member in members])
    return samples.batch(members, words, inputs, seeds)


def expression_batches(
    refs: pd.DataFrame, inputs: Inputs, vocabulary: Vocabulary, batch: int, block: tuple[int, int] = (0, 1),
    windows: Sequence[Window] | None = None,
) -> Iterator[tuple[np.ndarray, list[str], Batch]]:  # fmt: skip
    """Batch all expressions of refs, image by image so that each image's visual features are made once.

    windows: how each ref is seen, if not in its whole image. block: (i, n) for the i-th of n parts of the images, one
    process's work. Yields positions int64 [B] in refs, the expressions, and the batch; about `batch` expressions each.
    """
    rows = inputs.rows(refs["image_id"].tolist())
    expressions = refs["expressions"].tolist()

    def batched(places: list[int]) -> tuple[np.ndarray, list[str], Batch]:
        positions = np.repeat(places, [len(expressions[place]) for place in places])
        texts = [text for place in places for text in expressions[place]]
        words = np.stack([vocabulary.encode(text) for text in texts])
        if windows is None:
            return positions, texts, inputs.batch(rows[positions], words)
        distinct, index = np.unique(positions, return_inverse=True)
        seen = [windows[place] for place in distinct.tolist()]
        return positions, texts, inputs.view_batch(rows[distinct], seen, words, index)

    by_image = np.argsort(rows, kind="stable")
    distinct, image = np.unique(rows[by_image], return_inverse=True)
    by_image = by_image[image * block[1] // len(distinct) == block[0]]
    places: list[int] = []
    for _, of_image in groupby(by_image.tolist(), key=lambda place: rows[place]):
        places.extend(of_image)
        if sum(len(expressions[place]) for place in places) >= batch:
            yield batched(places)
            places = []
    if places:
        yield batched(places)
