"""Export to other projects' formats: predictions as COCO results, a model as a folder for the Hugging Face hub."""

import filecmp
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from partialres.checkpoints.model_file import read_header
from partialres.files import DataError, read_json, read_table, write_json, write_text
from partialres.geometry import boxes
from partialres.report.evaluations import evaluation_of
from partialres.report.intervals import interval


def coco_results(predictions: Path, refs: Path | None = None) -> list[dict[str, Any]]:
    """Turn predictions.parquet into COCO results, one per expression: masks as segmentation, step 1's boxes as bbox.

    Every score is 1, for each expression has one answer and nothing is ranked. ref_id, ann_id and expression say what
    was asked; COCO's own evaluation ignores them, and counts a second answer about the same object as wrong.
    refs: refs.parquet; None: the one in the nearest folder above the predictions.
    Raises DataError if there is none, or it lacks a predicted ref.
    """
    if refs is None:
        refs = next((above / "refs.parquet" for above in predictions.absolute().parents
                     if (above / "refs.parquet").is_file()), None)  # fmt: skip
        if refs is None:
            raise DataError(f"{predictions}: no folder above it has refs.parquet; name it with --refs")
    asked, table = read_table(predictions, ["ref_id", "expression"]), read_table(predictions)
    described = read_table(refs, ["ref_id", "ann_id", "image_id", "category_id", "height", "width"])
    joined = asked.merge(described, how="left", on="ref_id", validate="many_to_one")
    if joined["image_id"].isna().any():
        lacking = joined.loc[joined["image_id"].isna(), "ref_id"].iloc[0]
        raise DataError(f"{refs}: has no ref {lacking}, which {predictions} has; give the refs that were scored")
    names = ["image_id", "category_id", "ref_id", "ann_id"]
    results = [
        {name: int(row[name]) for name in names} | {"expression": row["expression"], "score": 1.0}
        for row in joined.to_dict("records")
    ]
    if "mask" in table:
        sizes = joined[["height", "width"]].astype(int).to_numpy().tolist()
        for result, size, counts in zip(results, sizes, table["mask"], strict=True):
            result["segmentation"] = {"size": size, "counts": counts}
    else:
        for result, points in zip(results, table["points"], strict=True):
            result["bbox"] = boxes.from_points(np.array(points.tolist())).tolist()
    return results


CARD = """\
# {name}

A model of the Python package partialres: a picture and a phrase in, the outline of the object that the phrase names
out, as {points} points. It was trained as in Partial-RES (Qu et al., "Learning to Segment Every Referring Object Point
by Point", CVPR 2023).

    import partialres
    model = partialres.load("this folder")
    model.segment("photo.jpg", "the red cup on the left").overlay()

## Data

{data}

## Scores

{scores}

Brackets: 95 % interval over the objects of the split, for one trained model; another training may differ by more.

## Limits

- It was trained on pictures of {size} pixels. It knows {words} words and reads the first {max_words} of a phrase; all
  words that it does not know look the same to it.
- It always answers with one object, even if the phrase names none or several.
- An answer is one outline without holes: for an object in several parts it shows one part, or encloses all of them.
- It has learned the pictures and phrases above and is not meant for any others. Nobody has looked for errors that are
  unfair to people.

## Licence and origin

{licence}. Code at commit {commit}; config.json has every setting and the digests of the files that it was made from.
"""


def write_card(model: Path, metrics: Sequence[Path], licence: str, out: Path) -> None:
    """Write a folder to upload to the hub: model.safetensors, config.json and README.md, the model card.

    metrics: the model's metrics.json of each split, with its predictions.parquet beside it. licence: the weights', as
    the hub names it, such as mit.
    Raises DataError if the model or the figures cannot be read, or the figures are of several models or of step 1.
    """
    header = read_header(model)
    runs = [evaluation_of(path) for path in metrics]
    if len({run._replace(split="") for run in runs}) != 1 or runs[0].ratio is None:
        raise DataError("give the metrics.json of one model of step 2 or 3, one for each split")
    if len(set(runs)) < len(runs):
        raise DataError("a split's metrics.json is given twice; give each once")
    for path in metrics:
        scored = path.parents[1] / model.name
        if scored.is_file() and not filecmp.cmp(scored, model, shallow=False):
            raise DataError(f"{path}: scores {scored}, which is another model; give the metrics.json of {model}")
    run, rows, index = runs[0], [], []
    for path, each in zip(metrics, runs, strict=True):
        table, scores = read_table(path.with_name("predictions.parquet"), ["ref_id", "iou"]), read_json(path)
        low, high = interval(100 * table["iou"].to_numpy()[None], table["ref_id"].to_numpy())
        figures = {"mIoU": f"{scores['mIoU']:.1f} [{low:.1f}, {high:.1f}]", "oIoU": f"{scores['oIoU']:.1f}"}
        rows.append({"split": each.split, "expressions": scores["expressions"], **figures})
        index.append({
            "task": {"type": "image-segmentation"},
            "dataset": {"name": each.dataset, "type": each.dataset, "split": each.split},
            "metrics": [{"type": "mean_iou", "name": "mIoU", "value": round(scores["mIoU"], 2)}],
        })  # fmt: skip
    name = f"partialres-{run.dataset}-{run.experiment}-{run.ratio:g}"
    about = {
        "library_name": "partialres", "license": licence, "pipeline_tag": "image-segmentation",
        "tags": ["referring-expression-segmentation"], "model-index": [{"name": name, "results": index}],
    }  # fmt: skip
    words = header["vocabulary"]
    card = CARD.format(
        name=name, points=header["points"], size=header["image_size"], words=len(words["words"]),
        max_words=words["max_words"], licence=licence.upper(), commit=header["provenance"].get("commit", "unknown"),
        scores=_markdown(pd.DataFrame(rows)),
        data=f"{run.dataset}: every box of its training refs and {run.ratio:g} % of their masks; experiment "
        f"{run.experiment}, step {3 if run.step == 'retrain' else 2}, seed {run.seed}.",
    )  # fmt: skip
    write_json({key: value for key, value in header.items() if key != "vocabulary"}, out / "config.json")
    write_text(f"---\n{yaml.safe_dump(about, sort_keys=False)}---\n{card}", out / "README.md")
    shutil.copyfile(model, out / "model.safetensors")


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
