"""Evaluation: predict and score every expression of splits."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from partialres import evaluation, metrics
from partialres.checkpoints.model_file import load_model
from partialres.config import ConfigError
from partialres.data.masks import check_masks
from partialres.files import read_table, say, write_json, write_table
from partialres.geometry.rle import run_lengths
from partialres.steps.sources import Sources
from partialres.training.distributed import joined, pick_device


def evaluate(
    refs: Path, sources: Sources, weights: Path, splits: Sequence[str], batch: int, device: str, out: Path
) -> None:
    """Write predictions.parquet and metrics.json of each split into out/<split>.

    Two points mean a box: such a model is scored by boxes.
    """
    words = sources.words()
    model = load_model(weights, words.digest())
    if model.config.view == "box":
        raise ConfigError(f"{weights}: sees the known box (model.view: box), so it must not be scored")
    of_boxes = model.points == 2
    of_masks = [] if of_boxes else ["height", "width", "mask", "parts"]
    table = read_table(refs, ["ref_id", "image_id", "split", "bbox", "expressions", *of_masks])
    parts = {split: evaluation.select_split(table, split) for split in splits}
    for chosen in () if of_boxes else parts.values():
        check_masks(chosen, refs)
    inputs, place = sources.inputs(model, weights), pick_device(device)
    with joined(place) as processes:
        for split, chosen in parts.items():
            answered = evaluation.predictions(
                model, chosen, inputs, words, batch=batch, place=place, label=f"evaluate {split}", processes=processes
            )
            rows = inputs.rows(chosen["image_id"].tolist()).tolist()
            predicted = sorted(chain.from_iterable(answered), key=lambda each: (rows[each.position], each.position))
            if not processes.first:
                continue
            if of_boxes:
                scored = evaluation.score_boxes(chosen, predicted)
                scores = metrics.summarise_boxes(scored)
            else:
                scored = evaluation.score_masks(chosen, predicted, inputs.size, model.visual.stride)
                # fewer than three points or no area: the mask is one run, of background
                empty = sum(len(run_lengths(counts.encode())) < 2 for counts in scored["mask"])
                scores = metrics.summarise(scored) | {"degenerate": empty}
            write_table(scored, out / split / "predictions.parquet")
            write_json(scores, out / split / "metrics.json")
            say(f"{split}: " + ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
