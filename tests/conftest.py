"""A tiny generated data set, prepared once a session, and the smallest model that has every part."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings

from partialres.config import ModelConfig, TrainConfig
from partialres.data.batches import Inputs, Samples, make_samples
from partialres.data.images import cache_images
from partialres.data.refer import read_refs
from partialres.data.refshapes import RefshapesConfig, generate
from partialres.data.splits import split
from partialres.data.vocabulary import Vocabulary, build_vocabulary
from partialres.files import write_json, write_table
from partialres.geometry import contour
from partialres.model.pointer import PointModel

# Machines that run tests are busy with other things: how long one example takes says nothing.
settings.register_profile("partialres", deadline=None, max_examples=60)
settings.load_profile("partialres")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))

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


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """20 images of 64 x 48 to 64 x 64 pixels, upright and lying; 53 refs, 41 of them for training."""
    folder = tmp_path_factory.mktemp("prepared")
    raw = generate(RefshapesConfig(images=20, side=SIDE), folder / "raw")
    pictures = folder / "raw/images/train2014"
    refs, _ = read_refs(raw, pictures, "unc", on_problem="refuse")
    vocabulary = build_vocabulary(refs)
    cache_images(refs, pictures, folder / "images", SIDE)
    write_table(refs, folder / "refs.parquet")
    write_table(split(refs, 50, seed=0), folder / "split.parquet")
    write_json(vocabulary.to_json(), folder / "vocabulary.json")
    return Prepared(folder, raw, pictures, refs, vocabulary, Inputs(folder / "images", stride=16))


@pytest.fixture(scope="session")
def tiny_model(data: Prepared):
    """(points, seed, settings ...) -> a tiny model with random weights that knows the data set's words."""

    def make(points: int = 4, seed: int = 0, **changes) -> PointModel:
        torch.manual_seed(seed)
        return PointModel(replace(TINY, **changes), len(data.vocabulary), points).eval()

    return make


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
