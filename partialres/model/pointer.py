"""The point-sequence model: predicts coordinate tokens one by one from image and expression (paper sec. 3).

B expressions · K image positions · T tokens (2N + 1) · D width
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialres.config import ModelConfig, TrainConfig
from partialres.data.batch import Batch
from partialres.data.inputs import Inputs
from partialres.data.samples import SequenceSamples, sequence_samples
from partialres.data.views import Window
from partialres.data.vocabulary import Vocabulary
from partialres.geometry import contour
from partialres.geometry.tokens import sequence_to_points
from partialres.model.attention import mlp
from partialres.model.cctf import pointed_features
from partialres.model.grounding import Answer, Grounding
from partialres.model.transformer import Memory


class PointModel(Grounding):
    """SeqTR's architecture with CCTF and PMCA; predicts boxes (N = 2) and contours as tokens, a bin or the end each."""

    def __init__(self, config: ModelConfig, words: int, points: int) -> None:
        super().__init__(config, words, points)
        self.coordinates = nn.Embedding(config.bins + 1, config.width)
        self.positions = nn.Embedding(2 * points + 1, config.width)
        self.start = nn.Parameter(torch.zeros(config.width), requires_grad=config.upstream.start == "learned")
        self.predictor = mlp(config.width, config.width, config.width, config.bins + 1)

    def samples(
        self, refs: pd.DataFrame, inputs: Inputs, words: Vocabulary,
        jitter: tuple[float, float] | None, sampling: contour.Sampling,
    ) -> SequenceSamples:  # fmt: skip
        """Make the training samples; see `sequence_samples`."""
        return sequence_samples(refs, inputs, words, self.config, jitter, sampling)

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits [B, T, bins + 1] of each token from the true tokens before it; needs batch.tokens."""
        assert batch.tokens is not None
        return self.logits(self.encode(batch), batch.tokens)

    def loss(self, logits: Tensor, batch: Batch, config: TrainConfig) -> Tensor:
        """Compute the weighted cross-entropy (`sequence_loss`) of `forward`'s logits; needs batch.tokens."""
        assert batch.tokens is not None
        return sequence_loss(logits, batch.tokens, config.smoothing, config.end_weight, config.first_weight)

    def embed(self, tokens: Tensor, memory: Memory, first: int = 0) -> Tensor:
        """Embed coordinate tokens [B, T] at places first, first + 1, ... of the sequence: [B, T, D].

        With CCTF, add to each the image features at its coordinate (eq. 3-5).
        """
        embedded = self.coordinates(tokens)
        if self.config.cctf:
            pointed = pointed_features(tokens, first, memory.means, self.config.bins, self.config.upstream)
            embedded = embedded + pointed.to(embedded.dtype)
        return embedded

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        """Compute the logits [B, T, bins + 1] of each token from the given tokens before it."""
        length = tokens.shape[1]
        x = content = torch.cat([self.start.expand(len(tokens), 1, -1), self.embed(tokens[:, :-1], memory)], 1)
        positions = self.positions.weight[:length]
        causal = torch.full((length, length), -torch.inf, dtype=x.dtype, device=x.device).triu(1)[None, None]
        for index, layer in enumerate(self.decoder):
            own = layer.self_attention.keys_values(x, positions)
            x = layer(x, content, positions, own, causal, memory, index)
        return self.predictor(self.decoder_norm(x))

    @torch.no_grad()
    def decode(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Decode 2N tokens greedily, caching keys and values so that the layers run once per token.

        All are coordinates, except that with end_token "anywhere" one may be the end; ignore those after it.
        Returns tokens int64 [B, 2N] and their probabilities float [B, 2N], over all bins and the end.
        """
        heads, length = self.config.heads, 2 * self.points
        content = self.start.expand(len(memory.features), 1, -1)  # the input before the next token, [B, 1, D]
        cache = content.new_empty(len(self.decoder), 2, len(content), heads, length, self.config.width // heads)
        tokens, probabilities = [], []
        for place in range(length):
            this = slice(place, place + 1)
            x, positions = content, self.positions.weight[this]
            for index, (layer, (keys, values)) in enumerate(zip(self.decoder, cache, strict=True)):  # [B, h, 2N, D/h]
                keys[:, :, this], values[:, :, this] = layer.self_attention.keys_values(x, positions)
                own = keys[:, :, : place + 1], values[:, :, : place + 1]
                x = layer(x, content, positions, own, None, memory, index)
            logits = self.predictor(self.decoder_norm(x))[:, 0].float()
            choices = logits[:, :-1] if self.config.upstream.end_token == "last" else logits
            token = choices.argmax(-1, keepdim=True)
            tokens.append(token)
            probabilities.append(logits.softmax(-1).gather(1, token))
            content = self.embed(token, memory, place)
        return torch.cat(tokens, 1), torch.cat(probabilities, 1)

    def answers(self, batch: Batch, windows: Sequence[Window]) -> list[Answer]:
        """Predict points for each expression. windows: B, the part of its image that each expression's input shows."""
        tokens, probabilities = self.decode(self.encode(batch))
        extents = np.stack([window.extent(self.config.upstream.span, self.visual.stride) for window in windows])
        points = sequence_to_points(tokens.cpu().numpy(), extents, self.config.bins)
        certain = probabilities.cpu().numpy().astype(np.float64)
        return [Answer(window.to_file(each), p) for window, each, p in zip(windows, points, certain, strict=True)]


def sequence_loss(logits: Tensor, tokens: Tensor, smoothing: float, end_weight: float, first_weight: float) -> Tensor:
    """Compute the cross-entropy of token sequences, smoothed and weighted as in the released code: a scalar.

    logits: [B, T, C]. tokens: int64 [B, T], each row ending with the end token (class C - 1). Smoothing gives the
    target 1 - smoothing and every other class smoothing / C. The end token has weight end_weight, the first token
    first_weight. The weighted sum over all tokens is divided by their number, B * T.
    """
    classes = logits.shape[-1]
    log_probability = F.log_softmax(logits.float(), -1)
    other = smoothing / classes
    of_target = log_probability.gather(-1, tokens[..., None])[..., 0]
    losses = -((1 - smoothing - other) * of_target + other * log_probability.sum(-1))
    weights = torch.where(tokens == classes - 1, end_weight, 1.0)
    weights[:, 0] = weights[:, 0] * first_weight
    return (losses * weights).sum() / tokens.numel()
