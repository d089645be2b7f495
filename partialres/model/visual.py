"""The visual part, which sees only the image: the backbone, and the neck that merges its three maps."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialres.config import PREFIX, ModelConfig
from partialres.model.darknet import ConvBlock, DarkNet, darknet53, tiny
from partialres.model.timm_backbone import TimmBackbone


def build_backbone(name: str) -> DarkNet | TimmBackbone:
    """Build the backbone that `model.backbone` names; raises ConfigError if timm has no such network."""
    return TimmBackbone(name) if name.startswith(PREFIX) else {"darknet53": darknet53, "tiny": tiny}[name]()


class VisualNeck(nn.Module):
    """Pools the maps to the coarsest one's stride and merges them: the visual half of SeqTR's bottom-up fusion."""

    def __init__(self, channels: list[int], out: int) -> None:
        """channels: those of the three maps, fine to coarse. out: channels of the merged map."""
        super().__init__()
        fine, middle, coarse = channels
        self.to_middle = ConvBlock(fine, fine)
        self.to_coarse = ConvBlock(fine + middle, fine + middle)
        self.mix = ConvBlock(fine + middle + coarse, fine + middle + coarse)
        self.project = ConvBlock(fine + middle + coarse, out, kernel=1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Merge three maps [B, C_i, H_i, W_i], fine to coarse: [B, out, H, W] at the coarsest stride."""
        fine, middle, coarse = maps
        middle = torch.cat([self.to_middle(F.avg_pool2d(fine, 2)), middle], 1)
        coarse = torch.cat([self.to_coarse(F.avg_pool2d(middle, 2)), coarse], 1)
        return self.project(self.mix(coarse))


class Visual(nn.Module):
    """Backbone and neck, run once per image however many expressions refer to it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.frozen = config.frozen == "all"
        self.backbone = build_backbone(config.backbone)
        self.backbone.freeze(config.frozen)
        self.stride = self.backbone.stride  # pixels per output position
        self.neck = VisualNeck(self.backbone.channels, config.fusion)
        if self.frozen:
            self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images uint8 [I, S, S, 3], RGB, to tanh of the neck's output, [I, fusion, S / stride, S / stride]."""
        pixels = (images.permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return torch.tanh(self.neck(self.backbone(pixels)))

    def digest(self) -> str:
        """Digest the weights, to check that cached features are used only with the weights that made them."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]
