"""The visual part, which sees only the image: the backbone, and the neck that merges its three maps."""

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


def sees_beyond(layer: nn.Module) -> bool:
    """Tell whether a layer is a convolution whose outputs depend on more than the same position."""
    layer = layer.conv if isinstance(layer, ConvBlock) else layer  # a ConvBlock never calls its `conv`
    return isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)


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
        self._inside: Tensor | None = None  # float [I, 1, H, W]: 0 in the padding of the images that are seen
        if config.upstream.padding == "ignored":
            for layer in filter(sees_beyond, self.modules()):
                layer.register_forward_pre_hook(self._without_padding)

    def forward(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map images uint8 [I, H * stride, W * stride, 3], RGB, to tanh of the neck's output, [I, fusion, H, W].

        valid: bool [I, F, F] as in `Batch`, if some of the H x W positions are padding: every convolution then reads
        zeros there, as it does beyond an image's border. None: no padding.
        """
        height, width = images.shape[1] // self.stride, images.shape[2] // self.stride
        self._inside = None if valid is None else valid[:, None, :height, :width].float()
        pixels = (images.permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = torch.tanh(self.neck(self.backbone(pixels)))
        self._inside = None  # of these images alone
        return features

    def _without_padding(self, layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        """Set a convolution's input to 0 in the padding, so that an image's features are those it has without."""
        if self._inside is None:
            return None
        (x,) = inputs
        return (x * F.interpolate(self._inside, x.shape[2:]).to(x.dtype),)

    def digest(self) -> str:
        """Digest the weights, to check that cached features are used only with the weights that made them."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]
