"""Speed-ups for float32 on a CPU; up to rounding they compute the same, dropout with other random numbers.

They keep freed memory for reuse, draw dropout from fewer random bits, replace torch's attention where it is slow, and
run 3 x 3 convolutions with a quarter of the multiplications. Other devices use at most the first.
"""

import ctypes
import math
import platform
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # numbers of mallopt(3)'s parameters in glibc's malloc.h


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for reuse instead of returning it to the system.

    Every training step frees and allocates the same large tensors, and the system clears each page it hands out again,
    which takes a quarter of a step at 640 pixels on two cores. Does nothing if the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, 0)  # take large blocks from the heap too
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def dropout(x: Tensor, share: float) -> Tensor:
    """Set a random fraction `share` of x to 0 and divide the rest by 1 - share.

    On a CPU 16 random bits decide on each element; torch's `bernoulli_` draws 64 bits and takes four times as long.
    """
    if x.device.type != "cpu":
        return F.dropout(x, share)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = (words.view(torch.int16)[: x.numel()] >= round(share * 2**16) - 2**15).view(x.shape)
    return x * kept * (1 / (1 - share))


class Dropout(nn.Dropout):
    """Applies `dropout` in training and nothing in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training and self.p else x


def attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, share: float) -> Tensor:
    """Attend from query [B, h, T, D/h] to keys and values [B, h, K, D/h]: [B, h, T, D/h].

    bias is added to the scores; a fraction `share` of the weights is dropped. With dropout, a learned bias or a single
    query a CPU uses plain matrix products, which are then faster than torch's fused attention.
    """
    learned = bias is not None and bias.requires_grad
    if query.device.type != "cpu" or not (share or learned or query.shape[2] == 1):
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, dropout_p=share)
    scores = query / math.sqrt(query.shape[-1]) @ keys.transpose(-1, -2)
    weights = (scores if bias is None else scores.add_(bias)).softmax(-1)
    return (dropout(weights, share) if share else weights) @ values


# ------------------------------------------------------------------------- Winograd's minimal filtering F(4 x 4, 3 x 3)
# After Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016). Every 6 x 6 tile of the input
# is transformed to 36 numbers per channel; each of the 36 goes through a matrix product over channels, and the 36
# products give a 4 x 4 tile of the output. Rounding changes the result by about 1e-5 of its largest value.
# B images · C channels in · O channels out · H, W height and width of a map · h, w tiles along them

STEP = 4  # pixels from one tile to the next, and the side of an output tile
LEAST_CHANNELS = 128  # with fewer, copying tiles costs as much as the products save
LEAST_SIDE = 8  # pixels; on smaller maps too much of the tiles lies outside
PART = 32_000_000  # bytes of tiles processed at a time: about the size of a processor's cache

_INPUT = torch.tensor(
    [[4.0, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
)  # fmt: skip
_KERNEL = torch.tensor([[6.0, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_OUTPUT = torch.tensor([[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
# Kronecker products transform both axes at once; they act on a tile flattened row by row.
INPUT, KERNEL, OUTPUT = (torch.kron(each, each) for each in (_INPUT, _KERNEL, _OUTPUT))  # [36, 36], [36, 9], [16, 36]


def winograd_pays(x: Tensor, conv: nn.Conv2d) -> bool:
    """Tell whether Winograd is faster for x [B, C, H, W]: a CPU, float32, 3 x 3, stride 1, many channels and pixels."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and conv.kernel_size == (3, 3)
        and conv.stride == (1, 1)
        and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS
        and min(x.shape[2:]) >= LEAST_SIDE
    )


def transformed(kernel: Tensor, turned: bool = False) -> Tensor:
    """Transform a kernel [O, C, 3, 3] to the 36 matrices of the products, [36, O, C], four times its size.

    turned: rotate the kernel by 180 degrees, as the gradient with respect to the input requires.
    """
    of_kernel = KERNEL.flip(1) if turned else KERNEL
    return (of_kernel @ kernel.reshape(-1, 9).T).view(36, *kernel.shape[:2])


def _tiles(x: Tensor, border: int) -> Tensor:
    """View a zero-padded map [B, C, H, W] as tiles with borders: [s, s, B, h, w, C], s = STEP + 2 border."""
    height, width = x.shape[2:]
    right, bottom = border + -width % STEP, border + -height % STEP
    framed = F.pad(x.permute(0, 2, 3, 1), (0, 0, border, right, border, bottom)).contiguous()
    side = STEP + 2 * border
    return framed.unfold(1, side, STEP).unfold(2, side, STEP).permute(4, 5, 0, 1, 2, 3)


def _parts(tiles: Tensor, out: int) -> Iterator[tuple[slice, slice]]:
    """Yield the parts of tiles [6, 6, B, h, w, C] to process one by one, as slices of B and h.

    A part has about PART bytes of tiles before and after the products, which give `out` channels, or if more, as many
    bytes as the 36 matrices, since each part reads all of them. Several whole images make a part if they fit.
    """
    batch, down, across, channels = tiles.shape[2:]
    most = max(1, PART // (36 * 4 * (channels + out)), channels * out // (channels + out))
    images, rows = max(1, most // (down * across)), max(1, most // across)
    for image in range(0, batch, images):
        for row in range(0, down, rows):
            yield slice(image, image + images), slice(row, row + rows)


def convolve(x: Tensor, matrices: Tensor) -> Tensor:
    """Convolve x [B, C, H, W], padded by one pixel of zeros: [B, O, H, W], channels last in memory.

    matrices: the `transformed` kernel with its last two axes swapped, [36, C, O].
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
    """Compute the kernel's gradient [O, C, 3, 3] from input x [B, C, H, W] and the output's gradient [B, O, H, W]."""
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
    """Makes `convolve` differentiable: apply(x [B, C, H, W], kernel [O, C, 3, 3]) -> [B, O, H, W]."""

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
