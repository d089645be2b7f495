"""Evaluation: predict and score every expression of a split."""

from __future__ import annotations

from pathlib import Path

from partialres import evaluation, metrics
from partialres.checkpoints.model_file import load_model
from partialres.config import ConfigError
from partialres.data.masks import check_masks
from partialres.files import read_table, say, write_json, write_table
from partialres.geometry.rle import run_lengths
from partialres.steps.sources import Sources


def evaluate(refs: Path, sources: Sources, weights: Path, split: str, batch: int, device: str, out: Path) -> None:
    """Write predictions.parquet and metrics.json of a split. Two points mean a box: such a model is scored by boxes."""
    words = sources.words()
    model = load_model(weights, words.digest())
    if model.config.view == "box":
        raise ConfigError(f"{weights}: sees the known box (model.view: box), so it must not be scored")
    of_masks = [] if model.points == 2 else ["height", "width", "mask", "parts"]
    table = read_table(refs, ["ref_id", "image_id", "split", "bbox", "expressions", *of_masks])
    chosen = evaluation.select_split(table, split)
    inputs = sources.inputs(model, weights)
    predicted = evaluation.predict(model, chosen, inputs, words, batch=batch, device=device, label=f"evaluate {split}")
    if predicted is None:
        return
    if model.points == 2:
        table = evaluation.score_boxes(chosen, predicted)
        scores = metrics.summarise_boxes(table)
    else:
        check_masks(chosen, refs)
        table = evaluation.score_masks(chosen, predicted, inputs.size, model.visual.stride)
        # fewer than three points or no area: the mask is one run, of background
        empty = sum(len(run_lengths(counts.encode())) < 2 for counts in table["mask"])
        scores = metrics.summarise(table) | {"degenerate": empty}
    write_table(table, out / "predictions.parquet")
    write_json(scores, out / "metrics.json")
    say(f"{split}: " + ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
