"""The smallest settings, data and models that have every part, for the tests of all modules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from partialres.config import ModelConfig, TrainConfig
from partialres.data.inputs import Inputs
from partialres.data.samples import Samples, make_samples
from partialres.data.splits import split
from partialres.data.vocabulary import Vocabulary
from partialres.geometry import contour

SIDE = 64  # pixels: four positions of the tiny backbone a side
TINY = ModelConfig(
    backbone="tiny", frozen="all", fusion=16, language=8, word=8, freeze_words=False, width=16, heads=2,
    encoder_layers=1, decoder_layers=1, feedforward=16, dropout=0.1, bins=32,
)  # fmt: skip
SHORT = TrainConfig(epochs=4, batch=16, learning_rate=5e-3, warmup_epochs=1, ema=0.9)


@dataclass(frozen=True)
class Prepared:
    """A data set as the first stages leave it, in memory and on disk."""

    folder: Path  # refs.parquet, vocabulary.json, images/, split.parquet
    raw: Path  # instances.json and refs(unc).p
    pictures: Path
    refs: pd.DataFrame
    vocabulary: Vocabulary
    inputs: Inputs

    @property
    def split(self) -> pd.DataFrame:
        """Half of the training refs with their masks."""
        return split(self.refs, 50, seed=0)

    def samples(self, points: int, number: int = 40) -> Samples:
        """Contours of the first training refs."""
        rows = self.refs[self.refs["split"] == "train"].head(number)
        masks = [contour.decode(*row) for row in rows[["mask", "height", "width"]].itertuples(index=False, name=None)]
        targets = [contour.trace(mask, points) for mask in masks]
        return make_samples(rows, targets, self.inputs, self.vocabulary, TINY.bins, TINY.rounding)


def equal_states(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    """Whether two models hold the same weights to the bit."""
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def noisy(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A split table with made-up masks in its unlabelled rows."""
    random = np.random.default_rng(seed)
    masks = [
        mask if labelled else contour.encode(random.random((height, width)) < 0.5)
        for mask, labelled, height, width in zip(
            table["mask"], table["labelled"], table["height"], table["width"], strict=True
        )
    ]
    return table.assign(mask=masks)
