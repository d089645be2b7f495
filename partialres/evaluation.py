"""Predict points or masks for refs with a model, and score them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import pandas as pd
import torch
from pycocotools import mask as coco

from partialres import metrics
from partialres.data.batches import expression_batches, places_by_image
from partialres.data.images import resized
from partialres.data.inputs import Inputs
from partialres.data.views import Window, around
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError, progress
from partialres.geometry import boxes, contour
from partialres.geometry.rle import Rle
from partialres.model.build import Model
from partialres.training.distributed import ALONE, Processes, gathered, on_device

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one expression."""

    position: int  # the ref's row in its table
    expression: str
    points: np.ndarray  # float64 [N, 2], pixels of the image file
    probabilities: np.ndarray  # float64 [2N], of each token when it was chosen; empty for a mask head
    mask: Rle | None = None  # from a mask head only, at the image file's size; points are then the box's corners


@torch.no_grad()
def predictions(
    model: Model, refs: pd.DataFrame, inputs: Inputs, words: Vocabulary, *, batch: int, label: str,
    place: torch.device = CPU, processes: Processes = ALONE, part: tuple[int, int] = (0, 1),
    boxes: np.ndarray | None = None,
) -> Iterator[list[Prediction]]:  # fmt: skip
    """Predict for every expression of the refs (columns image_id, expressions), and yield the answers batch by batch.

    The batches and their order do not depend on the number of processes, each of which takes its share of them. The
    first process yields the answers of all batches; the others yield none.
    part: (i, n) selects every n-th batch from batch i, counted from 0. boxes: corners [n, 2, 2] of the refs' boxes; if
    given, the model sees their surroundings, not the whole images.
    """
    on_device(model, place)
    model.eval()
    rows = inputs.rows(refs["image_id"].tolist())

    def window(position: int) -> Window:
        whole = inputs.window(rows[position])
        return whole if boxes is None else around(whole, boxes[position])

    shown = None if boxes is None else window
    batches = places_by_image(refs, inputs, batch, shown)[part[0] :: part[1]]
    made = expression_batches(refs, inputs, words, batches[processes.rank :: processes.count], shown)
    for _ in progress(range(-(-len(batches) // processes.count)), label):
        answered: list[Prediction] = []
        for positions, texts, group in islice(made, 1):  # the last round has none for some processes
            with torch.autocast(place.type, torch.bfloat16, enabled=place.type == "cuda"):
                answers = model.answers(group.to(place), [window(position) for position in positions.tolist()])
            asked = zip(positions.tolist(), texts, answers, strict=True)
            answered += [Prediction(position, text, *answer) for position, text, answer in asked]
        yield from filter(None, gathered([answered], processes))


def select_split(refs: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the refs of a split; if there are none, raises DataError that lists the existing splits."""
    chosen = refs[refs["split"] == split]
    if not len(chosen):
        raise DataError(
            f"no refs in split '{split}'; the data set has {', '.join(sorted(set(refs['split'])))}; choose one of these"
        )
    return chosen.reset_index(drop=True)


def score_boxes(refs: pd.DataFrame, predictions: Sequence[Prediction]) -> pd.DataFrame:
    """Score boxes, a row per expression: ref_id, expression, points, box_iou. refs needs ref_id and bbox."""
    ids, truth = refs["ref_id"].to_numpy(), np.stack([np.asarray(box, dtype=float) for box in refs["bbox"]])
    places = [prediction.position for prediction in predictions]
    predicted = boxes.from_points(np.stack([prediction.points for prediction in predictions]))
    return pd.DataFrame(
        {
            "ref_id": ids[places],
            "expression": [prediction.expression for prediction in predictions],
            "points": [prediction.points.tolist() for prediction in predictions],
            "box_iou": boxes.iou(predicted, truth[places]),
        }
    )


@dataclass(frozen=True)
class ReleasedScore:
    """A ref's true mask as the released evaluation uses it: resized, padded, and a "crowd" if it has several parts.

    For a crowd, the released IoU divides the intersection by the predicted area, not by the union.
    """

    truth: Rle
    crowd: bool
    scale: np.ndarray  # [2]: resized over original width and height

    @classmethod
    def of(cls, mask: np.ndarray, parts: int, size: int, multiple: int) -> ReleasedScore:
        """mask: bool [height, width]. size: resized long side, pixels. multiple: sides are padded to one of it."""
        height, width = resized(mask.shape[0], mask.shape[1], size)
        padded = [-(-side // multiple) * multiple for side in (height, width)]
        scale = np.array([width, height]) / mask.shape[::-1]
        return cls(_in_frame(mask, (height, width), padded), parts > 1, scale)

    def score(self, prediction: Prediction, height: int, width: int) -> float:
        """Compute the released IoU of a prediction about an image of height x width pixels."""
        if prediction.mask is None:
            predicted = contour.polygon_rle(prediction.points * self.scale, *self.truth["size"])
        else:
            mask = contour.decode(prediction.mask["counts"], height, width)
            shape = np.rint(mask.shape * self.scale[::-1]).astype(int).tolist()
            predicted = _in_frame(mask, (shape[0], shape[1]), self.truth["size"])
        return float(coco.iou([predicted], [self.truth], [int(self.crowd)])[0, 0])


def _in_frame(mask: np.ndarray, shape: tuple[int, int], padded: Sequence[int]) -> Rle:
    """Resize a bool mask to `shape` and place it at the top left of a `padded` frame; both (height, width), pixels."""
    height, width = shape
    frame = np.zeros(padded, dtype=np.uint8, order="F")
    frame[:height, :width] = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return coco.encode(frame)


def score_masks(refs: pd.DataFrame, predictions: Sequence[Prediction], size: int, multiple: int) -> pd.DataFrame:
    """Score masks, a row per expression.

    Columns: ref_id, expression, points, mask, iou, iou_upstream, box_iou, intersection, union.

    refs needs ref_id, bbox, height, width, mask and parts. iou compares masks at the image's own size. iou_upstream is
    the released evaluation's IoU, see `ReleasedScore` also for size and multiple. For a mask head, mask and box_iou are
    of its own mask and box, and points is empty.
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
    for prediction, box_iou in zip(predictions, score_boxes(refs, predictions)["box_iou"], strict=True):
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
                "iou_upstream": released[place].score(prediction, height, width),
                "box_iou": box_iou,
                "intersection": both,
                "union": either,
            }
        )
    return pd.DataFrame(rows)
