"""The batch of images and expressions that a model processes at once.

Each image lies at the top left of a square frame of F x F positions. A batch is cut to the H x W of them that hold its
largest image: what is left out is padding of every image.

I images · B expressions · L words · T tokens (2N + 1)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

PAD = 0  # the word index of padding


@dataclass
class Batch:
    """Expressions and their images; expressions about the same image share its visual features."""

    images: Tensor  # uint8 [I, H * stride, W * stride, 3], or the visual part's output, float [I, fusion, H, W]
    valid: Tensor  # bool [I, F, F]: true inside the image, false in its padding
    image_index: Tensor  # int64 [B]: the image of each expression
    words: Tensor  # int64 [B, L], padded with PAD
    tokens: Tensor | None = None  # int64 [B, T]: x1, y1, ..., xN, yN, end
    boxes: Tensor | None = None  # for a mask head, float [B, 4]: centre x, y, width, height over the frame's side
    masks: Tensor | None = None  # for a mask head, uint8 [B, h, w]: share of each cell that the mask covers, 0 to 255
    lengths: Tensor | None = None  # int64 [B], words in each row; stays on the CPU; counted if not given
    padded: bool = True  # false: all H x W positions are inside every image; kept, because a GPU would wait to look

    def __post_init__(self) -> None:
        if self.lengths is None:
            self.lengths = count_words(self.words)

    def pin_memory(self) -> Batch:
        """Copy the batch to page-locked memory; torch's DataLoader calls this."""
        return replace(self, **{name: each.pin_memory() for name, each in self._tensors().items()})

    def to(self, device: torch.device | str) -> Batch:
        """Copy the batch to a device, except `lengths`: torch's packed sequences need it on the CPU."""
        tensors = {name: each for name, each in self._tensors().items() if name != "lengths"}
        return replace(self, **{name: each.to(device, non_blocking=True) for name, each in tensors.items()})

    def _tensors(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


def count_words(words: Tensor) -> Tensor:
    """Count the words, padding excluded, in each row of words [B, L]: int64 [B]."""
    return (words != PAD).sum(1)
