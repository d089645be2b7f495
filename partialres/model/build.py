"""Build the model that a config describes, with either head."""

from __future__ import annotations

from partialres.config import ModelConfig
from partialres.model.mask_head import MaskHeadModel
from partialres.model.pointer import PointModel

# Both have the methods samples (makes training samples), forward, loss and answers.
Model = PointModel | MaskHeadModel


def build_model(config: ModelConfig, words: int, points: int) -> Model:
    """Build the model with the config's head and random weights.

    words: size of the vocabulary, padding and unknown word included. points: N; 2, a box, in step 1 of either head.
    """
    return (PointModel if config.head == "points" else MaskHeadModel)(config, words, points)
