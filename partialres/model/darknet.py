"""Visual backbones: DarkNet-53 (YOLOv3's, as in the paper) and a tiny one for generated images of 100 to 200 pixels.

Every backbone, those of timm_backbone.py too, is a module with

    channels: list[int]                     channels of its three maps, fine to coarse
    stride: int                             pixels per position of the coarsest map; the others have half and a quarter
    forward(pixels) -> list[Tensor]         RGB [B, 3, H, W] in [0, 1], which it normalises as it was trained, to maps
    freeze(frozen)                          keep weights fixed, as `model.frozen` says

and keeps its frozen layers in evaluation mode in `train`. Its convolutions must be called as modules, `ConvBlock` or
`nn.Conv2d`, so that `Visual` can hide the padding of smaller images in a batch from them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialres.model import cpu

LEAK = 0.1  # slope of DarkNet's leaky ReLU


class ConvBlock(nn.Module):
    """Convolution, batch norm, leaky ReLU: DarkNet's unit. [B, in, H, W] -> [B, out, H / stride, W / stride]."""

    def __init__(self, channels: int, out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self._kept: tuple[tuple[int, ...], Tensor, Tensor] | None = None  # last result of `_folded`, with its key

    def train(self, mode: bool = True) -> ConvBlock:
        """Keep a frozen unit in evaluation mode, so that its running batch statistics do not change either."""
        return super().train(mode and self.conv.weight.requires_grad)

    def forward(self, x: Tensor) -> Tensor:
        by_tiles = cpu.winograd_pays(x, self.conv)
        if self.bn.training:
            convolve = cpu.WinogradConvolution.apply if by_tiles else self._convolve
            return F.leaky_relu(self.bn(convolve(x, self.conv.weight)), LEAK)
        kernel, shift = self._folded(by_tiles)
        if by_tiles:
            return F.leaky_relu_(cpu.convolve(x, kernel) + shift[:, None, None], LEAK)
        return F.leaky_relu_(self._convolve(x, kernel, shift), LEAK)

    def _convolve(self, x: Tensor, kernel: Tensor, shift: Tensor | None = None) -> Tensor:
        return F.conv2d(x, kernel, shift, self.conv.stride, self.conv.padding)

    def _folded(self, by_tiles: bool) -> tuple[Tensor, Tensor]:
        """Fold batch norm with its running statistics into the convolution; return the kernel and the shift [out].

        by_tiles: return the kernel as `cpu.convolve` needs it, not [out, in, k, k]. A frozen unit's result is cached.
        """
        mean, variance = self.bn.running_mean, self.bn.running_var
        assert mean is not None and variance is not None
        parts = (self.conv.weight, self.bn.weight, self.bn.bias, mean, variance)
        key = (int(by_tiles), *(part._version for part in parts), *(part.data_ptr() for part in parts))
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1:]
        scale = self.bn.weight * torch.rsqrt(variance + self.bn.eps)
        kernel, shift = self.conv.weight * scale[:, None, None, None], self.bn.bias - mean * scale
        if by_tiles:
            kernel = cpu.transformed(kernel).transpose(1, 2)
        if not kernel.requires_grad:
            self._kept = (key, kernel, shift)
        return kernel, shift


class Residual(nn.Module):
    """Adds to x its 1 x 1 convolution, which halves the channels, followed by a 3 x 3 one, which restores them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBlock(channels, channels // 2, kernel=1)
        self.conv2 = ConvBlock(channels // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x))


class DarkNet(nn.Module):
    """A stem and stages, each a stride-2 convolution and residual blocks; returns the last three stages' maps.

    YOLOv3's first detection block may follow the last stage: pairs of a 1 x 1 convolution that halves the channels and
    a 3 x 3 one that restores them, without residuals.
    """

    def __init__(self, stem: int, stages: list[tuple[int, int]], stem_stride: int = 1, pairs: int = 0) -> None:
        """stem: its channels. stages: (channels, residual blocks), three or more. pairs: number in detection block."""
        super().__init__()
        self.stem = ConvBlock(3, stem, stride=stem_stride)
        inputs = [stem, *(channels for channels, _ in stages)]
        self.stages = nn.ModuleList(
            nn.Sequential(ConvBlock(before, channels, stride=2), *(Residual(channels) for _ in range(residuals)))
            for before, (channels, residuals) in zip(inputs, stages, strict=False)
        )
        self.channels: list[int] = inputs[-3:]
        last, half = inputs[-1], inputs[-1] // 2
        tail = [unit for _ in range(pairs) for unit in (ConvBlock(last, half, kernel=1), ConvBlock(half, last))]
        self.tail = nn.Sequential(*tail)
        self.stride = stem_stride * 2 ** len(stages)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Turn pixels [B, 3, H, W] in [0, 1], H and W multiples of `stride`, into three maps, fine to coarse."""
        x, maps = self.stem(pixels), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [*maps[-3:-1], self.tail(maps[-1])]

    def freeze(self, frozen: str) -> None:
        """Freeze "all" convolutions, all "but_last_two" (paper), or "none"."""
        units = self.convolutions()
        kept = {"all": 0, "but_last_two": 2, "none": len(units)}[frozen]
        for index, unit in enumerate(units):
            unit.requires_grad_(index >= len(units) - kept)

    def convolutions(self) -> list[ConvBlock]:
        """List every unit in the order of a DarkNet .weights file."""
        return [module for module in self.modules() if isinstance(module, ConvBlock)]


def darknet53() -> DarkNet:
    """Build DarkNet-53 without its classifier: maps of 256, 512 and 1024 channels at strides 8, 16 and 32.

    As in the released models, YOLOv3's six convolutions before its first detection layer follow its 52. They come next
    in a detector's .weights file. "but_last_two" trains the last two of these 58.
    """
    return DarkNet(32, [(64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)], pairs=3)


def tiny() -> DarkNet:
    """Build the three-stage backbone for refshapes: maps of 32, 48 and 64 channels at strides 4, 8 and 16."""
    return DarkNet(16, [(32, 0), (48, 1), (64, 1)], stem_stride=2)
