"""Trace what one decoding looks at, point by point: cross-attention, PMCA's Gaussians, CCTF's columns and rows.

N points · T tokens (2N) · H, W positions of the features · K = H * W (and the language token) · h heads
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from partialres.data.batch import Batch
from partialres.model.attention import split_heads
from partialres.model.cctf import cells_of
from partialres.model.pointer import PointModel


@dataclass(frozen=True)
class Trace:
    """Holds what each point looked at; maps are means over its two tokens, all heads and all decoder layers."""

    attention: np.ndarray  # float32 [N, H, W]: cross-attention's weights
    prior: np.ndarray | None  # float32 [N, H, W]: PMCA's Gaussians, from 0 to 1; None without PMCA
    cells: np.ndarray | None  # int64 [N, 2]: the column and row that CCTF looks up; None without CCTF


@torch.no_grad()
def trace(model: PointModel, batch: Batch) -> Trace:
    """Decode a batch of one expression, and record what its points looked at."""
    memory, looked, priors = model.encode(batch), [], []
    tokens, _ = model.decode(memory)

    def attended(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        query, keys, _, bias = inputs
        own = split_heads(module.query(query), module.heads) / math.sqrt(keys.shape[-1])
        looked.append((own @ keys.transpose(-1, -2) + bias).softmax(-1))

    def modulated(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        priors.append(output.exp())

    hooks = [layer.cross_attention.register_forward_hook(attended) for layer in model.decoder]
    hooks += [layer.prior.register_forward_hook(modulated) for layer in model.decoder if layer.prior is not None]
    model.logits(memory, F.pad(tokens, (0, 1)))  # all tokens at once, each seeing those before it, as in decoding
    for hook in hooks:
        hook.remove()
    shape = len(memory.grid.y), len(memory.grid.x)

    def of_points(maps: list[Tensor]) -> np.ndarray:
        mean = torch.cat(maps).float().mean((0, 1))[: tokens.shape[1], : shape[0] * shape[1]]  # [T, H * W]
        return mean.unflatten(0, (-1, 2)).mean(1).unflatten(1, shape).cpu().numpy()

    prior = of_points(priors) if priors else None
    if not (config := model.config).cctf:
        return Trace(of_points(looked), prior, None)
    order = 1 if config.upstream.cctf_axes == "paper" else -1  # as released, x looks up rows
    axes = zip((tokens[0, place::2] for place in (0, 1)[::order]), memory.grid.cells, strict=True)
    cells = torch.stack([cells_of(each, size, config.bins, config.upstream) for each, size in axes], 1)
    return Trace(of_points(looked), prior, cells.cpu().numpy())
