"""The backbones: how many convolutions, which maps, and which layers train."""

import pytest
import torch

from partialres.config import ModelConfig
from partialres.model.darknet import darknet53, tiny
from partialres.model.visual import Visual


def test_darknet_53_has_52_convolutions_and_six_of_yolov3():
    with torch.device("meta"):
        units = darknet53().convolutions()
    assert len(units) == 52 + 6
    kernels = [tuple(unit.conv.weight.shape) for unit in units]
    assert kernels[:4] == [(32, 3, 3, 3), (64, 32, 3, 3), (32, 64, 1, 1), (64, 32, 3, 3)]
    assert kernels[51] == (1024, 512, 3, 3)
    assert kernels[52:] == [(512, 1024, 1, 1), (1024, 512, 3, 3)] * 3


@pytest.mark.parametrize(("make", "stride", "channels"), [(darknet53, 32, [256, 512, 1024]), (tiny, 16, [32, 48, 64])])
def test_each_map_has_half_the_resolution_of_the_one_before(make, stride, channels):
    with torch.device("meta"):
        backbone = make()
        maps = backbone(torch.empty(2, 3, 64, 96))
    assert backbone.channels == channels and backbone.stride == stride
    assert [each.shape[1] for each in maps] == channels
    assert [tuple(each.shape[2:]) for each in maps] == [(64 * n // stride, 96 * n // stride) for n in (4, 2, 1)]


@pytest.mark.parametrize(("frozen", "training"), [("all", 0), ("but_last_two", 2), ("none", 58)])
def test_only_the_convolutions_named_train(frozen, training):
    with torch.device("meta"):
        backbone = darknet53()
    backbone.freeze(frozen)
    trains = [all(each.requires_grad for each in unit.parameters()) for unit in backbone.convolutions()]
    assert trains == [False] * (58 - training) + [True] * training


@torch.no_grad()
def test_the_backbone_sees_rgb_between_zero_and_one():
    image = torch.zeros(1, 16, 32, 3, dtype=torch.uint8)
    image[0, 1, 2] = torch.tensor([255, 51, 0], dtype=torch.uint8)
    visual, seen = Visual(ModelConfig(backbone="tiny", fusion=4, language=2)), []
    visual.backbone.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    assert visual(image).shape == (1, 4, 1, 2)
    (pixels,) = seen
    assert pixels.shape == (1, 3, 16, 32)
    torch.testing.assert_close(pixels[0, :, 1, 2], torch.tensor([1.0, 0.2, 0.0]))
    assert pixels.sum() == pytest.approx(1.2)
