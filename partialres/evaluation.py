"""From a model and refs to predicted points, masks and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
import torch
from pycocotools import mask as coco

from partialres import metrics
from partialres.data.batches import expression_batches
from partialres.data.crop import Crop
from partialres.data.images import resized
from partialres.data.inputs import Inputs
from partialres.data.mask_targets import grown
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError, progress
from partialres.geometry import boxes, contour, tokens
from partialres.geometry.runs import Rle
from partialres.model.build import Model
from partialres.model.mask_head import MaskHeadModel
from partialres.model.pointer import Batch, PointModel


@dataclass(frozen=True)
class Prediction:
    """What the model says of one expression."""

    position: int  # of the ref in its table
    expression: str
    points: np.ndarray  # float64 [N, 2], pixels of the original image
    probabilities: np.ndarray  # float64 [2N], of each token when it was chosen; a mask head has none
    mask: Rle | None = None  # of a mask head, at the image's own size; its points are its box's corners


@dataclass(frozen=True)
class Known:
    """The refs' boxes, for a model that predicts pseudo points."""

    corners: np.ndarray  # float64 [n, 2, 2], left top and right bottom in pixels of the original images
    guided: bool  # coordinates are restricted to them


@torch.no_grad()
def predict(
    model: Model,
    refs: pd.DataFrame,
    inputs: Inputs,
    vocabulary: Vocabulary,
    *,
    batch: int,
    device: torch.device,
    label: str,
    block: tuple[int, int] = (0, 1),
    known: Known | None = None,
) -> Iterator[Prediction]:
    """Answer every expression of refs (columns image_id, expressions); order: image by image.

    block: (i, n) for the i-th of n parts of the images alone. known: the refs' boxes, where the model may use them.
    """
    model.to(device).eval()
    rows = inputs.rows(refs["image_id"].tolist())
    shown = known.corners if known is not None and model.config.view == "box" else None
    crops = [inputs.crop(row, None if shown is None else shown[place]) for place, row in enumerate(rows.tolist())]
    batches = expression_batches(refs, inputs, vocabulary, batch, block, None if shown is None else crops)
    total = -(-sum(map(len, refs["expressions"])) // batch // block[1])
    for positions, texts, group in progress(batches, label, total):
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            if isinstance(model, MaskHeadModel):
                answers = _found(model, group.to(device), rows[positions], inputs)
            else:
                answers = _decoded(model, group.to(device), positions, rows, crops, inputs, known)
        for position, text, one in zip(positions, texts, answers, strict=True):
            yield Prediction(int(position), text, *one)


Answer = tuple[np.ndarray, np.ndarray, Rle | None]  # points, probabilities and mask of a Prediction


def _decoded(
    model: PointModel, batch: Batch, positions: np.ndarray, rows: np.ndarray, crops: Sequence[Crop], inputs: Inputs,
    known: Known | None,
) -> list[Answer]:  # fmt: skip
    """The points that the model says of each expression.

    positions: int64 [B], its ref in the table. rows, crops: of every ref, its image in the cache and the part it shows.
    """
    config, members = model.config, positions.tolist()
    extents = np.stack([inputs.extent(int(rows[one]), config.span, crops[one]) for one in members])
    allowed = box = None
    if known is not None:
        corners = np.stack([crops[one].points(known.corners[one]) for one in members])
        bins = tokens.quantise(corners, extents[:, None], config.bins, config.rounding)  # [B, 2 corners, 2 axes]
        place = torch.from_numpy(bins).to(batch.words.device)
        box = place.flatten(1) if config.prompt == "box" else None
        allowed = place.transpose(1, 2) if known.guided else None
    chosen, probabilities = model.decode(model.encode(batch), allowed, box)
    points = tokens.sequence_to_points(chosen.cpu().numpy(), extents, config.bins)
    return [
        (crops[one].original(many), sure.astype(np.float64), None)
        for one, many, sure in zip(members, points, probabilities.cpu().numpy(), strict=True)
    ]


def _found(model: MaskHeadModel, batch: Batch, rows: np.ndarray, inputs: Inputs) -> list[Answer]:
    """The corners of the box, and from step 2 on the mask, that the model finds for each expression."""
    found = model(batch)
    middles, sides = found.boxes.double().cpu().numpy().reshape(-1, 2, 2).swapaxes(0, 1)
    corners = np.stack([middles - sides / 2, middles + sides / 2], axis=1) * inputs.size
    masks: list[Rle | None] = [None] * len(rows)
    if found.masks is not None:
        logits = found.masks.cpu().numpy()
        masks = [_whole(one, int(row), inputs) for one, row in zip(logits, rows, strict=True)]
    return [
        (one / inputs.scale(int(row)), np.empty(0), mask) for one, row, mask in zip(corners, rows, masks, strict=True)
    ]


def _whole(logits: np.ndarray, row: int, inputs: Inputs) -> Rle:
    """The mask at its image's own size."""
    height, width = (int(side) for side in inputs.cache.shape[row])
    mask = grown(logits, (height, width), inputs.size, *inputs.cache.original(row))
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))


