"""The parts that the two heads share: backbone, language encoder, fusion, encoder and decoder layers.

I images · B expressions · L words · H, W positions that the batch keeps of the frame's F, F · D width
K = H * W (+ 1 language token)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialres.config import ModelConfig
from partialres.data.batch import Batch
from partialres.geometry.rle import Rle
from partialres.model.attention import project
from partialres.model.cctf import axis_means
from partialres.model.fusion import LanguageGate
from partialres.model.language import LanguageEncoder
from partialres.model.pmca import Grid
from partialres.model.transformer import DecoderLayer, EncoderLayer, Memory, sine_positions
from partialres.model.visual import Visual


class Answer(NamedTuple):
    """A model's prediction for one expression."""

    points: np.ndarray  # float64 [N, 2], pixels of the image file; from a mask head, the corners of its box
    probabilities: np.ndarray  # float64 [2N], of each token when it was chosen; empty from a mask head
    mask: Rle | None = None  # from a mask head in steps 2 and 3, at the image file's size


class Grounding(nn.Module):
    """Base of both models: encodes image and expression together; a subclass adds the output head."""

    def __init__(self, config: ModelConfig, words: int, points: int) -> None:
        """words: size of the vocabulary, padding and unknown word included. points: N, two for a box."""
        super().__init__()
        self.config, self.points = config, points
        self.visual = Visual(config)
        self.language = LanguageEncoder(config, words)
        self.gate = LanguageGate(config)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder: Sequence[DecoderLayer] = layers  # type: ignore[assignment]
        self.decoder_norm = nn.LayerNorm(config.width)

    def encode(self, batch: Batch) -> Memory:
        """Encode images and expressions. The visual part runs once per image, not once per expression."""
        seen = batch.images
        visual = seen.float() if seen.is_floating_point() else self.visual(seen, batch.valid if batch.padded else None)
        assert batch.lengths is not None
        height, width = visual.shape[2:]
        kept = batch.valid[:, :height, :width]  # [I, H, W]
        framed, valid = batch.valid[batch.image_index], kept[batch.image_index]  # [B, F, F], [B, H, W]
        x = self.gate(visual[batch.image_index], self.language(batch.words, batch.lengths), valid)  # [B, K, D]
        upstream = self.config.upstream
        in_frame = (upstream.span, upstream.padding) == ("frame", "ignored")
        frame = (framed.shape[1], framed.shape[2]) if in_frame else None
        positions = sine_positions(kept, self.config.width, frame)[batch.image_index]  # [B, H * W, D]
        bias = torch.zeros(valid.shape, dtype=x.dtype, device=x.device).masked_fill(~valid, -torch.inf)
        extra = x.shape[1] - positions.shape[1]  # the language token is never masked and has no position
        bias, positions = F.pad(bias.flatten(1)[:, None, None, :], (0, extra)), F.pad(positions, (0, 0, 0, extra))
        for layer in self.encoder:
            x = layer(x, positions, bias)
        keys, values = self.keys_values(x, positions)
        counted = framed if upstream.cctf_means == "image" else torch.ones_like(framed)
        means = axis_means(x[:, : height * width].unflatten(1, (height, width)), counted)
        return Memory(x, positions, keys, values, bias, Grid.of(framed, height, width), means)

    def keys_values(self, features: Tensor, positions: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Project features and positions [B, K, D] to every decoder layer's keys and values, each [B, h, K, D/h]."""
        placed, attentions = features + positions, [layer.cross_attention for layer in self.decoder]
        keys = [project(attention.key, placed, attention.heads) for attention in attentions]
        return keys, [project(attention.value, features, attention.heads) for attention in attentions]
