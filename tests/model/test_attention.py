"""Attention against PyTorch's, and the memory layout of keys and values."""

import torch
from torch import nn

from partialres.config import ModelConfig
from partialres.model.attention import Attention, project, split_heads
from partialres.model.build import initialise

HEADS, WIDTH = 4, 32


@torch.no_grad()
def test_attention_is_torch_s_multi_head_attention():
    torch.manual_seed(0)
    ours = Attention(ModelConfig(width=WIDTH, heads=HEADS)).eval()
    initialise(ours, seed=0)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
    theirs.out_proj.weight.copy_(ours.out.weight)
    query, memory, places = torch.randn(2, 3, WIDTH), torch.randn(2, 5, WIDTH), torch.randn(2, 5, WIDTH)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    bias = torch.zeros(2, 1, 1, 5).masked_fill(padding[:, None, None], -torch.inf)
    expected, _ = theirs(query, memory + places, memory, key_padding_mask=padding)
    torch.testing.assert_close(ours(query, *ours.keys_values(memory, places), bias), expected)


def test_a_projection_for_decoding_has_the_plain_ones_values_and_gradients_in_the_devices_layout():
    torch.manual_seed(0)
    layer, x, wanted = nn.Linear(WIDTH, WIDTH), torch.randn(3, 7, WIDTH), torch.randn(3, HEADS, 7, WIDTH // HEADS)
    results = []
    for projected in (project(layer, x, HEADS), split_heads(layer(x), HEADS)):
        gradients = torch.autograd.grad((projected * wanted).sum(), [layer.weight, layer.bias])
        results.append((projected, *gradients))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain)
    assert results[0][0].transpose(-1, -2).is_contiguous()
    assert project(layer.to("meta"), x.to("meta"), HEADS).is_contiguous()
