"""Load DarkNet's `.weights` files, ImageNet's darknet53.conv.74 or YOLOv3 detectors, into our backbone.

A file has a header, then for each convolution in the network's order batch norm's bias, weight, mean and variance and
the kernel [out, in, height, width], all little-endian float32. The header has three int32 (major, minor and revision
of the version) and the number of images seen, an int64 from version 0.2 on, an int32 before.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from partialres.files import DataError
from partialres.model.darknet import ConvBlock, DarkNet


def is_darknet(path: Path) -> bool:
    """Tell by its name whether a file has DarkNet weights; our own files end in .safetensors."""
    return path.suffix != ".safetensors"


@torch.no_grad()
def read_weights(path: Path, backbone: DarkNet) -> int:
    """Load a backbone's convolutions from a .weights file, in order; return how many the file holds.

    A detector's file holds all of them, and more layers, which are ignored. The ImageNet network's, with or without its
    classifier, holds those before the detection block.
    Raises DataError that names the convolution in which the file ends, or one with negative variances or values that
    are not finite, as in a file of another architecture.
    """
    values = _values(path)
    units = backbone.convolutions()
    trunk = len(units) - len(backbone.tail)
    ends = np.cumsum([sum(tensor.numel() for tensor in _tensors(unit)) for unit in units]).tolist()
    classifier = (units[trunk - 1].conv.out_channels + 1) * 1000  # ImageNet's classes
    number = trunk if len(values) - ends[trunk - 1] in (0, classifier) else len(units)
    if len(values) < ends[number - 1]:
        reached = sum(end <= len(values) for end in ends)
        raise DataError(
            f"{path}: ends in convolution {reached + 1} of {number}, {ends[reached] - len(values)} values before its "
            f"end; download it again, or take the weights of this network (all {len(units)} convolutions, or the first "
            f"{trunk})"
        )
    start = 0
    for index, unit in enumerate(units[:number], 1):
        where = f"{path}: convolution {index} of {number}"
        for tensor in _tensors(unit):
            piece = np.array(values[start : start + tensor.numel()], dtype=np.float32)
            start += tensor.numel()
            if not np.isfinite(piece).all():
                raise DataError(f"{where}: not every value is finite; the file is damaged or of another network")
            if tensor is unit.bn.running_var and piece.min() < 0:
                raise DataError(
                    f"{where}: has negative variances, so the file is of another network than DarkNet-53 or is "
                    "damaged; take darknet53.conv.74 or the weights of a YOLOv3"
                )
            tensor.copy_(torch.from_numpy(piece).reshape(tensor.shape))
    return number


def _values(path: Path) -> np.ndarray:
    """Memory-map the float32 values after the header, read-only; raises DataError if this is no .weights file."""
    size = path.stat().st_size
    head = np.fromfile(path, dtype="<i4", count=3)
    if len(head) < 3:
        raise DataError(f"{path}: not DarkNet weights, only {size} bytes; download it again")
    major, minor, revision = head.tolist()
    if not (0 <= major < 1000 and 0 <= minor < 1000 and revision >= 0):
        raise DataError(
            f"{path}: starts with version {major}.{minor}.{revision}, so it is no DarkNet weights file; a web page "
            "may have been saved in its place"
        )
    header = 12 + (8 if major * 10 + minor >= 2 else 4)
    if size < header or (size - header) % 4:
        raise DataError(f"{path}: {size} bytes are not a header and whole numbers of 4 bytes; download it again")
    return np.memmap(path, dtype="<f4", mode="r", offset=header) if size > header else np.zeros(0, dtype="<f4")


def _tensors(unit: ConvBlock) -> list[Tensor]:
    """List a convolution's tensors in the file's order."""
    mean, variance = unit.bn.running_mean, unit.bn.running_var
    assert mean is not None and variance is not None
    return [unit.bn.bias, unit.bn.weight, mean, variance, unit.conv.weight]
