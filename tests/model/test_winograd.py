"""Winograd's convolution against PyTorch's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from partialres.model import winograd
from partialres.model.darknet import ConvBlock

SHAPES = [(1, 128, 128, 20, 20), (2, 128, 192, 7, 9), (3, 130, 140, 4, 1), (1, 160, 128, 1, 6)]


def made(batch, channels, out, height, width):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, height, width, generator=generator)
    kernel = torch.randn(out, channels, 3, 3, generator=generator) / 30
    return x, kernel


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_convolution(shape):
    x, kernel = made(*shape)
    found = winograd.convolve(x, winograd.transformed(kernel).transpose(1, 2))
    torch.testing.assert_close(found, F.conv2d(x, kernel, padding=1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_its_gradients_are_the_convolutions(shape):
    grads = []
    for convolution in (winograd.Convolution.apply, lambda x, kernel: F.conv2d(x, kernel, padding=1)):
        x, kernel = (each.requires_grad_() for each in made(*shape))
        y = convolution(x, kernel)
        (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
        grads.append((x.grad, kernel.grad))
    for ours, expected in zip(*grads, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_parts_of_any_size_give_the_same(monkeypatch):
    x, kernel = made(3, 128, 128, 13, 10)
    matrices = winograd.transformed(kernel).transpose(1, 2)
    whole = winograd.convolve(x, matrices)
    for part in (1, 1_000_000):
        monkeypatch.setattr(winograd, "PART", part)
        monkeypatch.setattr(winograd, "_kernel_bytes", lambda *sizes: 0)
        found = winograd.convolve(x, matrices)
        whole = found if whole is None else whole
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-4)


def test_only_wide_convolutions_of_three_by_three_take_it():
    x = torch.zeros(1, 128, 16, 20)
    assert winograd.pays(x, nn.Conv2d(128, 128, 3, padding=1))
    assert not winograd.pays(x, nn.Conv2d(128, 128, 3, 2, padding=1))
    assert not winograd.pays(x, nn.Conv2d(128, 128, 1))
    assert not winograd.pays(x, nn.Conv2d(128, 64, 3, padding=1))
    assert not winograd.pays(x[:, :, :15], nn.Conv2d(128, 128, 3, padding=1))
    assert not winograd.pays(x.bfloat16(), nn.Conv2d(128, 128, 3, padding=1))


@pytest.mark.parametrize("channels", [8, 128])
@torch.no_grad()
def test_a_kept_kernel_follows_its_weights(channels):
    block = ConvBlock(channels, channels).eval()
    x = torch.randn(2, channels, 16, 16)

    def plain():
        return F.leaky_relu(block.bn(F.conv2d(x, block.conv.weight, padding=1)), block.leak)

    torch.testing.assert_close(block(x), plain(), rtol=0, atol=1e-4)
    for change in (block.conv.weight, block.bn.bias, block.bn.running_var):
        change.mul_(1.5).add_(0.01)
        torch.testing.assert_close(block(x), plain(), rtol=0, atol=1e-4)
    block.load_state_dict(ConvBlock(channels, channels).state_dict())
    torch.testing.assert_close(block(x), plain(), rtol=0, atol=1e-4)
