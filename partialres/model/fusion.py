"""Fusion of image and expression (paper eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from partialres.config import ModelConfig


class LanguageGate(nn.Module):
    """Multiplies tanh(visual) by tanh(language) (eq. 1) and projects the product to the transformer's width.

    With a language token, tanh(language) follows the image positions as one more position, and goes through the same
    projection and normalisation.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.language_token = config.upstream.language_token
        self.conv = nn.Conv2d(config.fusion, config.width, 1)
        self.norm = nn.GroupNorm(min(32, config.width // 4), config.width)

    def forward(self, visual: Tensor, language: Tensor) -> Tensor:
        """Fuse visual [B, fusion, H, W], after tanh, with language [B, fusion]: [B, K, width], K = H * W (+ token)."""
        language = torch.tanh(language)[:, :, None]
        gated = visual.flatten(2) * language
        if self.language_token:
            gated = torch.cat([gated, language], 2)
        # Put each position's channels side by side in memory; all later layers inherit this layout.
        return self.norm(self.conv(gated[..., None])).flatten(2).transpose(1, 2).contiguous()
