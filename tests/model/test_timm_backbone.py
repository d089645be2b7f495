"""timm's backbones: the interface they share with DarkNet, what is frozen, and networks that cannot be used."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch

from partialres.config import ConfigError
from partialres.model.build import initialise
from partialres.model.timm_backbone import TimmBackbone, check
from partialres.model.visual import build_backbone
from tests.backbones import SMALL, needs_timm
from tests.tiny import equal_states

pytestmark = needs_timm
FAMILIES = [(SMALL, "layer4"), ("timm/test_convnext", "stages_3"), ("timm/test_efficientnet", "blocks.4")]
SWIN = "timm/swin_tiny_patch4_window7_224"


@pytest.mark.parametrize("name", ["darknet53", "tiny", SWIN, *(name for name, _ in FAMILIES)])
def test_every_backbone_gives_three_maps_of_the_declared_channels_and_strides(name):
    with torch.device("meta"):
        backbone = build_backbone(name)
        maps = backbone(torch.empty(2, 3, 320, 640))
    assert [each.shape[1] for each in maps] == backbone.channels
    expected = [(320 * n // backbone.stride, 640 * n // backbone.stride) for n in (4, 2, 1)]
    assert [tuple(each.shape[2:]) for each in maps] == expected


@pytest.mark.parametrize(("name", "last"), FAMILIES)
def test_the_last_stage_and_nothing_before_it_trains(name, last):
    with torch.device("meta"):
        backbone = TimmBackbone(name)
    with torch.no_grad():
        backbone.freeze("but_last_stage")
    trained = {key for key, weight in backbone.network.named_parameters() if weight.requires_grad}
    assert trained and all(key.startswith(last) for key in trained)
    assert trained == {key for key, _ in backbone.network.named_parameters() if key.startswith(last)}


@pytest.mark.parametrize("frozen", ["all", "none"])
def test_all_or_nothing_is_frozen(frozen):
    with torch.device("meta"):
        backbone = TimmBackbone(SMALL)
    backbone.freeze(frozen)
    assert {weight.requires_grad for weight in backbone.parameters()} == {frozen == "none"}


def test_frozen_batch_statistics_stay_and_trained_ones_follow_the_data():
    backbone = TimmBackbone(SMALL)
    backbone.freeze("but_last_stage")
    backbone.train()
    before = copy.deepcopy(backbone.network.state_dict())
    backbone(torch.rand(2, 3, 64, 64))
    changed = {name for name, value in backbone.network.state_dict().items() if not torch.equal(value, before[name])}
    assert any("running_mean" in name for name in changed)
    assert all(name.startswith("layer4") for name in changed)


def test_pixels_are_normalised_as_the_network_was_trained():
    backbone, seen = TimmBackbone(SMALL), []
    backbone.network.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    mean, std = (torch.tensor(values) for values in (backbone.mean, backbone.std))
    backbone((mean + std)[None, :, None, None].expand(1, 3, 64, 64))
    torch.testing.assert_close(seen[0], torch.ones(1, 3, 64, 64))


@pytest.mark.parametrize("name", [SMALL, "timm/test_convnext"])
def test_one_seed_gives_one_network_and_another_seed_another(name):
    first, second, other = (TimmBackbone(name) for _ in range(3))
    for backbone, seed in ((first, 0), (second, 0), (other, 1)):
        initialise(backbone, seed)
    assert equal_states(first, second) and not equal_states(first, other)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet19", "the nearest are: timm/resnet1"),
        ("timm/vit_tiny_patch16_224", "maps at strides 16, 16, 16, not at 8, 16 and 32"),
        ("timm/maxvit_tiny_tf_224", "refuses images of 256 pixels"),
    ],
)
def test_a_network_that_cannot_work_is_refused_in_one_line(name, message):
    with pytest.raises(ConfigError, match=message) as error:
        check(name, 640)
    assert "\n" not in str(error.value)


def test_timm_needs_none_of_torchvisions_compiled_operators():
    code = """
import torch
def refuse(path): raise OSError(f"{path} was compiled for another torch")
torch.ops.load_library = refuse
from partialres.model.timm_backbone import TimmBackbone
print([*map(len, TimmBackbone("timm/test_resnet")(torch.zeros(2, 3, 64, 64)))])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == "[2, 2, 2]\n", answer.stderr
