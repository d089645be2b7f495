"""Build the model that a config describes, with either head."""

import zlib

import torch
from torch import nn

from partialres.config import ModelConfig
from partialres.model.mask_head import MaskHeadModel
from partialres.model.pointer import PointModel

# Both have the methods samples (makes training samples), forward, loss and answers.
Model = PointModel | MaskHeadModel


def build_model(config: ModelConfig, words: int, points: int, seed: int = 0) -> Model:
    """Build the model with the config's head and random weights (see `initialise`).

    words: size of the vocabulary, padding and unknown word included. points: N; 2, a box, in step 1 of either head.
    """
    model = (PointModel if config.head == "points" else MaskHeadModel)(config, words, points)
    initialise(model, seed)
    return model


def initialise(model: nn.Module, seed: int) -> None:
    """Draw each module's initial values from a generator of its own, seeded with the seed and the module's name.

    Models that differ in one part thus start with equal values, to the bit, in all other parts.
    """
    with torch.random.fork_rng(devices=[]):
        for name, module in reversed(list(model.named_modules())):  # children first: a parent may set them anew
            if hasattr(module, "reset_parameters"):
                torch.manual_seed(zlib.crc32(f"{seed} {name}".encode()))
                module.reset_parameters()
