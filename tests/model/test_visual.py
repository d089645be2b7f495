"""An image's features do not depend on which images share its batch."""

from __future__ import annotations

import pytest
import torch

from partialres.config import ModelConfig, UpstreamConfig
from partialres.data.batch import Batch
from partialres.model.visual import Visual
from tests.backbones import SMALL, needs_timm
from tests.model.conftest import PAPER, POINTS, WORDS, make_model

BACKBONES = ["tiny", *(pytest.param(name, marks=needs_timm) for name in (SMALL, "timm/test_convnext"))]
CONFIG = ModelConfig(backbone="tiny", frozen="none", fusion=8, language=4)
CELLS = 3
SHAPES = [(1, 3), (3, 3), (3, 2)]


def make_visual(config: ModelConfig) -> Visual:
    """Make a visual part in which a position without light has features too."""
    torch.manual_seed(0)
    visual = Visual(config)
    with torch.no_grad():
        for name, weight in visual.named_parameters():
            if name.endswith("bias"):
                weight += torch.rand_like(weight)
    return visual.eval()


def scenes(stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three images of these shapes with noise in their padding, and which positions are not padding."""
    pixels = torch.randint(0, 256, (3, CELLS * stride, CELLS * stride, 3), dtype=torch.uint8)
    valid = torch.zeros(3, CELLS, CELLS, dtype=torch.bool)
    for inside, (down, across) in zip(valid, SHAPES, strict=True):
        inside[:down, :across] = True
    return pixels, valid


@pytest.mark.parametrize("name", BACKBONES)
def test_in_evaluation_mode_padding_beside_an_image_changes_neither_its_features_nor_gradients(name):
    visual = make_visual(CONFIG.replace(backbone=name))
    pixels, valid = scenes(visual.stride)
    together = visual(pixels, valid)
    alone = [
        visual(image[None, : down * visual.stride, : across * visual.stride])
        for image, (down, across) in zip(pixels, SHAPES, strict=True)
    ]
    for batched, single, (down, across) in zip(together, alone, SHAPES, strict=True):
        torch.testing.assert_close(batched[:, :down, :across], single[0], atol=1e-4, rtol=1e-4)
    weights = [weight for weight in visual.parameters() if weight.requires_grad]
    inside = together[valid[:, None].expand_as(together)]
    gradients = torch.autograd.grad(inside.square().sum(), weights)
    expected = torch.autograd.grad(sum(each.square().sum() for each in alone), weights)
    for ours, plain in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4 * float(plain.abs().max()), rtol=1e-3)


@torch.no_grad()
def test_an_expression_about_a_small_image_gets_the_logits_that_it_gets_alone():
    model = make_model(PAPER.replace(frozen="none"))
    pixels, valid = scenes(model.visual.stride)
    words, tokens = torch.randint(2, WORDS, (3, 4)), torch.randint(0, PAPER.bins, (3, 2 * POINTS + 1))
    together = model(Batch(pixels, valid, torch.arange(3), words, tokens))
    for image, (down, across) in enumerate(SHAPES):
        this, stride = slice(image, image + 1), model.visual.stride
        cut = pixels[this, : down * stride, : across * stride]
        alone = model(Batch(cut, valid[this], torch.tensor([0]), words[this], tokens[this], padded=False))
        torch.testing.assert_close(together[this], alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_padding_that_counts_is_seen():
    visual = make_visual(CONFIG.replace(upstream=UpstreamConfig(padding="counts")))
    pixels, valid = scenes(visual.stride)
    torch.testing.assert_close(visual(pixels, valid), visual(pixels), atol=0, rtol=0)
    assert not torch.allclose(visual(pixels)[0, :, :1], visual(pixels[:1, : visual.stride])[0], atol=1e-3)