def select_split(refs: pd.DataFrame, split: str) -> pd.DataFrame:
    """The refs of a split; raises DataError that names the splits there are if it has none."""
    chosen = refs[refs["split"] == split]
    if not len(chosen):
        raise DataError(f"no refs in split '{split}'; the data set has {', '.join(sorted(set(refs['split'])))}")
    return chosen.reset_index(drop=True)


def evaluate_boxes(refs: pd.DataFrame, predictions: list[Prediction]) -> pd.DataFrame:
    """One row an expression: ref_id, expression, points, box_iou. refs needs ref_id and bbox."""
    ids, truth = refs["ref_id"].to_numpy(), np.stack([np.asarray(box, dtype=float) for box in refs["bbox"]])
    places = [prediction.position for prediction in predictions]
    found = boxes.from_points(np.stack([prediction.points for prediction in predictions]))
    return pd.DataFrame(
        {
            "ref_id": ids[places],
            "expression": [prediction.expression for prediction in predictions],
            "points": [prediction.points.tolist() for prediction in predictions],
            "box_iou": boxes.iou(found, truth[places]),
        }
    )


def _released(score: ReleasedScore, prediction: Prediction, height: int, width: int) -> float:
    """The released IoU of a prediction about an image of height x width pixels."""
    if prediction.mask is None:
        return score(prediction.points)
    return score.of_mask(contour.decode(prediction.mask["counts"], height, width))


@dataclass(frozen=True)
class ReleasedScore:
    """A ref's mask as the released evaluation compares it: resized, padded, and as a crowd if it has several parts.

    Of a crowd the released IoU is the intersection over the predicted area alone.
    """

    truth: Rle
    crowd: bool
    scale: np.ndarray  # [2]: resized over original width and height

    @classmethod
    def of(cls, mask: np.ndarray, parts: int, size: int, multiple: int) -> ReleasedScore:
        """mask: bool [height, width]. size: of the resized long side. multiple: sides are padded to such, pixels."""
        height, width = resized(mask.shape[0], mask.shape[1], size)
        padded = [-(-side // multiple) * multiple for side in (height, width)]
        scale = np.array([width, height]) / mask.shape[::-1]
        return cls(_in_frame(mask, (height, width), padded), parts > 1, scale)

    def __call__(self, points: np.ndarray) -> float:
        """The released IoU of the polygon through points [N, 2], in pixels of the original image."""
        return self._iou(contour.polygon_rle(points * self.scale, *self.truth["size"]))

    def of_mask(self, mask: np.ndarray) -> float:
        """The released IoU of a mask, bool [height, width] of the original image: resized as the true one is."""
        height, width = np.rint(mask.shape * self.scale[::-1]).astype(int).tolist()
        return self._iou(_in_frame(mask, (height, width), self.truth["size"]))

    def _iou(self, found: Rle) -> float:
        return float(coco.iou([found], [self.truth], [int(self.crowd)])[0, 0])


def _in_frame(mask: np.ndarray, shape: tuple[int, int], padded: Sequence[int]) -> Rle:
    """A mask, bool, resized to a shape at the top left of a frame; both are height and width in pixels."""
    height, width = shape
    frame = np.zeros(padded, dtype=np.uint8, order="F")
    frame[:height, :width] = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return coco.encode(frame)


def evaluate_masks(refs: pd.DataFrame, predictions: list[Prediction], size: int, multiple: int) -> pd.DataFrame:
    """One row an expression: ref_id, expression, points, mask, iou, iou_upstream, box_iou, intersection, union.

    refs needs ref_id, bbox, height, width, mask and parts. Masks are compared at the image's own size; iou_upstream is
    the released evaluation's figure (see ReleasedScore), for images of that long side padded to that multiple. Of a
    mask head the mask is its own, box_iou that of its box, and it has no points.
    Raises DataError if a ref has no mask.
    """
    lacking = refs["ref_id"][refs["mask"].isna()]
    if len(lacking):
        raise DataError(
            f"{len(lacking)} refs to be scored have no mask, the first ref_id {lacking.iloc[0]}; leave them "
            "out or mend their annotations"
        )
    rows = []
    released: dict[int, ReleasedScore] = {}
    sizes = refs[["height", "width"]].to_numpy().tolist()
    truths, parts, ids = refs["mask"].tolist(), refs["parts"].tolist(), refs["ref_id"].tolist()
    for prediction, box_iou in zip(predictions, evaluate_boxes(refs, predictions)["box_iou"], strict=True):
        place = prediction.position
        height, width = sizes[place]
        mask = prediction.mask or contour.polygon_rle(prediction.points, height, width)
        both, either = metrics.areas(mask, {"size": [height, width], "counts": truths[place].encode()})
        if place not in released:
            truth = contour.decode(truths[place], height, width)
            released[place] = ReleasedScore.of(truth, len(parts[place]), size, multiple)
        rows.append(
            {
                "ref_id": ids[place],
                "expression": prediction.expression,
                "points": [] if prediction.mask else prediction.points.tolist(),
                "mask": mask["counts"].decode(),
                "iou": both / either if either else 0.0,
                "iou_upstream": _released(released[place], prediction, height, width),
                "box_iou": box_iou,
                "intersection": both,
                "union": either,
            }
        )
    return pd.DataFrame(rows)
