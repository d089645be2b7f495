"""Watch a training while it runs: scores on a sample of split val, and TensorBoard events."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pycocotools import mask as coco

from partialres.config import ConfigError
from partialres.data.batches import expression_batches, places_by_image
from partialres.data.inputs import Inputs
from partialres.data.vocabulary import Vocabulary
from partialres.files import DataError
from partialres.geometry import boxes, contour
from partialres.model.build import Model

SAMPLE = 256  # most refs of split val that are scored, evenly spaced, each with its first expression


def sample_score(
    model: Model, refs: pd.DataFrame, inputs: Inputs, words: Vocabulary, device: torch.device
) -> Callable[[], dict[str, float]]:
    """Return a function that scores the model's current weights on a sample of the refs of split val.

    Its val_mIoU, in per cent, is of masks, or of boxes for a model of step 1. refs: as in refs.parquet.
    Raises DataError if split val has no refs, or one of the sample no mask.
    """
    val = refs[refs["split"] == "val"]
    sample = val.iloc[:: max(1, -(-len(val) // SAMPLE))].reset_index(drop=True)
    sample = sample.assign(expressions=[expressions[:1] for expressions in sample["expressions"]])
    places, of_masks = places_by_image(sample, inputs, SAMPLE), model.points > 2
    if not len(sample) or (of_masks and sample["mask"].isna().any()):
        raise DataError("training.score_epochs: split val has no refs, or some without masks; set it to null")

    @torch.no_grad()
    def score() -> dict[str, float]:
        model.eval()
        ious: list[float] = []
        for positions, _, batch in expression_batches(sample, inputs, words, places):
            shown = sample.iloc[positions]
            windows = [inputs.window(row) for row in inputs.rows(shown["image_id"].tolist()).tolist()]
            answers = model.answers(batch.to(device), windows)
            for answer, ref in zip(answers, shown.to_dict("records"), strict=True):
                if of_masks:
                    mask = answer.mask or contour.polygon_rle(answer.points, ref["height"], ref["width"])
                    truth = {"size": [ref["height"], ref["width"]], "counts": ref["mask"].encode()}
                    ious.append(float(coco.iou([mask], [truth], [0])[0, 0]))
                else:
                    ious.append(float(boxes.iou(boxes.from_points(answer.points), np.array(ref["bbox"]))))
        return {"val_mIoU": 100 * float(np.mean(ious))}

    return score


class Events:
    """Writes a training's metrics as TensorBoard events; a resumed training writes its earlier epochs' again."""

    def __init__(self, folder: Path) -> None:
        """Begin a new file of events in a folder and remove older ones; raises ConfigError without TensorBoard."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "training.tensorboard needs TensorBoard: pip install --editable '.[tensorboard]', or set it to false"
            ) from None
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer, self.written = SummaryWriter(folder), 0

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows that are new since the last call. history: the rows of metrics.csv."""
        for row in history[self.written :]:
            for name in row.keys() - {"epoch", "step"}:
                self.writer.add_scalar(name, row[name], row["step"])
        self.written = len(history)
        self.writer.flush()
