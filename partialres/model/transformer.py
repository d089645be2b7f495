"""Encoder and decoder of the point-sequence model: post-norm, positions added to queries and keys in every layer.

B batch · K image positions (H * W, language token included where there is one) · T tokens · D width · h heads
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialres.config import ModelConfig


@dataclass
class Memory:
    """What the decoder looks at: the encoder's output, projected for every decoder layer once a sequence."""

    features: Tensor  # [B, K, D]: row by row, then the language token where there is one
    positions: Tensor  # [B, K, D]: added to the features for the keys
    keys: list[Tensor]  # a layer: [B, h, K, D/h]
    values: list[Tensor]  # a layer: [B, h, K, D/h]
    bias: Tensor  # [B, 1, 1, K]: 0, or -inf at padded positions
    centres: tuple[Tensor, Tensor]  # x [W] of each column's and y [H] of each row's middle, in units of the frame
    extent: Tensor  # [B, 2]: width and height of the image in units of the frame
    cells: Tensor  # [2]: W and H
    columns: Tensor  # [B, W, D]: mean over height (eq. 3)
    rows: Tensor  # [B, H, D]: mean over width


@dataclass
class DecodingCache:
    """Keys and values of the tokens decoded so far, a layer: [B, h, T, D/h], filled from the left."""

    keys: list[Tensor]
    values: list[Tensor]
    length: int = 0


def sine_positions(valid: Tensor, width: int) -> Tensor:
    """2-D sine positions, normalised to the valid part of each image (as DETR).

    valid: bool [B, H, W], true inside the image. Returns [B, H * W, width]: half of it for y, half for x.
    """
    ones = valid.to(torch.float32)
    down, right = ones.cumsum(1), ones.cumsum(2)
    down = down / (down[:, -1:, :] + 1e-6) * (2 * math.pi)
    right = right / (right[:, :, -1:] + 1e-6) * (2 * math.pi)
    half = width // 2
    index = torch.arange(half, dtype=torch.float32, device=valid.device)
    period = 10000 ** (2 * (index // 2) / half)
    parts = []
    for axis in (down, right):
        angle = axis[..., None] / period
        parts.append(torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], -1).flatten(-2))
    return torch.cat(parts, -1).flatten(1, 2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, T, D] -> [B, h, T, D/h]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def project(layer: nn.Linear, x: Tensor, heads: int) -> Tensor:
    """x [B, K, D] -> [B, h, K, D/h], a head's positions side by side in memory."""
    return split_heads(layer(x), heads).contiguous()


def project_across(layer: nn.Linear, x: Tensor, heads: int) -> Tensor:
    """The same as `project`, with a component of all positions side by side in memory."""
    weight = layer.weight.expand(len(x), -1, -1)
    across = torch.baddbmm(layer.bias[:, None], weight, x.transpose(1, 2))
    return across.unflatten(1, (heads, -1)).transpose(-1, -2)


def dropped(x: Tensor, share: float) -> Tensor:
    """Dropout: `share` of x at random set to 0, the rest divided by 1 - share.

    On a CPU 16 random bits decide each, where `bernoulli_` draws two words of 32 for it and takes four times as long.
    """
    if x.device.type != "cpu":
        return F.dropout(x, share)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = (words.view(torch.int16)[: x.numel()] >= round(share * 2**16) - 2**15).view(x.shape)
    return x * kept * (1 / (1 - share))


def attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """Attention of [B, h, T, D/h] over [B, h, K, D/h], bias [B or 1, h or 1, T or 1, K] added -> [B, T, D]."""
    learned = bias is not None and bias.requires_grad
    if query.device.type == "cpu" and (dropout or learned or query.shape[2] == 1):  # slow in the fused form there
        scores = query / math.sqrt(query.shape[-1]) @ keys.transpose(-1, -2)
        weights = (scores if bias is None else scores.add_(bias)).softmax(-1)
        mixed = (dropped(weights, dropout) if dropout else weights) @ values
    else:
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, dropout_p=dropout)
    return mixed.transpose(1, 2).flatten(2)


class Dropout(nn.Dropout):
    """`dropped` in training."""

    def forward(self, x: Tensor) -> Tensor:
        return dropped(x, self.p) if self.training and self.p else x


