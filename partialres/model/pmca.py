"""Point-modulated cross-attention (PMCA, paper eq. 6-7, after SMCA-DETR): a Gaussian prior around the query's point.

B batch · T queries · H, W positions of the features · K = H * W (+ 1 language token) · D width · h heads
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialres.config import ModelConfig
from partialres.model.attention import mlp, split_heads

LEAST_SPREAD = 1e-4  # of sigma s^2, in squared frames: a hundredth of the frame, far below a cell


@dataclass
class Grid:
    """Coordinates of the image positions, as fractions of the frame's sides."""

    x: Tensor  # [W]: the middle of each column that the batch keeps
    y: Tensor  # [H]: the middle of each row
    extent: Tensor  # [B, 2]: width and height of the image
    cells: tuple[int, int]  # columns and rows of the whole frame

    @classmethod
    def of(cls, valid: Tensor, height: int, width: int) -> Grid:
        """Build the grid of a batch that keeps H x W positions. valid: bool [B, F, F], true inside the image."""
        cells = valid.shape[2], valid.shape[1]
        kept = zip((width, height), cells, strict=True)
        x, y = ((torch.arange(number, device=valid.device) + 0.5) / of_frame for number, of_frame in kept)
        return cls(x, y, torch.stack([valid[:, 0].float().mean(1), valid[:, :, 0].float().mean(1)], -1), cells)


class PointPrior(nn.Module):
    """Gives each query and head a centre and a scale, all in (0, 1) (eq. 6), and the log of a Gaussian there (eq. 7).

    Distances are in units of the frame. The last layer starts at zero: the centre in the middle, the scale one half.
    In the released form the raw scale multiplies distances in feature cells, and the centre lies within the image's
    part of the frame. A raw scale of zero has no gradient and would stay, so that its layer starts at random.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.sigma, self.form = config.heads, config.pmca_sigma, config.upstream.pmca_scale
        self.reads = config.upstream.pmca_reads
        self.locate = mlp(config.width, config.width // 2, config.width // 4, 4 * config.heads)

    def reset_parameters(self) -> None:
        """Set the last layer's initial values."""
        *_, weight, bias = self.locate.parameters()
        draw = nn.init.zeros_ if self.form == "sigmoid" else nn.init.xavier_uniform_
        draw(weight)
        nn.init.zeros_(bias)

    def forward(self, content: Tensor, query: Tensor, grid: Grid, positions: int) -> Tensor:
        """Compute log G [B, h, T, positions], at most 0, and 0 for the language token, the last position.

        content [B, T, D]: the co-content embeddings S, which the MLP reads. query [B, T, D]: the layer's queries after
        self-attention, which the released code reads instead.
        """
        raw = split_heads(
            self.locate(content if self.reads == "content" else query), self.heads
        ).float()  # [B, h, T, 4]
        centre, scale = raw[..., :2].sigmoid(), raw[..., 2:]
        if self.form == "sigmoid":
            weight = 1 / (self.sigma * scale.sigmoid().square()).clamp(min=LEAST_SPREAD)
        else:
            centre = centre * grid.extent[:, None, None]
            cells = torch.tensor(grid.cells, dtype=torch.float32, device=query.device)
            weight = (scale * cells).square() / self.sigma
        prior = log_gaussian(centre, weight, grid)
        extra = positions - prior.shape[-1]
        return F.pad(prior, (0, extra)) if extra else prior  # padding by nothing would copy


def log_gaussian(centre: Tensor, weight: Tensor, grid: Grid) -> Tensor:
    """Compute -w_x (x - c_x)^2 - w_y (y - c_y)^2 at every position: centre, weight [B, h, T, 2] -> [B, h, T, H * W].

    Each axis is squared by itself and the two are added once, so that only the result takes H * W values.
    """
    along_x, along_y = (
        -weight[..., axis, None] * (place - centre[..., axis, None]).square()
        for axis, place in enumerate((grid.x, grid.y))
    )
    return (along_y[..., :, None] + along_x[..., None, :]).flatten(-2)
