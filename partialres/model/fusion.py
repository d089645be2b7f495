"""From three visual maps to one, and from one to the encoder's input: pooling, concatenation and the language gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialres.config import ModelConfig
from partialres.model.darknet import ConvBlock


class VisualNeck(nn.Module):
    """Brings the maps to the coarsest one's stride and mixes them (SeqTR's bottom-up fusion, the purely visual part).

    Independent of the expression: once an image is enough, however many expressions it has.
    """

    def __init__(self, channels: list[int], out: int) -> None:
        """channels: of the three maps, fine to coarse."""
        super().__init__()
        fine, middle, coarse = channels
        self.to_middle = ConvBlock(fine, fine)
        self.to_coarse = ConvBlock(fine + middle, fine + middle)
        self.mix = ConvBlock(fine + middle + coarse, fine + middle + coarse)
        self.project = ConvBlock(fine + middle + coarse, out, kernel=1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Three maps [B, C_i, H_i, W_i], fine to coarse -> [B, out, H, W] at the coarsest stride."""
        fine, middle, coarse = maps
        middle = torch.cat([self.to_middle(F.avg_pool2d(fine, 2)), middle], 1)
        coarse = torch.cat([self.to_coarse(F.avg_pool2d(middle, 2)), coarse], 1)
        return self.project(self.mix(coarse))


class LanguageGate(nn.Module):
    """tanh(visual) * tanh(language) (eq. 1), then to the transformer's width.

    The language token, where there is one, is tanh(language) as one more position behind the image's: it shares their
    projection and the statistics of their normalisation.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.language_token = config.language_token
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
