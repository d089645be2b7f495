"""Steps 1 and 2 learn the 18 objects of the real sample by heart. PARTIALRES_SHARED names the folder that holds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from partialres.config import ModelConfig, TrainConfig
from partialres.data.pickles import read_plain
from partialres.files import read_json, write_json
from tests.commands import done

pytestmark = pytest.mark.skipif("PARTIALRES_SHARED" not in os.environ, reason="PARTIALRES_SHARED names no folder")
SIZE = 96  # pixels
TWIN = 10**12  # added to the ids of a photograph and its annotations, gives those of the mirrored ones
MODEL = ModelConfig(
    backbone="tiny", frozen="none", fusion=64, language=32, word=32, freeze_words=False, width=64, heads=4,
    encoder_layers=1, decoder_layers=1, feedforward=128, dropout=0, bins=64,
)  # fmt: skip
TRAINING = TrainConfig(
    epochs=80, batch=9, learning_rate=3e-3, warmup_epochs=2, schedule="cosine", amsgrad=False, ema=0.98,
    checkpoint_epochs=80,
)  # fmt: skip


def test_the_samples_objects_are_learned_by_heart(tmp_path):
    write_twice(Path(os.environ["PARTIALRES_SHARED"]) / "refcoco-sample", tmp_path / "raw")
    pictures = ["--image-folder", tmp_path / "raw/images"]
    done("prepare", tmp_path / "raw", *pictures, "--out", tmp_path)
    done("cache-images", tmp_path / "refs.parquet", *pictures, "--size", SIZE, "--out", tmp_path / "images")
    done("split", tmp_path / "refs.parquet", "--ratio", 100, "--out", tmp_path / "split.parquet")
    train = ["--model", MODEL.model_dump_json(), "--training", TRAINING.model_dump_json(), *seen(tmp_path)]
    done("train-rec", tmp_path / "refs.parquet", *train, "--out", tmp_path / "rec")
    boxes = scores(tmp_path, "rec")
    assert boxes["refs"] == 2 * 18 and boxes["box_accuracy"] > 90
    start = ["--init", tmp_path / "rec/model.safetensors", "--points", 18, "--position-table", "extend"]
    done("train-res", tmp_path / "split.parquet", *start, *train, "--out", tmp_path / "res")
    assert scores(tmp_path, "res")["mIoU"] > 70


def write_twice(sample: Path, out: Path) -> None:
    """Write the objects of the sample's three data sets as own data: in their photographs, and in these mirrored.

    An object has the same expressions in both, so a model that reads only words is right in one of the two at most.
    """
    images, annotations, expressions = {}, {}, {}
    for name in ("refcoco", "refcoco+", "refcocog"):
        content = read_json(sample / name / "instances.json")
        images |= {each["id"]: each for each in content["images"]}
        annotations |= {each["id"]: each for each in content["annotations"]}
        for ref in read_plain(sample / name / "refs(smoke).p"):
            expressions.setdefault(ref["ann_id"], []).extend(each["sent"] for each in ref["sentences"])
    (out / "images").mkdir(parents=True)
    written, entries = {"images": [], "annotations": []}, []
    for key, image in images.items():
        with Image.open(sample / "images/train2014" / image["file_name"]) as photograph:
            for name, picture in ((f"{key}.png", photograph), (f"mirrored{key}.png", ImageOps.mirror(photograph))):
                picture.save(out / "images" / name)
        written["images"] += [image | {"file_name": f"{key}.png"}]
        written["images"] += [image | {"file_name": f"mirrored{key}.png", "id": key + TWIN}]
    for key, texts in expressions.items():
        plain = annotations[key]
        written["annotations"] += [plain, mirrored(plain, images[plain["image_id"]]["width"])]
        entries += [{"annotation_id": each, "split": "train", "expressions": texts} for each in (key, key + TWIN)]
    write_json(written, out / "instances.json")
    write_json(entries, out / "expressions.json")


def mirrored(annotation: dict, width: int) -> dict:
    """Mirror an annotation in an image of this width in pixels."""
    x, y, w, h = annotation["bbox"]
    polygons = [
        [width - value if place % 2 == 0 else value for place, value in enumerate(polygon)]
        for polygon in annotation["segmentation"]
    ]
    ids = {name: annotation[name] + TWIN for name in ("id", "image_id")}
    return annotation | ids | {"bbox": [width - x - w, y, w, h], "segmentation": polygons}


def seen(folder: Path) -> list:
    return ["--vocabulary", folder / "vocabulary.json", "--images", folder / "images", "--threads", 1]


def scores(folder: Path, step: str) -> dict:
    """Score a step's model on the refs that it was trained on."""
    model = ["--model", folder / step / "model.safetensors", "--split", "train", *seen(folder)]
    done("evaluate", folder / "refs.parquet", *model, "--out", folder / step)
    return read_json(folder / step / "train/metrics.json")
