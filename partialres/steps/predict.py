"""Step 3, prediction: a contour for every unlabelled ref, and D, how much it differs from the known box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from partialres import evaluation
from partialres.checkpoints.model_file import load_model
from partialres.config import ConfigError
from partialres.data.samples import known_boxes
from partialres.evaluation import Prediction
from partialres.files import read_table, write_table
from partialres.geometry import contour
from partialres.geometry.projection import projection_dice_loss
from partialres.steps.sources import Sources
from partialres.training.distributed import joined, pick_device


def predict(split: Path, sources: Sources, weights: Path, batch: int, device: str, out: Path) -> None:
    """Write points.parquet for the unlabelled refs of a split table; raises ConfigError if the model has a mask head.

    Only a model trained with view "box" sees the surroundings of the known box; any other sees the whole image.
    """
    words = sources.words()
    model = load_model(weights, words.digest())
    if model.config.head == "mask":
        raise ConfigError(f"{weights}: a mask head (model.head: mask) predicts no points; take a model of head: points")
    columns = ["ref_id", "image_id", "height", "width", "bbox", "labelled", "expressions"]
    refs = candidates(read_table(split, columns))
    boxes = known_boxes(refs) if model.config.view == "box" else None
    inputs, place = sources.inputs(model, weights), pick_device(device)
    with joined(place) as processes:
        predicted = evaluation.predict(
            model, refs, inputs, words, batch=batch, label="predict", place=place, processes=processes, boxes=boxes
        )
        if processes.first:
            write_table(points_table(refs, predicted), out)


def candidates(refs: pd.DataFrame) -> pd.DataFrame:
    """Return the unlabelled refs of a split table, each with only its first expression."""
    unlabelled = refs[~refs["labelled"]].reset_index(drop=True)
    return unlabelled.assign(expressions=[expressions[:1] for expressions in unlabelled["expressions"]])


def points_table(refs: pd.DataFrame, predicted: list[Prediction]) -> pd.DataFrame:
    """Make points.parquet: ref_id, expression, points [N][2] in pixels, probabilities [2N], d (eq. 8; 0 to 2).

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
