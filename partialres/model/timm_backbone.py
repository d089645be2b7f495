"""Use backbones of the timm library (extra `[backbones]`): any network with maps at strides 8, 16 and 32.

timm is imported only when such a backbone is built, because most runs do not need it.
"""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from partialres.config import PREFIX, ConfigError

STRIDES = [8, 16, 32]
OTHER = "take another network, such as a ResNet, ConvNeXt or Swin"
PROBE = 256  # pixels: side of the input, without data, that shows a network's strides and stages


class TimmBackbone(nn.Module):
    """A timm network without its classifier, with the interface of `DarkNet`."""

    stride = STRIDES[-1]

    def __init__(self, backbone: str) -> None:
        """backbone: timm/NAME, or timm/NAME.TAG for a set of weights. Raises ConfigError as `check` does."""
        super().__init__()
        self.name = backbone.removeprefix(PREFIX)
        places, self.channels = _places(backbone)
        self.options: dict[str, Any] = {"features_only": True, "out_indices": places, **_any_size(self.name)}
        self.network = import_timm().create_model(self.name, **self.options)
        cfg = self.network.pretrained_cfg
        self.mean, self.std = (tuple(map(float, cfg[key])) for key in ("mean", "std"))

    def reset_parameters(self) -> None:
        """Draw the weights as timm does, from torch's generator."""
        with torch.device(next(self.parameters()).device):
            fresh = import_timm().create_model(self.name, **self.options)
        self.network.load_state_dict(fresh.state_dict())

    def freeze(self, frozen: str) -> None:
        """Freeze "all" weights, all "but_last_stage", or "none".

        The last stage is what the map at stride 32 needs and the one at stride 16 does not. Weights that no map needs
        are always frozen: training in several processes waits for a gradient of every weight that is not.
        """
        with torch.device("meta"), torch.enable_grad():  # a model may be built where gradients are off
            probe = TimmBackbone(PREFIX + self.name)
            weights = dict(probe.named_parameters())
            needed = []
            for each in probe(torch.empty(2, 3, PROBE, PROBE)):
                gradients = torch.autograd.grad(each.sum(), [*weights.values()], retain_graph=True, allow_unused=True)
                given = zip(weights, gradients, strict=True)
                needed.append({name for name, gradient in given if gradient is not None})
        trained = {"all": set(), "but_last_stage": needed[2] - needed[1] - needed[0], "none": set().union(*needed)}
        for name, weight in self.named_parameters():
            weight.requires_grad_(name in trained[frozen])

    def train(self, mode: bool = True) -> TimmBackbone:
        """Keep frozen layers in evaluation mode, so that running batch statistics do not change either."""
        super().train(mode)
        for module in self.network.modules():
            own = [*module.parameters(recurse=False)]
            if own and not any(weight.requires_grad for weight in own):
                module.training = False
        return self

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Turn pixels [B, 3, H, W] in [0, 1], H and W multiples of 32, into three maps, fine to coarse."""
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        maps = self.network((pixels - mean) / std)
        channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"  # as Swin's are
        return [each.permute(0, 3, 1, 2) if channels_last else each for each in maps]


def import_timm() -> Any:
    """Import timm; raises ConfigError with the cure if it is not installed or does not fit torch."""
    try:
        try:
            import timm
        except RuntimeError:  # torchvision's operators are compiled for another torch
            _declare_operators()
            import timm
    except ImportError as error:
        raise ConfigError(
            f"model.backbone: timm/... needs timm ({error}): pip install --editable '.[backbones]'"
        ) from None
    except RuntimeError as error:
        raise ConfigError(
            f"model.backbone: timm/... cannot be used: torchvision does not fit torch ({error}); install both from the "
            "same place, both for CUDA or both for CPUs"
        ) from None
    return timm


def _declare_operators() -> None:
    """Declare the compiled operators without which torchvision is not imported; no backbone of timm calls them.

    PyPI's torchvision for Linux is compiled for CUDA and lacks them beside a torch for CPUs.
    """
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")


def check(backbone: str, size: int) -> None:
    """Check that timm has this network, and that it makes the three maps from images of `size` x `size` pixels.

    Raises ConfigError with the nearest names, or with the reason.
    """
    with torch.device("meta"):
        _try(TimmBackbone(backbone), backbone, size)


def _places(backbone: str) -> tuple[list[int], list[int]]:
    """Return the places of the three maps among the network's, and their channels; raises ConfigError if one lacks."""
    timm, name = import_timm(), backbone.removeprefix(PREFIX)
    known = [*timm.list_models(), *timm.list_pretrained()]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
        listed = ", ".join(PREFIX + each for each in near) or "none"
        raise ConfigError(f"model.backbone: timm {timm.__version__} has no network {name!r}; the nearest are: {listed}")
    with torch.device("meta"):
        try:
            network = timm.create_model(name, features_only=True, **_any_size(name))
        except (RuntimeError, AttributeError, TypeError) as error:
            raise ConfigError(f"model.backbone: {backbone} gives no maps ({short(error)}); {OTHER}") from None
        strides, channels = network.feature_info.reduction(), network.feature_info.channels()
        if not set(STRIDES) <= set(strides):
            listed = ", ".join(map(str, strides))
            raise ConfigError(f"model.backbone: {backbone} has maps at strides {listed}, not at 8, 16 and 32; {OTHER}")
        _try(network, backbone, PROBE)
    places = [max(place for place, each in enumerate(strides) if each == stride) for stride in STRIDES]
    return places, [channels[place] for place in places]


def _any_size(name: str) -> dict[str, Any]:
    """Return the option with which a Swin network takes images of any size; other networks need none."""
    return {"strict_img_size": False} if name.startswith("swin") else {}


def _try(network: nn.Module, backbone: str, size: int) -> None:
    """Run a network on an image of `size` x `size` pixels; raises ConfigError if it takes only other sizes."""
    try:
        network(torch.empty(1, 3, size, size))
    except (RuntimeError, AssertionError) as error:
        reason = f"{backbone} refuses images of {size} pixels ({short(error)})"
        raise ConfigError(f"model.backbone: {reason}; {OTHER}") from None


def short(error: Exception) -> str:
    """Return the first 150 characters of an error's message, as one line."""
    return f"{' '.join(str(error).split()):.150}"
