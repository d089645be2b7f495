"""Settings, data and models with every part, as small as possible, for the tests of all modules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from partialres.config import ModelConfig, TrainConfig, UpstreamConfig
from partialres.data.inputs import Inputs
from partialres.data.samples import SequenceSamples, sequence_samples
from partialres.data.splits import split
from partialres.data.views import Window
from partialres.data.vocabulary import Vocabulary
from partialres.geometry import contour
from partialres.model.darknet import DarkNet

SIDE = 64  # pixels: four positions of the tiny backbone per side
TINY = ModelConfig(
    backbone="tiny", frozen="all", fusion=16, language=8, word=8, freeze_words=False, width=16, heads=2,
    encoder_layers=1, decoder_layers=1, feedforward=16, dropout=0.1, bins=32,
)  # fmt: skip
SHORT = TrainConfig(epochs=4, batch=16, learning_rate=5e-3, warmup_epochs=1, ema=0.9)
RELEASED = UpstreamConfig(
    padded_words=15, rounding="truncate", span="image", language_token=True, cctf_axes="transposed",
    cctf_cells="spread", cctf_means="frame", padding="counts", pmca_scale="raw", pmca_reads="query", start="learned",
    end_token="anywhere",
)  # fmt: skip


def changed(config: ModelConfig, **changes: Any) -> ModelConfig:
    """Change a model's settings; those of its section `upstream` are given by their names alone."""
    upstream = {name: changes.pop(name) for name in [*changes] if name in UpstreamConfig.model_fields}
    return config.replace(upstream=config.upstream.replace(**upstream)).replace(**changes)


@dataclass(frozen=True)
class Prepared:
    """A data set after prepare, cache-images and split, in memory and on disk."""

    folder: Path  # refs.parquet, vocabulary.json, images/, split.parquet
    raw: Path  # instances.json and refs(unc).p
    pictures: Path
    refs: pd.DataFrame
    vocabulary: Vocabulary
    inputs: Inputs

    @property
    def split(self) -> pd.DataFrame:
        """The training refs; half of them have masks."""
        return split(self.refs, 50, seed=0)

    @property
    def train(self) -> pd.DataFrame:
        """The training refs with all masks."""
        return self.refs[self.refs["split"] == "train"].reset_index(drop=True)

    def samples(self, refs: pd.DataFrame, model: ModelConfig = TINY, **how: Any) -> SequenceSamples:
        """Make samples of refs that have a column `points`."""
        return sequence_samples(refs, self.inputs, self.vocabulary, model, **how)

    def contours(self, points: int, number: int = 40) -> SequenceSamples:
        """Make samples from the contours of the first training refs."""
        refs = self.train.head(number)
        return self.samples(refs.assign(points=[contour.trace(mask, points) for mask in masks_of(refs)]))


def masks_of(refs: pd.DataFrame) -> list[np.ndarray]:
    """Decode the refs' masks: bool [height, width] for each."""
    return [contour.decode(*ref) for ref in refs[["mask", "height", "width"]].itertuples(index=False, name=None)]


def shown(window: Window, mask: np.ndarray) -> np.ndarray:
    """Cut a window from a mask of the whole image at any size: bool [height, width], by nearest pixels."""
    resized = cv2.resize(mask.astype(np.uint8), window.resized[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    (height, width), (x, y) = window.shape, window.offset
    return resized[y : y + height, x : x + width].astype(bool)


def equal_states(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    """Whether two models have the same weights, bit by bit."""
    return equal_tensors(first.state_dict(), second.state_dict())


def equal_tensors(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are the same, bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def noisy(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Put made-up masks into the unlabelled rows of a split table."""
    random = np.random.default_rng(seed)
    masks = [
        mask if labelled else contour.encode(random.random((height, width)) < 0.5)
        for mask, labelled, height, width in zip(
            table["mask"], table["labelled"], table["height"], table["width"], strict=True
        )
    ]
    return table.assign(mask=masks)


def write_weights(backbone: DarkNet, path: Path, *, convolutions: int | None = None) -> None:
    """Write a backbone's convolutions, or only the first of them, as a .weights file of version 0.2."""
    with path.open("wb") as stream:
        stream.write(np.array([0, 2, 0, 0, 0], dtype="<i4").tobytes())  # version 0.2.0, no image seen
        for unit in backbone.convolutions()[:convolutions]:
            for tensor in (unit.bn.bias, unit.bn.weight, unit.bn.running_mean, unit.bn.running_var, unit.conv.weight):
                stream.write(tensor.detach().cpu().contiguous().numpy().astype("<f4").tobytes())