class Attention(nn.Module):
    """The four projections of multi-head attention; queries and keys see positions, values do not."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out.bias)

    def keys_values(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """x and positions [B, K, D] -> keys, values, each [B, h, K, D/h], views of [B, K, D]."""
        return split_heads(self.key(x + positions), self.heads), split_heads(self.value(x), self.heads)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """x [B, T, D] with its positions added -> [B, T, D]."""
        query = split_heads(self.query(x), self.heads)
        return self.out(attend(query, keys, values, bias, self.dropout if self.training else 0.0))


class FeedForward(nn.Module):
    """Linear, ReLU, dropout, linear: [.., D] -> [.., D]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.inner = nn.Linear(config.width, config.feedforward)
        self.outer = nn.Linear(config.feedforward, config.width)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.dropout(F.relu(self.inner(x))))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each added and normalised after."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.feedforward = FeedForward(config)
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, positions: Tensor, bias: Tensor) -> Tensor:
        """x, positions [B, K, D], bias [B, 1, 1, K] -> [B, K, D]."""
        keys, values = self.attention.keys_values(x, positions)
        x = self.norm1(x + self.dropout(self.attention(x + positions, keys, values, bias)))
        return self.norm2(x + self.dropout(self.feedforward(x)))


class PointPrior(nn.Module):
    """The Gaussian prior of point-modulated cross-attention (paper eq. 6-7, after SMCA-DETR).

    A three-layer MLP gives for each query and head a centre and a scale; log G is added to the attention scores. The
    last layer starts at zero: centre in the middle, scale one, so that training starts from almost plain attention.

    The released form multiplies by the square of the raw scale instead, with distances in feature cells and the centre
    within the image's part of the frame. There a scale of zero has no gradient and would stay: weights start at random.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.sigma, self.form = config.heads, config.pmca_sigma, config.pmca_scale
        hidden = config.width // 2, config.width // 4
        self.locate = nn.Sequential(
            nn.Linear(config.width, hidden[0]), nn.ReLU(),
            nn.Linear(hidden[0], hidden[1]), nn.ReLU(),
            (last := nn.Linear(hidden[1], 4 * config.heads)),
        )  # fmt: skip
        if self.form == "divide":
            nn.init.zeros_(last.weight)
        else:
            nn.init.xavier_uniform_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, query: Tensor, memory: Memory) -> Tensor:
        """query [B, T, D] -> log G [B, h, T, K], at most 0; 0 for the language token."""
        raw = split_heads(self.locate(query), self.heads).float()  # [B, h, T, 4]
        centre, scale = raw[..., :2].sigmoid(), raw[..., 2:]
        if self.form == "divide":
            # exp(-(u-c)^2 / (sigma s^2)) needs s > 0: softplus shifted to give one at zero
            weight = 1 / (self.sigma * F.softplus(scale + math.log(math.e - 1)).square() + 1e-4)
        else:
            centre = centre * memory.extent[:, None, None]
            weight = (scale * memory.cells).square() / self.sigma
        prior = _log_gaussian(centre, weight, memory.centres)
        extra = memory.features.shape[1] - prior.shape[-1]
        return F.pad(prior, (0, extra)) if extra else prior  # a pad of nothing is a copy


def _log_gaussian(centre: Tensor, weight: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
    """-sum over axes of weight (place - centre)^2: centre, weight [B, h, T, 2], places [W], [H] -> [B, h, T, H * W].

    The axes are squared apart and meet in one addition: the map itself is the only thing of its size.
    """
    along_x, along_y = (
        -weight[..., axis, None] * (place - centre[..., axis, None]).square() for axis, place in enumerate(places)
    )
    return (along_y[..., :, None] + along_x[..., None, :]).flatten(-2)


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention (point-modulated with PMCA) and feed-forward, post-norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attention = Attention(config)
        self.cross_attention = Attention(config)
        self.prior = PointPrior(config) if config.pmca else None
        self.feedforward = FeedForward(config)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(config.width) for _ in range(3))
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Tensor, positions: Tensor, own: tuple[Tensor, Tensor], causal: Tensor | None, memory: Memory,
        layer: int,
    ) -> Tensor:  # fmt: skip
        """x [B, T, D], positions [T, D], own: keys and values of the tokens up to these -> [B, T, D]."""
        x = self.norm1(x + self.dropout(self.self_attention(x + positions, *own, causal)))
        bias = memory.bias
        if self.prior is not None:
            bias = self.prior(x, memory).add_(bias)
        seen = self.cross_attention(x + positions, memory.keys[layer], memory.values[layer], bias.to(x.dtype))
        x = self.norm2(x + self.dropout(seen))
        return self.norm3(x + self.dropout(self.feedforward(x)))
