"""Pre-train backbone and neck to detect objects, on training images only; for tiny this replaces YOLOv3's training.

As in FCOS, every image position on an object learns that object's labels and the distances to the sides of its box.
It uses boxes, categories and other labels of all annotated objects, but no masks and no held-out images.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialres.config import PretrainConfig
from partialres.data.inputs import Inputs, valid_positions
from partialres.data.refer import Problems, read_annotations
from partialres.files import DataError, TrainingError, progress, say
from partialres.geometry import boxes
from partialres.model.visual import Visual
from partialres.training.resume import Resume

INSET = 0.15  # margin inside a box, over its width or height, whose positions do not count as the object's
ABSENT = -1  # stands for a missing label
SIDES_WEIGHT = 20.0  # distances are about 0.2 frames; this makes their loss about as large as the labels'


@dataclass(frozen=True)
class Scenes:
    """Detection targets: for every image position the labels and box of the object that it lies on, if any.

    n images · H, W image positions · A label sets (category, colour, ...)
    """

    rows: np.ndarray  # int64 [n]: image cache rows
    inside: np.ndarray  # bool [n, H, W]: false in the frame's padding
    present: np.ndarray  # bool [n, H, W]: whether the position lies on an object
    labels: np.ndarray  # int64 [n, H, W, A]
    sides: np.ndarray  # float32 [n, H, W, 4]: distance to the box's left, top, right and bottom, over the frame's side
    classes: list[int]  # A: number of classes of each label set


def read_scenes(instances: Path, image_ids: list[int], inputs: Inputs) -> Scenes:
    """Read every annotated object of the given images from a COCO file.

    The file is checked as `prepare` checks it. An annotation's `category_id` and each of its "attributes" (name ->
    value) are labels, if present. Crowds, and objects without a usable box, which are counted, are left out.
    Raises DataError as `read_annotations` does, or if the file has no object.
    """
    place = {image: index for index, image in enumerate(image_ids)}
    rows = inputs.rows(image_ids)
    windows = [inputs.window(row) for row in rows.tolist()]
    objects: list[tuple[int, list[float], dict[str, Any]]] = []  # place of the image, box in pixels, labels
    unusable = 0
    for item in read_annotations(instances, set(), Problems()).values():
        index = place.get(item["image_id"])
        if index is None or item.get("iscrowd"):
            continue
        box = boxes.within(item.get("bbox"), *windows[index].file_size)
        if box is None:
            unusable += 1
            continue
        labels = item["attributes"]
        if item.get("category_id") is not None:
            labels = {"category": item["category_id"], **labels}
        objects.append((index, box, labels))
    if unusable:
        say(f"{instances}: {unusable} annotations without a usable bbox are left out")
    if not objects:
        raise DataError(f"{instances}: no annotated object in any of the {len(image_ids)} training images")
    names = sorted({name for _, _, labels in objects for name in labels})
    classes = {name: sorted({labels[name] for _, _, labels in objects if name in labels}, key=str) for name in names}
    cells = inputs.size // inputs.stride
    present = np.zeros((len(rows), cells, cells), dtype=bool)
    targets = np.zeros((*present.shape, len(classes)), dtype=np.int64)
    sides = np.zeros((*present.shape, 4), dtype=np.float32)
    middles = (np.arange(cells) + 0.5) * inputs.stride
    # Where boxes overlap, the smaller one, written last, gets the position: the larger object is visible around it.
    # Boxes are compared by their own area, because COCO's `area` is the mask's, which this training must not read.
    for index, box, labels in sorted(objects, key=lambda item: -item[1][2] * item[1][3]):
        low, high = windows[index].to_frame(boxes.to_corners(np.array(box)))
        inset = INSET * (high - low)
        columns, lines = (_positions(*ends, middles) for ends in zip(low + inset, high - inset, strict=True))
        at = index, lines[:, None], columns
        present[at] = True
        targets[at] = [classes[name].index(labels[name]) if name in labels else ABSENT for name in classes]
        x, y = np.meshgrid(middles[columns], middles[lines])
        sides[at] = np.stack([x - low[0], y - low[1], high[0] - x, high[1] - y], -1) / inputs.size
    sizes = [len(options) for options in classes.values()]
    return Scenes(rows, valid_positions(windows, inputs.stride), present, targets, sides, sizes)


def _positions(low: float, high: float, middles: np.ndarray) -> np.ndarray:
    """Find the positions whose middles lie in [low, high]; if there are none, the nearest to its centre."""
    inside = np.flatnonzero((middles >= low) & (middles <= high))
    return inside if len(inside) else np.array([np.abs(middles - (low + high) / 2).argmin()])


class DetectionHead(nn.Module):
    """Predicts objectness, box sides and each label set's classes at every position, by a 1 x 1 convolution."""

    def __init__(self, channels: int, classes: list[int]) -> None:
        super().__init__()
        self.classes = classes
        self.conv = nn.Conv2d(channels, 5 + sum(classes), 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Map [B, C, H, W] to objectness [B, H, W], sides [B, H, W, 4], logits [B, H, W, classes] per label set."""
        out = self.conv(features).permute(0, 2, 3, 1)
        return out[..., 0], out[..., 1:5], list(out[..., 5:].split(self.classes, -1))


def detection_loss(head: tuple[Tensor, Tensor, list[Tensor]], present: Tensor, labels: Tensor, sides: Tensor) -> Tensor:
    """Sum the losses: binary cross-entropy of objectness; on objects smooth L1 of sides and cross-entropy of labels."""
    objectness, predicted, logits = head
    loss = F.binary_cross_entropy_with_logits(objectness, present.float())
    loss = loss + SIDES_WEIGHT * F.smooth_l1_loss(predicted[present], sides[present], beta=0.02)
    for index, scores in enumerate(logits):
        given = present & (labels[..., index] != ABSENT)
        summed = F.cross_entropy(scores[given], labels[given][:, index], reduction="sum")
        loss = loss + summed / given.sum().clamp(min=1)
    return loss


def pretrain(
    visual: Visual, scenes: Scenes, inputs: Inputs, config: PretrainConfig, seed: int, resume: Resume | None = None,
    after_epoch: Callable[[list[dict[str, Any]]], None] = lambda history: None,
) -> pd.DataFrame:  # fmt: skip
    """Train backbone and neck in place, with one learning-rate cycle; batches are mirrored at random.

    resume: where a stopped training saved its last epoch; it goes on from there to the same result. after_epoch: called
    with the rows of all epochs so far.
    Returns a row per epoch: epoch, step, loss, learning_rate, seconds, and for each label set, by name, the share of
    positions on objects with the right label in that epoch (label0, label1, ...).
    Raises TrainingError if the loss is not finite.
    """
    torch.manual_seed(seed)
    visual.frozen = False
    visual.requires_grad_(True).train()
    head = DetectionHead(visual.neck.project.conv.out_channels, scenes.classes)
    parameters = [*visual.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    steps = -(-len(scenes.rows) // config.batch)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=config.epochs * steps)
    rng = np.random.default_rng(seed)
    history: list[dict[str, Any]] = []
    parts: dict[str, Any] = {"visual": visual, "head": head, "optimiser": optimiser, "cycle": cycle}
    resume = resume or Resume(None, {})
    if state := resume.load():
        for name, part in parts.items():
            part.load_state_dict(state[name])
        history, rng.bit_generator.state = state["history"], state["rng"]
        say(f"pretrain-backbone: resuming after epoch {len(history)}")
    for epoch in progress(range(len(history), config.epochs), "pretrain-backbone"):
        start, total = time.perf_counter(), 0.0
        right, seen = np.zeros(len(scenes.classes)), np.zeros(len(scenes.classes))
        for members in np.array_split(rng.permutation(len(scenes.rows)), steps):
            rows = scenes.rows[members]
            frames = inputs.frames(rows, [inputs.window(row) for row in rows.tolist()])
            targets = (scenes.inside[members], scenes.present[members], scenes.labels[members], scenes.sides[members])
            pixels, valid, present, labels, sides = map(torch.from_numpy, (frames, *targets))
            if rng.random() < 0.5:
                turned = (pixels, valid, present, labels, sides)
                pixels, valid, present, labels, sides = (each.flip(2) for each in turned)
                sides = sides[..., [2, 1, 0, 3]]  # left and right are swapped
            out = head(visual(pixels, valid))
            loss = detection_loss(out, present, labels, sides)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimiser.step()
            cycle.step()
            total += float(loss.detach())
            given = labels[present]  # [objects' positions, A]
            right += [float((scores[present].argmax(-1) == given[:, i]).sum()) for i, scores in enumerate(out[2])]
            seen += (given != ABSENT).sum(0).numpy()
        if not math.isfinite(total):
            raise TrainingError(f"pretrain-backbone: loss {total} in epoch {epoch}; lower the learning rate")
        shares = {f"label{index}": float(share) for index, share in enumerate(right / np.maximum(seen, 1))}
        rate, seconds = cycle.get_last_lr()[0], time.perf_counter() - start
        row = {"epoch": epoch, "step": (epoch + 1) * steps, "loss": total / steps, "learning_rate": rate}
        history.append({**row, **shares, "seconds": seconds})
        states: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
        if epoch + 1 < config.epochs:
            resume.save({**states, "rng": rng.bit_generator.state, "history": history})
        after_epoch(history)
    if shares:
        say(f"pretrain-backbone: right labels {', '.join(f'{value:.1%}' for value in shares.values())}")
    visual.eval()
    return pd.DataFrame(history)
