"""CPU-only code (Winograd's convolution, dropout, the layout of keys) against PyTorch's own."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from partialres.model import cpu
from partialres.model.darknet import LEAK, ConvBlock

SHAPES = [(1, 128, 128, 20, 20), (2, 128, 192, 7, 9), (3, 130, 140, 4, 1), (1, 160, 128, 1, 6)]


def made(batch, channels, out, height, width):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, height, width, generator=generator)
    kernel = torch.randn(out, channels, 3, 3, generator=generator) / 30
    return x, kernel


@pytest.mark.parametrize("shape", SHAPES)
def test_the_tiled_convolution_is_the_convolution(shape):
    x, kernel = made(*shape)
    tiled = cpu.convolve(x, cpu.transformed(kernel).transpose(1, 2))
    torch.testing.assert_close(tiled, F.conv2d(x, kernel, padding=1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_tiled_convolutions_gradients_are_the_convolutions(shape):
    grads = []
    for convolution in (cpu.WinogradConvolution.apply, lambda x, kernel: F.conv2d(x, kernel, padding=1)):
        x, kernel = (each.requires_grad_() for each in made(*shape))
        y = convolution(x, kernel)
        (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
        grads.append((x.grad, kernel.grad))
    for ours, expected in zip(*grads, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_tiles_in_parts_of_any_size_give_the_same(monkeypatch):
    x, kernel = made(3, 128, 128, 13, 10)
    matrices = cpu.transformed(kernel).transpose(1, 2)
    whole = cpu.convolve(x, matrices)
    gradient = cpu.kernel_gradient(x, whole)
    for images, rows in ((1, 1), (2, 3), (1, 4)):
        starts = list(product(range(0, 3, images), range(0, 4, rows)))
        parts = [(slice(image, image + images), slice(row, row + rows)) for image, row in starts]
        monkeypatch.setattr(cpu, "_parts", lambda tiles, out, parts=parts: parts)
        torch.testing.assert_close(cpu.convolve(x, matrices), whole, rtol=0, atol=1e-4)
        torch.testing.assert_close(cpu.kernel_gradient(x, whole), gradient, rtol=0, atol=1e-4 * gradient.abs().max())


@pytest.mark.parametrize(
    ("shape", "out", "sizes"),
    [
        ((6, 6, 5, 10, 10, 128), 128, [(5, 10)]),  # 868 tiles: all
        ((6, 6, 5, 20, 20, 128), 128, [(2, 20)] * 2 + [(1, 20)]),  # two images of 400
        ((6, 6, 1, 40, 40, 128), 128, [(1, 21), (1, 19)]),  # 21 rows of 40
        ((6, 6, 1, 4, 200, 1024), 1024, [(1, 2)] * 2),  # as many as the matrices have, 512, not the 108 of PART
    ],
)
def test_parts_are_whole_images_or_rows_and_together_everything(shape, out, sizes):
    times, parts = torch.zeros(shape[2:4]), list(cpu._parts(torch.empty(shape, device="meta"), out))
    for part in parts:
        times[part] += 1
    assert [tuple(times[part].shape) for part in parts] == sizes and (times == 1).all()


def test_only_wide_convolutions_of_three_by_three_are_tiled():
    x = torch.zeros(1, 128, 16, 20)
    assert cpu.winograd_pays(x, nn.Conv2d(128, 128, 3, padding=1))
    assert not cpu.winograd_pays(x, nn.Conv2d(128, 128, 3, 2, padding=1))
    assert not cpu.winograd_pays(x, nn.Conv2d(128, 128, 1))
    assert not cpu.winograd_pays(x, nn.Conv2d(128, 64, 3, padding=1))
    assert not cpu.winograd_pays(x[:, :, :7], nn.Conv2d(128, 128, 3, padding=1))
    assert not cpu.winograd_pays(x.bfloat16(), nn.Conv2d(128, 128, 3, padding=1))


@pytest.mark.parametrize("channels", [8, 128])
@torch.no_grad()
def test_a_kept_kernel_follows_its_weights(channels):
    block = ConvBlock(channels, channels).eval()
    x = torch.randn(2, channels, 16, 16)

    def plain():
        return F.leaky_relu(block.bn(F.conv2d(x, block.conv.weight, padding=1)), LEAK)

    torch.testing.assert_close(block(x), plain(), rtol=0, atol=1e-4)
    for change in (block.conv.weight, block.bn.bias, block.bn.running_var):
        change.mul_(1.5).add_(0.01)
        torch.testing.assert_close(block(x), plain(), rtol=0, atol=1e-4)
    block.load_state_dict(ConvBlock(channels, channels).state_dict())
    torch.testing.assert_close(block(x), plain(), rtol=0, atol=1e-4)


def test_dropout_drops_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    for share in (0.1, 0.5):
        x = cpu.dropout(torch.ones(300, 301), share)
        assert (x == 0).float().mean() == pytest.approx(share, abs=0.01)
        assert x.max() == pytest.approx(1 / (1 - share)) and x.mean() == pytest.approx(1, abs=0.02)
    assert (cpu.Dropout(0.5).eval()(torch.ones(9)) == 1).all()


@pytest.mark.parametrize("queries", [1, 3])
def test_plain_attention_is_the_fused_one(queries):
    torch.manual_seed(0)
    query, keys, values = torch.randn(2, 4, queries, 8), torch.randn(2, 4, 5, 8), torch.randn(2, 4, 5, 8)
    bias = torch.randn(2, 1, 1, 5)
    expected = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias)
    learned = bias.clone().requires_grad_()
    for each in (bias, learned):
        torch.testing.assert_close(cpu.attend(query, keys, values, each, 0.0), expected)
