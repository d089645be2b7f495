"""Open the vocabulary, images and cached features that a model needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from partialres.data.inputs import Inputs
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError, read_json
from partialres.model.build import Model


@dataclass(frozen=True)
class Sources:
    """Paths of a model's vocabulary, images and cached features."""

    vocabulary: Path  # vocabulary.json written by `prepare`
    images: Path  # folder written by `cache-images`
    features: Path | None  # folder written by `cache-features`, for a wholly frozen visual part

    def words(self) -> Vocabulary:
        """Read the vocabulary."""
        return Vocabulary.from_json(read_json(self.vocabulary))

    def inputs(self, model: Model) -> Inputs:
        """Open the model's input images or features; raises DataError if other weights made the cached features."""
        if model.config.view == "box":  # features are of whole images
            return Inputs(self.images, model.visual.stride)
        inputs = Inputs(self.images, model.visual.stride, self.features)
        if self.features and not model.visual.frozen:
            raise DataError(f"{self.features}: only a wholly frozen visual part has features (model.frozen: all)")
        if self.features and inputs.visual_digest != model.visual.digest():
            raise DataError(f"{self.features}: not made with the model's visual weights; run cache-features again")
        return inputs
