"""The model that a config describes, whatever its head."""

from __future__ import annotations

from partialres.config import ModelConfig
from partialres.model.mask_head import MaskHeadModel
from partialres.model.pointer import PointModel

# Both have samples (what they train on), forward, loss and answers.
Model = PointModel | MaskHeadModel


def build_model(config: ModelConfig, words: int, points: int) -> Model:
    """Build the model with the config's head and random weights.

    words: size of the vocabulary with padding and unknown. points: N; two in step 1, for a box, whatever the head.
    """
    return (PointModel if config.head == "points" else MaskHeadModel)(config, words, points)
