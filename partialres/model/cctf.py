"""Co-content teacher forcing (CCTF, paper eq. 3-5): coordinate tokens carry the image features they point at.

B batch · H, W positions of the frame · T tokens · D width
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from partialres.config import UpstreamConfig


@dataclass
class AxisMeans:
    """Mean encoder features of each column and each row of the frame."""

    columns: Tensor  # [B, W, D]: mean over height (eq. 3)
    rows: Tensor  # [B, H, D]: mean over width (eq. 4)


def axis_means(features: Tensor, valid: Tensor) -> AxisMeans:
    """Average encoder features [B, .., .., D] over height and over width (eq. 3-4).

    features: of the positions that the batch keeps of the frame. valid: bool [B, H, W], of the whole frame, true where
    a position counts. A column or row without such a position gets zeros.
    """
    down, across = features.shape[1:3]
    counted = (features * valid[:, :down, :across, None]).float()
    missing = valid.shape[1] - down, valid.shape[2] - across
    columns, rows = (F.pad(counted.sum(axis), (0, 0, 0, missing[2 - axis])) for axis in (1, 2))
    return AxisMeans(columns / valid.sum(1).clamp(min=1)[..., None], rows / valid.sum(2).clamp(min=1)[..., None])


def pointed_features(tokens: Tensor, first: int, means: AxisMeans, bins: int, upstream: UpstreamConfig) -> Tensor:
    """Look up the mean features at the coordinates that tokens stand for (eq. 5): [B, T, D].

    tokens: int64 [B, T] in [0, bins], at places first, first + 1, ... of the sequence. Even places hold an x, which
    looks up the mean of its column, odd ones a y, which looks up that of its row.
    """
    of_x, of_y = (means.columns, means.rows) if upstream.cctf_axes == "paper" else (means.rows, means.columns)
    is_x = (torch.arange(first, first + tokens.shape[1], device=tokens.device) % 2 == 0)[None, :, None]
    return torch.where(is_x, _look_up(of_x, tokens, bins, upstream), _look_up(of_y, tokens, bins, upstream))


def cells_of(tokens: Tensor, cells: int, bins: int, upstream: UpstreamConfig) -> Tensor:
    """Find which of an axis's cells contain the tokens' coordinates: int64 in [0, cells - 1], of the tokens' shape."""
    less = 1 if upstream.cctf_cells == "spread" else 0  # as released, bins are spread over all cells but one
    return (tokens * (cells - less) // bins).clamp(max=cells - 1)


def _look_up(means: Tensor, tokens: Tensor, bins: int, upstream: UpstreamConfig) -> Tensor:
    """Take the means [B, W, D] of the cells that contain the tokens' [B, T] coordinates: [B, T, D]."""
    index = cells_of(tokens, means.shape[1], bins, upstream)
    return means.gather(1, index[:, :, None].expand(-1, -1, means.shape[2]))
