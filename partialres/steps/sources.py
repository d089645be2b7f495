"""Where a model's words and images come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from partialres.data.inputs import Inputs
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError, read_json
from partialres.model.build import Model


@dataclass(frozen=True)
class Sources:
    """The files that a model's words and images are in."""

    vocabulary: Path  # vocabulary.json of `prepare`
    images: Path  # folder of `cache-images`
    features: Path | None  # folder of `cache-features`, for a wholly frozen visual part

    def words(self) -> Vocabulary:
        """Read the vocabulary."""
        return Vocabulary.from_json(read_json(self.vocabulary))

    def inputs(self, model: Model) -> Inputs:
        """Open the images as a model sees them; raises DataError if cached features are of other visual weights."""
        if model.config.view == "box":  # features are of whole images
            return Inputs(self.images, model.visual.stride)
        inputs = Inputs(self.images, model.visual.stride, self.features)
        if self.features and not model.visual.frozen:
            raise DataError(f"{self.features}: only a wholly frozen visual part has features (model.frozen: all)")
        if self.features and inputs.visual_digest != model.visual.digest():
            raise DataError(f"{self.features}: made by other visual weights than the model's; run cache-features again")
        return inputs
