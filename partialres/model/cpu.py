"""What only a float32 CPU needs: nothing here changes a result by more than rounding.

Memory that is kept, dropout from fewer random bits, attention where torch's is slow, and 3 x 3 convolutions with a
quarter of the multiplications. On other devices none of it is used.
"""

from __future__ import annotations

import ctypes
import math
import platform
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of mallopt(3)'s parameters in glibc's malloc.h


def keep_freed_memory() -> None:
    """Reuse freed memory without going back to the system.

    A training step frees and asks for the same large tensors again and again, and each time the system clears every
    page of them: a quarter of a step at 640 pixels on two cores. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, 0)  # large blocks come from the heap as well
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def dropout(x: Tensor, share: float) -> Tensor:
    """Set a share of x at random to 0 and divide the rest by 1 - share.

    On a CPU 16 random bits decide each element: `bernoulli_` draws two words of 32 and takes four times as long.
    """
    if x.device.type != "cpu":
        return F.dropout(x, share)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = (words.view(torch.int16)[: x.numel()] >= round(share * 2**16) - 2**15).view(x.shape)
    return x * kept * (1 / (1 - share))


class Dropout(nn.Dropout):
    """`dropout` in training."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training and self.p else x


def attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, share: float) -> Tensor:
    """Attend with [B, h, T, D/h] to [B, h, K, D/h], bias added to the scores, a share of the weights dropped.

    Torch's fused attention, but on a CPU with dropout, a learned bias or a single query the plain one, which is faster.
    """
    learned = bias is not None and bias.requires_grad
    if query.device.type != "cpu" or not (share or learned or query.shape[2] == 1):
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, dropout_p=share)
    scores = query / math.sqrt(query.shape[-1]) @ keys.transpose(-1, -2)
    weights = (scores if bias is None else scores.add_(bias)).softmax(-1)
    return (dropout(weights, share) if share else weights) @ values


# ------------------------------------------------------------------------- Winograd's minimal filtering F(4 x 4, 3 x 3)
# After Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016). Every 6 x 6 tile of the input
# becomes 36 numbers a channel; each of the 36 is a matrix product over channels, and together they give a 4 x 4 tile of
# the output. The result is the convolution's up to rounding, about 1e-5 of its largest value.
# B images · C channels in · O channels out · H, W sides of a map · h, w tiles along them

STEP = 4  # pixels from tile to tile, and a side of an output tile
LEAST_CHANNELS = 128  # with fewer, moving tiles about costs what the products save
LEAST_SIDE = 16  # of a map, pixels: on smaller ones too much of the tiles lies outside
PART = 32_000_000  # bytes of tiles worked on at a time: about what stays in a processor's cache

_INPUT = torch.tensor(
    [[4.0, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
)  # fmt: skip
_KERNEL = torch.tensor([[6.0, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_OUTPUT = torch.tensor([[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
# Of both axes at once: they act on a tile's numbers row by row.
INPUT, KERNEL, OUTPUT = (torch.kron(each, each) for each in (_INPUT, _KERNEL, _OUTPUT))  # [36, 36], [36, 9], [16, 36]


def winograd_pays(x: Tensor, conv: nn.Conv2d) -> bool:
    """Tell whether a convolution of x [B, C, H, W] is faster so: wide, 3 x 3, stride 1, large, float32 on a CPU."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and conv.kernel_size == (3, 3)
        and conv.stride == (1, 1)
        and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS
        and min(x.shape[2:]) >= LEAST_SIDE
    )


def transformed(kernel: Tensor, turned: bool = False) -> Tensor:
    """Transform a kernel [O, C, 3, 3] to the 36 matrices of the products, [36, O, C]: four times its size.

    turned: by half a turn, as the gradient of the input has it.
    """
    of_kernel = KERNEL.flip(1) if turned else KERNEL
    return (of_kernel @ kernel.reshape(-1, 9).T).view(36, *kernel.shape[:2])


def _tiles(x: Tensor, border: int) -> Tensor:
    """View a map [B, C, H, W] as tiles with a border, zeros outside it: [s, s, B, h, w, C], s = STEP + 2 border."""
    height, width = x.shape[2:]
    right, bottom = border + -width % STEP, border + -height % STEP
    framed = F.pad(x.permute(0, 2, 3, 1), (0, 0, border, right, border, bottom)).contiguous()
    side = STEP + 2 * border
    return framed.unfold(1, side, STEP).unfold(2, side, STEP).permute(4, 5, 0, 1, 2, 3)


def _parts(tiles: Tensor, out: int) -> Iterator[tuple[slice, slice]]:
    """Divide tiles [6, 6, B, h, w, C] into slices of B and h, whole images where several fit.

    A part has about PART bytes of tiles before and after the products with out = O channels, or as many as the 36
    matrices have, which are read once a part.
    """
    batch, down, across, channels = tiles.shape[2:]
    most = max(1, PART // (36 * 4 * (channels + out)), channels * out // (channels + out))
    images, rows = max(1, most // (down * across)), max(1, most // across)
    for image in range(0, batch, images):
        for row in range(0, down, rows):
            yield slice(image, image + images), slice(row, row + rows)


def convolve(x: Tensor, matrices: Tensor) -> Tensor:
    """Convolve x [B, C, H, W], padded by a pixel of zeros: [B, O, H, W], channels last in memory.

    matrices: the `transformed` kernel, [36, C, O].
    """
    (channels, height, width), out = x.shape[1:], matrices.shape[2]
    tiles = _tiles(x, border=1)
    batch, down, across = tiles.shape[2:5]
    y = x.new_empty(batch, down, STEP, across, STEP, out)
    for part in _parts(tiles, out):
        inputs = (INPUT @ tiles[:, :, *part].reshape(36, -1)).view(36, -1, channels)
        outputs = OUTPUT @ torch.bmm(inputs, matrices).view(36, -1)
        place = y[part].permute(2, 4, 0, 1, 3, 5)
        place.copy_(outputs.view(place.shape))
    return y.view(batch, STEP * down, STEP * across, out)[:, :height, :width].permute(0, 3, 1, 2)


def kernel_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Compute a kernel's gradient [O, C, 3, 3] from inputs x [B, C, H, W] and outputs' gradient [B, O, H, W]."""
    channels, out = x.shape[1], gradient.shape[1]
    before, after = _tiles(x, border=1), _tiles(gradient, border=0)
    matrices: Tensor | None = None
    for part in _parts(before, out):
        inputs = (INPUT @ before[:, :, *part].reshape(36, -1)).view(36, -1, channels)
        outputs = (OUTPUT.T @ after[:, :, *part].reshape(STEP**2, -1)).view(36, -1, out).transpose(1, 2)
        matrices = torch.bmm(outputs, inputs) if matrices is None else matrices.baddbmm_(outputs, inputs)
    assert matrices is not None
    return (matrices.view(36, -1).T @ KERNEL).view(out, channels, 3, 3)


class WinogradConvolution(torch.autograd.Function):
    """`convolve` with a gradient: apply(x [B, C, H, W], kernel [O, C, 3, 3]) -> [B, O, H, W]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return convolve(x, transformed(kernel).transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, kernel = ctx.saved_tensors
        (gradient,) = gradients
        of_x = convolve(gradient, transformed(kernel, turned=True)) if ctx.needs_input_grad[0] else None
        of_kernel = kernel_gradient(x, gradient) if ctx.needs_input_grad[1] else None
        return of_x, of_kernel
