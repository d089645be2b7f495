"""Fusion of image and expression (paper eq. 1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialres.config import ModelConfig


class LanguageGate(nn.Module):
    """Multiplies tanh(visual) by tanh(language) (eq. 1) and projects the product to the transformer's width.

    With a language token, tanh(language) follows the image positions as one more position, and goes through the same
    projection and normalisation. As released, the padding counts in the normalisation.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.language_token = config.upstream.language_token
        self.padding_counts = config.upstream.padding == "counts"
        self.conv = nn.Conv2d(config.fusion, config.width, 1)
        self.norm = nn.GroupNorm(min(32, config.width // 4), config.width)

    def forward(self, visual: Tensor, language: Tensor, valid: Tensor) -> Tensor:
        """Fuse visual [B, fusion, H, W], after tanh, with language [B, fusion]: [B, K, width], K = H * W (+ token).

        valid: bool [B, H, W], true inside the image.
        """
        language = torch.tanh(language)[:, :, None]
        gated = visual.flatten(2) * language
        if self.language_token:
            gated = torch.cat([gated, language], 2)
        x = self.conv(gated[..., None])[..., 0]  # [B, width, K]
        if self.padding_counts:
            x = self.norm(x)
        else:
            x = normalise(x, F.pad(valid.flatten(1), (0, x.shape[2] - valid[0].numel()), value=True), self.norm)
        # Put each position's channels side by side in memory; all later layers inherit this layout.
        return x.transpose(1, 2).contiguous()


def normalise(x: Tensor, counted: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Apply a group norm to x [B, C, K], with mean and variance over the positions that count, bool [B, K]."""
    groups = x.float().unflatten(1, (norm.num_groups, -1))  # [B, G, C / G, K]
    share = (counted / counted.sum(1, keepdim=True) / groups.shape[2])[:, None, None]  # [B, 1, 1, K]
    groups = groups - (groups * share).sum((2, 3), keepdim=True)
    variance = (groups.square() * share).sum((2, 3), keepdim=True)
    x = (groups * (variance + norm.eps).rsqrt()).flatten(1, 2)
    return torch.addcmul(norm.bias[:, None], x, norm.weight[:, None])
