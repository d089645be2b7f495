"""Group refs and their expressions into batches, for training and for evaluation."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby

import numpy as np
import pandas as pd
from torch.utils.data import DataLoader

from partialres.data.batch import Batch
from partialres.data.inputs import Cells, Inputs
from partialres.data.samples import Samples
from partialres.data.views import Window
from partialres.data.vocabulary import Vocabulary


def steps_per_epoch(samples: Samples, batch: int) -> int:
    """Return the number of batches in an epoch, which contains every ref once."""
    return -(-len(samples.rows) // batch)


def batch_size(samples: Samples, batch: int, step: int) -> int:
    """Return the number of refs in batch `step` of an epoch: sizes differ by at most one, larger batches first."""
    least, larger = divmod(len(samples.rows), steps_per_epoch(samples, batch))
    return least + (step < larger)


def epoch_batches(
    samples: Samples, inputs: Inputs, batch: int, seed: int, epoch: int, workers: int = 0, *,
    share: Callable[[np.ndarray], np.ndarray] = lambda members: members, pinned: bool = False,
) -> Iterator[Batch]:  # fmt: skip
    """Make the batches of an epoch: each ref once, with one of its expressions.

    Images come in random order by (seed, epoch). Refs with the same view of an image share a batch where they can, so
    that the backbone runs once for them.
    Each batch holds images of like shapes, and keeps no more of the frame than they need.
    share: picks from a batch's refs [n] those that this process trains on. A random crop depends only on (seed, epoch,
    the ref), a random scale only on (seed, epoch, the image), not on the batch or worker. pinned: in page-locked
    memory, from which a GPU copies while it computes.
    """
    rng = np.random.default_rng([seed, epoch])
    expressions = np.array([len(each) for each in samples.words])
    chosen = (rng.random(len(expressions)) * expressions).astype(np.int64)
    order = rng.permutation(len(expressions))
    _, first, image = np.unique(samples.rows[order], return_index=True, return_inverse=True)
    order = order[np.argsort(first[image], kind="stable")]  # an image takes the place of its first ref
    windows = samples.windows(inputs, (seed, epoch))
    shapes = np.array([inputs.cells([window]) for window in windows])
    sizes = [batch_size(samples, batch, step) for step in range(steps_per_epoch(samples, batch))]
    steps = []
    for refs in in_batches(order, shapes, sizes, rng):
        own = share(refs)
        steps.append((own, [windows[ref] for ref in own.tolist()], tuple(shapes[refs].max(0).tolist())))
    make = partial(_training_batch, samples, inputs, chosen)
    return iter(
        DataLoader(steps, batch_size=None, collate_fn=make, num_workers=workers, pin_memory=pinned)  # type: ignore[arg-type]
    )


def in_batches(
    order: np.ndarray, shapes: np.ndarray, sizes: Sequence[int], rng: np.random.Generator
) -> list[np.ndarray]:
    """Divide refs, int64 [n] in random order, into batches of the given sizes, each of refs with like shapes.

    shapes: int64 [n, 2], each ref's rows and columns of positions. Where all are equal, the order stays as it is.
    """
    rows, columns = shapes[order].T
    places = np.lexsort((-columns, rows))  # from flat to narrow; refs of equal shapes keep their order
    # A batch's turn is the random place in `order` of one of its refs, so that equal shapes keep theirs.
    turns = np.argsort([rng.choice(part) for part in np.array_split(places, len(sizes))])
    ends = np.empty(len(sizes), dtype=np.int64)
    ends[turns] = sizes
    batches = np.split(order[places], ends.cumsum()[:-1])
    return [batches[turn] for turn in turns]


def _training_batch(
    samples: Samples, inputs: Inputs, chosen: np.ndarray, step: tuple[np.ndarray, list[Window], Cells]
) -> Batch:
    """Make a batch of refs; loader processes call this.

    chosen: int64 [n], each ref's expression. step: refs, their windows, and the positions that the whole batch keeps.
    """
    members, windows, kept = step
    words = np.stack([samples.words[member][chosen[member]] for member in members])
    return samples.batch(members, words, inputs, windows, kept)


def places_by_image(
    refs: pd.DataFrame, inputs: Inputs, batch: int, window: Callable[[int], Window] | None = None
) -> list[list[int]]:
    """Divide refs into batches of about `batch` expressions: all of one shape, an image's refs of that shape together.

    What a model answers therefore does not depend on which images share a batch. window: as for `expression_batches`.
    Returns the rows in refs of each batch, ordered by shape and image.
    """
    rows, texts = inputs.rows(refs["image_id"].tolist()), refs["expressions"].map(len).tolist()
    shown = window or (lambda place: inputs.window(rows[place]))
    shapes = [inputs.cells([shown(place)]) for place in range(len(refs))]
    order = sorted(np.argsort(rows, kind="stable").tolist(), key=shapes.__getitem__)
    batches: list[list[int]] = []
    for _, alike in groupby(order, key=shapes.__getitem__):
        size = batch
        for _, of_image in groupby(alike, key=rows.__getitem__):
            if size >= batch:
                batches.append([])
                size = 0
            places = list(of_image)
            batches[-1] += places
            size += sum(texts[place] for place in places)
    return batches


def expression_batches(
    refs: pd.DataFrame, inputs: Inputs, vocabulary: Vocabulary, batches: Iterable[list[int]],
    window: Callable[[int], Window] | None = None,
) -> Iterator[tuple[np.ndarray, list[str], Batch]]:  # fmt: skip
    """Batch all expressions of refs; the visual features of images in the same batch are computed once.

    batches: from `places_by_image`. window: gives the part of its image to show for the ref in a row of refs; None: the
    whole image. Yields rows int64 [B] in refs, the expressions and the batch.
    """
    rows = inputs.rows(refs["image_id"].tolist())
    expressions = refs["expressions"].tolist()
    for places in batches:
        positions = np.repeat(places, [len(expressions[place]) for place in places])
        texts = [text for place in places for text in expressions[place]]
        words = np.stack([vocabulary.encode(text) for text in texts])
        if window is None:
            yield positions, texts, inputs.batch(rows[positions], words)
        else:
            distinct, index = np.unique(positions, return_inverse=True)
            seen = [window(place) for place in distinct.tolist()]
            yield positions, texts, inputs.view_batch(rows[distinct], seen, words, index)
