"""Do the same work plainly, as in a first draft or in the released code; benchmarks and tests compare with it.

Every function here returns what the package's own returns, only more slowly: the whole model runs for each expression,
the whole prefix for each token; masks are unpacked, and each is compared with all others.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pycocotools import mask as coco
from torch import Tensor

from partialres.config import TrainConfig
from partialres.data.batch import Batch
from partialres.geometry import contour, projection, tokens
from partialres.geometry.rle import Rle
from partialres.model.pointer import PointModel, sequence_loss
from partialres.model.transformer import Memory


def unshared(batch: Batch) -> Batch:
    """Return the same batch with an image for every expression, as if no two expressions shared one."""
    images, valid = batch.images[batch.image_index], batch.valid[batch.image_index]
    return replace(batch, images=images, valid=valid, image_index=torch.arange(len(images), device=images.device))


@torch.no_grad()
def decode(model: PointModel, memory: Memory) -> tuple[Tensor, Tensor]:
    """Decode greedily to tokens int64 [B, 2N] and logits [B, 2N, bins + 1], from the whole prefix for each token.

    Every layer also projects the encoder's output again for each token. Only for models with `end_token: last`.
    """
    decoded = torch.zeros(len(memory.features), 0, dtype=torch.int64, device=memory.features.device)
    seen = []
    for _ in range(2 * model.points):
        unknown = decoded.new_zeros(len(decoded), 1)  # the place of the token to predict; its value is not used
        keys, values = model.keys_values(memory.features, memory.positions)
        logits = model.logits(replace(memory, keys=keys, values=values), torch.cat([decoded, unknown], 1))[:, -1]
        decoded = torch.cat([decoded, logits[:, :-1].argmax(-1, keepdim=True)], 1)
        seen.append(logits)
    return decoded, torch.stack(seen, 1)


@torch.no_grad()
def predict(model: PointModel, batch: Batch) -> Tensor:
    """Predict tokens int64 [B, 2N], with an image per expression and a decoder that keeps nothing between tokens."""
    return decode(model, model.encode(unshared(batch)))[0]


def training_step(
    model: PointModel, batch: Batch, config: TrainConfig, optimiser: torch.optim.Optimizer, size: int
) -> float:
    """Do a training step with an image for every ref and, as in the released code, every training prediction's IoU."""
    assert batch.tokens is not None
    logits = model(unshared(batch))
    loss = sequence_loss(logits, batch.tokens, config.smoothing, config.end_weight, config.first_weight)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([each for each in model.parameters() if each.requires_grad], config.clip)
    optimiser.step()
    pairs = [
        [contour.polygon_rle(points, size, size) for points in tokens.sequence_to_points(each, size, model.config.bins)]
        for each in (logits.detach()[:, :-1, :-1].argmax(-1).cpu().numpy(), batch.tokens[:, :-1].cpu().numpy())
    ]
    coco.iou(*pairs, [0] * len(pairs[1]))
    return float(loss.detach())


def resampled(points: np.ndarray, height: int, width: int, number: int) -> np.ndarray:
    """Resample (RPP) through a full-size mask: fill the polygon, trace `number` points [number, 2] on its outline."""
    return contour.trace(contour.fill(points, height, width), number)


def dice_loss(points: np.ndarray, box: np.ndarray, height: int, width: int) -> float:
    """Compute D (eq. 8) of a full-size mask."""
    return projection.projection_dice_loss(contour.fill(points, height, width), box)


def intersections_over_unions(first: list[Rle], second: list[Rle]) -> np.ndarray:
    """Return the IoU of first[i] with second[i], float64 [n], taken from the matrix of all pairs."""
    return np.asarray(coco.iou(first, second, [0] * len(second))).diagonal()
