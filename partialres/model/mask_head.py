"""The two-head model of the paper's Figure 1: one query gives a box and, from step 2 on, a mask, as in MDETR.

It encodes image and expression as `PointModel` does and decodes one learned query. The box head is DETR's; the mask
head is DETR's for segmentation (Carion et al., ECCV 2020, sec. 4.4 and its released code) without the backbone's finer
maps, since `PointModel` does not use them either. Step 1 trains all but the mask head, so that its weights are random
when step 2 begins; according to the paper, this is why two-head models do badly with few masks.

B expressions · K image positions (H * W) · D width · h heads · S = 4 mask cells along the side of an image position
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch
from pycocotools import mask as coco
from torch import Tensor, nn
from torch.nn import functional as F

from partialres.config import ModelConfig, TrainConfig
from partialres.data.batch import Batch
from partialres.data.inputs import Inputs
from partialres.data.samples import MaskSamples, mask_samples
from partialres.data.views import Window
from partialres.data.vocabulary import Vocabulary
from partialres.geometry import contour
from partialres.geometry.rle import Rle
from partialres.model.attention import mlp, split_heads
from partialres.model.grounding import Answer, Grounding
from partialres.model.transformer import Memory

UPSAMPLING = 4  # S
L1_WEIGHT, GIOU_WEIGHT = 5.0, 2.0  # loss weights of DETR and MDETR; dice and focal loss have weight 1
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0  # DETR's parameters of the focal loss (Lin et al., ICCV 2017)


class Output(NamedTuple):
    """The outputs of both heads for B expressions."""

    boxes: Tensor  # [B, 4]: centre x, y, width, height in units of the frame, in (0, 1)
    masks: Tensor | None  # logits [B, S * H, S * W]; None in step 1


class MaskHead(nn.Module):
    """Turns the query's attention maps and the encoder's features into a finer map of mask logits, as in DETR."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, width = config.heads, config.width
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.coarse = nn.Sequential(_block(width + config.heads, width), _block(width, width))
        self.middle = _block(width, width // 2)
        self.fine = _block(width // 2, width // 4)
        self.out = nn.Conv2d(width // 4, 1, 3, padding=1)

    def reset_parameters(self) -> None:
        """Set the initial values that differ from a linear layer's."""
        for layer in (self.query, self.key):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def attention(self, query: Tensor, memory: Memory, positions: int) -> Tensor:
        """Map query [B, D] to attention [B, h, positions], which sums to one over heads and positions, as in DETR."""
        keys = split_heads(self.key(memory.features[:, :positions]), self.heads)
        queries = split_heads(self.query(query)[:, None], self.heads)
        scores = (queries @ keys.transpose(-1, -2)).float() * (keys.shape[-1] ** -0.5)
        scores = scores[:, :, 0] + memory.bias[:, :, 0, :positions].float()
        return scores.flatten(1).softmax(-1).unflatten(1, (self.heads, positions))

    def forward(self, query: Tensor, memory: Memory, valid: Tensor) -> Tensor:
        """Map query [B, D] to mask logits of the frame, [B, S * F, S * F]. valid: bool [B, F, F], true in the image."""
        shape = len(memory.grid.y), len(memory.grid.x)
        positions, left_out = shape[0] * shape[1], (0, valid.shape[2] - shape[1], 0, valid.shape[1] - shape[0])
        looked = self.attention(query, memory, positions).unflatten(-1, shape)
        # Scaled to a mean of one, like the features, whatever the number of heads and positions of the frame.
        looked = looked * (self.heads * valid[0].numel())
        features = memory.features[:, :positions].transpose(1, 2).unflatten(-1, shape)
        seen = torch.cat([features * valid[:, None, : shape[0], : shape[1]], looked.to(features.dtype)], 1)
        x = self.coarse(F.pad(seen, left_out))
        for finer in (self.middle, self.fine):
            x = finer(F.interpolate(x, scale_factor=2, mode="nearest"))
        return self.out(x)[:, 0]


def _block(channels: int, out: int) -> nn.Sequential:
    """Build a 3 x 3 convolution with GroupNorm and ReLU."""
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.GroupNorm(min(8, out // 2), out), nn.ReLU())


class MaskHeadModel(Grounding):
    """A box head and a convolutional mask head on the same encoder as `PointModel`'s."""

    def __init__(self, config: ModelConfig, words: int, points: int) -> None:
        """points: two in step 1, where the model has no mask head; more in steps 2 and 3."""
        super().__init__(config, words, points)
        self.query = nn.Parameter(torch.empty(1, config.width))
        self.box_head = mlp(config.width, config.width, config.width, 4)
        self.mask_head = MaskHead(config) if points > 2 else None

    def reset_parameters(self) -> None:
        """Draw the query's initial values."""
        nn.init.normal_(self.query)

    def samples(
        self, refs: pd.DataFrame, inputs: Inputs, words: Vocabulary,
        jitter: tuple[float, float] | None, sampling: contour.Sampling,
    ) -> MaskSamples:  # fmt: skip
        """Make the training samples. Only `PointModel` uses jitter and sampling."""
        return mask_samples(refs, inputs, words, masks=self.mask_head is not None, upsampling=UPSAMPLING)

    def answers(self, batch: Batch, windows: Sequence[Window]) -> list[Answer]:
        """Predict a box and, from step 2 on, a mask per expression. windows: B, each showing a whole image."""
        output = self(batch)
        middles, sides = output.boxes.double().cpu().numpy().reshape(-1, 2, 2).swapaxes(0, 1)
        corners = np.stack([middles - sides / 2, middles + sides / 2], axis=1)
        answers = [
            Answer(window.to_file(box * window.size), np.empty(0)) for window, box in zip(windows, corners, strict=True)
        ]
        if output.masks is None:
            return answers
        masks = zip(answers, output.masks.cpu().numpy(), windows, strict=True)
        return [answer._replace(mask=resize_to_image(logits, window)) for answer, logits, window in masks]

    def forward(self, batch: Batch) -> Output:
        """Compute the box, and from step 2 on the mask, of every expression."""
        memory = self.encode(batch)
        query = self.decode(memory)
        boxes = self.box_head(query).float().sigmoid()
        if self.mask_head is None:
            return Output(boxes, None)
        return Output(boxes, self.mask_head(query, memory, batch.valid[batch.image_index]).float())

    def decode(self, memory: Memory) -> Tensor:
        """Decode the query: [B, D]. As in DETR the input is zeros, and the learned query is added as its position."""
        x = torch.zeros_like(memory.features[:, :1])
        for index, layer in enumerate(self.decoder):
            own = layer.self_attention.keys_values(x, self.query)
            x = layer(x, x, self.query, own, None, memory, index)
        return self.decoder_norm(x)[:, 0]

    def loss(self, output: Output, batch: Batch, config: TrainConfig) -> Tensor:
        """Sum the losses of both heads, those of DETR and MDETR, to a scalar.

        batch.boxes, and with a mask head batch.masks, must be set. config is not used: it has settings only for tokens.
        """
        assert batch.boxes is not None
        l1 = F.l1_loss(output.boxes, batch.boxes, reduction="none").sum(-1).mean()
        loss = L1_WEIGHT * l1 + GIOU_WEIGHT * (1 - generalised_iou(output.boxes, batch.boxes)).mean()
        if output.masks is None:
            return loss
        assert batch.masks is not None
        masks = batch.masks.float() / 255
        return loss + dice_loss(output.masks, masks).mean() + focal_loss(output.masks, masks).mean()


def resize_to_image(logits: np.ndarray, window: Window) -> Rle:
    """Convert mask logits to a mask at the image file's size, interpolating bilinearly: a COCO RLE.

    logits: float [cells, cells], over the frame. The mask is where they exceed zero, a probability of one half.
    """
    (height, width), (file_height, file_width) = window.shape, window.file_size
    frame = cv2.resize(logits, (window.size, window.size), interpolation=cv2.INTER_LINEAR)[:height, :width]
    mask = cv2.resize(frame, (file_width, file_height), interpolation=cv2.INTER_LINEAR) > 0
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """Compute the GIoU of pairs of boxes [..., 4] (centre x, y, width, height): [...] in [-1, 1].

    GIoU is the IoU minus the share of the common bounding box that neither box covers (Rezatofighi et al., CVPR 2019).
    """
    low, high = (torch.stack([box[..., :2] + side * box[..., 2:] / 2 for box in (first, second)]) for side in (-1, 1))
    intersection = (high.amin(0) - low.amax(0)).clamp(min=0).prod(-1)
    union = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - intersection
    hull = (high.amax(0) - low.amin(0)).prod(-1)
    smallest = torch.finfo(union.dtype).tiny
    return intersection / union.clamp(min=smallest) - (hull - union) / hull.clamp(min=smallest)


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Compute 1 - (2 |p m| + 1) / (|p| + |m| + 1) of mask logits and masks in [0, 1], each [B, H, W]: [B] (DETR)."""
    probability, masks = logits.sigmoid().flatten(1), masks.flatten(1)
    both = (probability * masks).sum(1)
    return 1 - (2 * both + 1) / (probability.sum(1) + masks.sum(1) + 1)


def focal_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Average the sigmoid focal loss (Lin et al., ICCV 2017) of mask logits and masks in [0, 1], [B, H, W]: [B].

    A cell that the mask covers in part counts as foreground for that part and as background for the rest.
    """
    foreground = FOCAL_ALPHA * (1 - logits.sigmoid()) ** FOCAL_GAMMA * -F.logsigmoid(logits)
    background = (1 - FOCAL_ALPHA) * logits.sigmoid() ** FOCAL_GAMMA * -F.logsigmoid(-logits)
    return (masks * foreground + (1 - masks) * background).flatten(1).mean(1)
