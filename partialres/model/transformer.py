"""Layers of the encoder and decoder: post-norm; positions are added to queries and keys in every layer.

B batch · K image positions (H * W, + 1 language token) · T tokens · D width · h heads
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from partialres.config import ModelConfig
from partialres.model.attention import Attention, FeedForward
from partialres.model.cctf import AxisMeans
from partialres.model.cpu import Dropout
from partialres.model.pmca import Grid, PointPrior


@dataclass
class Memory:
    """Everything that the decoder attends to, with keys and values computed once per sequence."""

    features: Tensor  # [B, K, D]: the encoder's output, row by row, then the language token if there is one
    positions: Tensor  # [B, K, D]: added to the features before the keys are projected
    keys: list[Tensor]  # one per decoder layer: [B, h, K, D/h]
    values: list[Tensor]  # one per decoder layer: [B, h, K, D/h]
    bias: Tensor  # [B, 1, 1, K]: 0, or -inf at padded positions
    grid: Grid  # coordinates of the image positions, for PMCA
    means: AxisMeans  # mean features of the frame's columns and rows, for CCTF


def sine_positions(valid: Tensor, width: int, frame: tuple[int, int] | None = None) -> Tensor:
    """Compute 2-D sine position encodings in units of the frame or, as in DETR, of each image.

    valid: bool [B, H, W], true inside the image. frame: its rows and columns; None: units of each image.
    Returns [B, H * W, width]: first y's half of the channels, then x's.
    """
    down, right = (valid.float().cumsum(axis) for axis in (1, 2))
    rows, columns = frame or (down[:, -1:], right[:, :, -1:])
    places = torch.stack([down / (rows + 1e-6), right / (columns + 1e-6)], -1) * (2 * math.pi)
    period = 10000 ** (4 * torch.arange(width // 4, device=valid.device) / width)
    angles = places[..., None] / period  # [B, H, W, 2, width / 4]
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-3).flatten(1, 2)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each followed by residual addition and normalisation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.feedforward = FeedForward(config)
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, positions: Tensor, bias: Tensor) -> Tensor:
        """Encode x [B, K, D] with positions [B, K, D] and attention bias [B, 1, 1, K]: [B, K, D]."""
        keys, values = self.attention.keys_values(x, positions)
        x = self.norm1(x + self.dropout(self.attention(x + positions, keys, values, bias)))
        return self.norm2(x + self.dropout(self.feedforward(x)))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention (with PMCA's prior if config.pmca) and a feed-forward network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attention = Attention(config)
        self.cross_attention = Attention(config)
        self.prior = PointPrior(config) if config.pmca else None
        self.feedforward = FeedForward(config)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(config.width) for _ in range(3))
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Tensor, content: Tensor, positions: Tensor, own: tuple[Tensor, Tensor], causal: Tensor | None,
        memory: Memory, layer: int,
    ) -> Tensor:  # fmt: skip
        """x [B, T, D], positions [T, D], own: keys and values of the tokens up to these -> [B, T, D].

        content [B, T, D]: what x was before the first layer, for PMCA.
        """
        x = self.norm1(x + self.dropout(self.self_attention(x + positions, *own, causal)))
        bias = memory.bias
        if self.prior is not None:
            bias = self.prior(content, x, memory.grid, memory.features.shape[1]).add_(bias)
        seen = self.cross_attention(x + positions, memory.keys[layer], memory.values[layer], bias.to(x.dtype))
        x = self.norm2(x + self.dropout(seen))
        return self.norm3(x + self.dropout(self.feedforward(x)))
