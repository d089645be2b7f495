"""Step 2: learn the contours of the labelled refs. Step 3: learn those and the selected pseudo points."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from partialres.checkpoints.model_file import load_weights, read_config
from partialres.config import ConfigError, ModelConfig, TrainConfig, check_contour
from partialres.data.masks import check_masks
from partialres.files import DataError, read_table, say
from partialres.geometry import contour
from partialres.model.build import build_model
from partialres.steps.fit import Execution, fit
from partialres.steps.sources import Sources


def train_res(
    split: Path,
    sources: Sources,
    init: Path,
    config: ModelConfig,
    training: TrainConfig,
    execution: Execution,
    *,
    points: int,
    position_table: Literal["drop", "extend"],
    selected: Path | None,
    val: Path | None = None,
    sampling: contour.Sampling = "uniform",
) -> None:
    """Train step 2, or step 3 if `selected` pseudo points are given. A mask head learns the masks themselves.

    init: step 1's model file; its config must match. points: N. position_table: see `load_weights`.
    val: refs.parquet, of which training.score_epochs scores a sample.
    sampling: how points are taken from a mask's contour.
    Raises DataError if a selected ref does not have N points, ConfigError if the model cannot predict its targets.
    """
    words = sources.words()
    config.check_init(read_config(init))
    check_contour(sampling, config)
    if config.head == "mask" and selected is not None:
        raise ConfigError("model.head: mask predicts no points for step 3 to learn from; set steps: [2]")
    model = build_model(config, len(words), points, execution.seed)
    fresh = load_weights(model, init, words.digest(), position_table)
    say(f"train-res: from {init}; new: {', '.join(sorted({name.split('.')[0] for name in fresh})) or 'nothing'}")
    everything = read_table(split, ["ref_id", "image_id", "height", "width", "bbox", "mask", "labelled", "expressions"])
    refs = check_masks(everything[everything["labelled"]].reset_index(drop=True), split)
    if config.head == "points":
        refs = _with_points(refs, points, sampling, outlines=training.jitter is not None)
    files = {"split": split, "init": init}
    if selected:
        files["selected"] = selected
        pseudo = _pseudo_labelled(everything, selected, points)
        say(f"train-res: {len(refs)} labelled refs and {len(pseudo)} pseudo-labelled ones")
        refs = pd.concat([refs, pseudo], ignore_index=True)
    fit(
        model, refs, sources, training, execution,
        files=files, settings={"position_table": position_table, "contour": sampling}, sampling=sampling, val=val,
        label=f"train-res (step {3 if selected else 2})",
    )  # fmt: skip


def _with_points(refs: pd.DataFrame, number: int, sampling: contour.Sampling, outlines: bool) -> pd.DataFrame:
    """Add a column points, N on each mask's contour, and if `outlines` a column outline, the whole contour; pixels."""
    columns = (refs[name] for name in ("mask", "height", "width"))
    masks = [contour.decode(*ref) for ref in zip(*columns, strict=True)]
    added = refs.assign(points=[contour.sample(mask, number, sampling) for mask in masks])
    return added.assign(outline=[contour.largest_outline(mask) for mask in masks]) if outlines else added


def _pseudo_labelled(everything: pd.DataFrame, selected: Path, number: int) -> pd.DataFrame:
    """Return the selected refs; their pseudo points become the columns points and outline."""
    chosen = read_table(selected, ["ref_id", "points"])
    points = [np.array(list(each), dtype=np.float64) for each in chosen["points"]]
    wrong = [len(each) for each in points if len(each) != number]
    if wrong:
        raise DataError(f"{selected}: holds contours of {wrong[0]} points, not {number}; select again")
    return everything.set_index("ref_id").loc[chosen["ref_id"]].reset_index().assign(points=points, outline=points)
