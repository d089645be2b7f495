"""Step 3, prediction: a contour for every unlabelled ref, and D, how much it differs from the known box."""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from partialres import evaluation
from partialres.checkpoints.model_file import load_model
from partialres.config import ConfigError
from partialres.data.samples import known_boxes
from partialres.evaluation import Prediction
from partialres.files import DataError, new_table, read_groups, read_metadata, read_table
from partialres.geometry import contour
from partialres.geometry.projection import projection_dice_loss
from partialres.steps.sources import Sources
from partialres.training.distributed import joined, pick_device

PART = "partialres part"  # in the file's metadata: which part of a prediction it is
POINTS = pa.schema(
    {
        "ref_id": pa.int64(), "expression": pa.string(), "points": pa.list_(pa.list_(pa.float64())),
        "probabilities": pa.list_(pa.float64()), "d": pa.float64(),
    }
)  # fmt: skip


def predict(
    split: Path, sources: Sources, weights: Path, batch: int, device: str, part: tuple[int, int], out: Path
) -> None:
    """Write points.parquet for the unlabelled refs of a split table; raises ConfigError if the model has a mask head.

    Only a model trained with view "box" sees the surroundings of the known box; any other sees the whole image. The
    file grows with every batch, which is not kept in memory. part: (i, n) predicts every n-th batch from batch i,
    counted from 0.
    """
    words = sources.words()
    model = load_model(weights, words.digest())
    if model.config.head == "mask":
        raise ConfigError(f"{weights}: a mask head (model.head: mask) predicts no points; take a model of head: points")
    columns = ["ref_id", "image_id", "height", "width", "bbox", "labelled", "expressions"]
    refs = candidates(read_table(split, columns))
    boxes = known_boxes(refs) if model.config.view == "box" else None
    inputs, place = sources.inputs(model, weights), pick_device(device)
    schema = POINTS.with_metadata({PART: f"{part[0] + 1} of {part[1]}"})
    with joined(place) as processes, new_table(out, schema) if processes.first else nullcontext() as append:
        for predicted in evaluation.predictions(
            model, refs, inputs, words, batch=batch, label="predict", place=place, processes=processes, part=part,
            boxes=boxes,
        ):  # fmt: skip
            if append:
                append(points_table(refs, predicted))


def gather(parts: Sequence[Path], out: Path) -> None:
    """Write points.parquet from all of its parts: batch by batch, each part in turn.

    Raises DataError if the parts are not all of one prediction's, in their order.
    """
    for number, part in enumerate(parts, 1):
        given, expected = read_metadata(part).get(PART, "no part of a prediction"), f"{number} of {len(parts)}"
        if given != expected:
            raise DataError(f"{part}: is {given}, not {expected}; give all parts of one prediction in their order")
    with new_table(out, POINTS.with_metadata({PART: "1 of 1"})) as append:
        for turn in zip_longest(*(read_groups(part, POINTS.names) for part in parts)):
            for batch in turn:
                if batch is not None:
                    append(batch)


def candidates(refs: pd.DataFrame) -> pd.DataFrame:
    """Return the unlabelled refs of a split table, each with only its first expression."""
    unlabelled = refs[~refs["labelled"]].reset_index(drop=True)
    return unlabelled.assign(expressions=[expressions[:1] for expressions in unlabelled["expressions"]])


def points_table(refs: pd.DataFrame, predicted: list[Prediction]) -> pd.DataFrame:
    """Make rows of points.parquet: ref_id, expression, points [N][2] in pixels, probabilities [2N], d (eq. 8; 0 to 2).

    refs: the candidates, with ref_id, bbox, height and width.
    """
    places = [prediction.position for prediction in predicted]
    columns = (refs[name].iloc[places] for name in ("bbox", "height", "width"))
    losses = [
        projection_dice_loss(contour.fill(prediction.points, height, width), np.asarray(box, dtype=np.float64))
        for prediction, box, height, width in zip(predicted, *columns, strict=True)
    ]
    return pd.DataFrame(
        {
            "ref_id": refs["ref_id"].to_numpy()[places],
            "expression": [prediction.expression for prediction in predicted],
            "points": [prediction.points.tolist() for prediction in predicted],
            "probabilities": [prediction.probabilities.tolist() for prediction in predicted],
            "d": losses,
        }
    )
