"""Open the vocabulary, images and cached features that a model needs."""

from dataclasses import dataclass
from pathlib import Path

from partialres.checkpoints.model_file import read_header
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

    def inputs(self, model: Model, weights: Path | None = None) -> Inputs:
        """Open the images as a model sees them. weights: the file of a model that is only used, not trained.

        Raises DataError if cached features are of other visual weights, or such a model was trained on another size.
        """
        framed = model.config.upstream.whole_frames
        features = None if model.config.view == "box" or framed else self.features  # features are of images alone
        inputs = Inputs(self.images, model.visual.stride, features, framed)
        if weights and (size := read_header(weights)["image_size"]) != inputs.size:
            raise DataError(
                f"{weights}: was trained on images of {size} pixels, those in {self.images} have {inputs.size}; "
                f"cache them again (cache-images --size {size})"
            )
        if features and not model.visual.frozen:
            raise DataError(f"{self.features}: only a wholly frozen visual part has features (model.frozen: all)")
        if features and inputs.visual_digest != model.visual.digest():
            raise DataError(f"{self.features}: not made with the model's visual weights; run cache-features again")
        return inputs
