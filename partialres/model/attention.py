"""Multi-head attention, the feed-forward network and the small perceptrons of the output heads.

B batch · T queries · K keys · D width · h heads
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialres.config import ModelConfig
from partialres.model import cpu


def mlp(*widths: int) -> nn.Sequential:
    """Build linear layers from each width to the next, with ReLU between them."""
    layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Split the last axis among the heads: [B, T, D] -> [B, h, T, D/h]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def project(layer: nn.Linear, x: Tensor, heads: int) -> Tensor:
    """Project x [B, K, D] -> [B, h, K, D/h], in a memory layout that decoding reads fast once per token."""
    if x.device.type != "cpu":
        return split_heads(layer(x), heads).contiguous()
    # A CPU reads fastest if each component's values at all positions are adjacent.
    across = torch.baddbmm(layer.bias[:, None], layer.weight.expand(len(x), -1, -1), x.transpose(1, 2))
    return across.unflatten(1, (heads, -1)).transpose(-1, -2)


class Attention(nn.Module):
    """Multi-head attention with its four projections; positions are added to queries and keys, not to values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.query, self.key, self.value, self.out = (nn.Linear(config.width, config.width) for _ in range(4))

    def reset_parameters(self) -> None:
        """Set the initial values that differ from a linear layer's."""
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out.bias)

    def keys_values(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Project x and positions [B, K, D] to keys and values, each [B, h, K, D/h], a view of [B, K, D]."""
        return split_heads(self.key(x + positions), self.heads), split_heads(self.value(x), self.heads)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Attend from x [B, T, D], positions included: [B, T, D]. bias is added to the scores, [B|1, h|1, T|1, K]."""
        query = split_heads(self.query(x), self.heads)
        mixed = cpu.attend(query, keys, values, bias, self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Linear, ReLU, dropout, linear: [.., D] -> [.., D]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.inner = nn.Linear(config.width, config.feedforward)
        self.outer = nn.Linear(config.feedforward, config.width)
        self.dropout = cpu.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.dropout(F.relu(self.inner(x))))
