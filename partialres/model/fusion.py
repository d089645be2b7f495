"""Fusion of image and expression (paper eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from partialres.config import ModelConfig


class LanguageGate(nn.Module):
    """tanh(visual) * tanh(language) (eq. 1), then to the transformer's width.

    The language token, where there is one, is tanh(language) as one more position behind the image's: it shares their
    projection and the statistics of their normalisation.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.language_token = config.upstream.language_token
        self.conv = nn.Conv2d(config.fusion, config.width, 1)
        self.norm = nn.GroupNorm(min(32, config.width // 4), config.width)

    def forward(self, visual: Tensor, language: Tensor) -> Tensor:
        """visual [B, fusion, H, W], language [B, fusion] -> [B, K, width], K = H * W or with the token H * W + 1."""
        language = torch.tanh(language)[:, :, None]
        gated = visual.flatten(2) * language
        if self.language_token:
            gated = torch.cat([gated, language], 2)
        # A position's channels side by side: the sums and products of all layers inherit the layout.
        return self.norm(self.conv(gated[..., None])).flatten(2).transpose(1, 2).contiguous()
