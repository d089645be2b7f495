"""A small timm network on real photographs at 640 pixels, through the commands. PARTIALRES_SHARED holds the sample."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from partialres.checkpoints.model_file import load_model, read_config
from partialres.config import ModelConfig, TrainConfig
from partialres.files import read_json, read_table
from tests.backbones import SMALL, needs_timm
from tests.commands import done, run

pytestmark = [
    needs_timm,
    pytest.mark.skipif("PARTIALRES_SHARED" not in os.environ, reason="PARTIALRES_SHARED names no folder"),
]
MODEL = ModelConfig(
    backbone=SMALL, frozen="but_last_stage", fusion=32, language=16, word=16, freeze_words=False, width=32, heads=2,
    encoder_layers=1, decoder_layers=1, feedforward=32, bins=64,
)  # fmt: skip
TRAINING = TrainConfig(epochs=1, batch=4, warmup_epochs=0).model_dump_json()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the sample prepared, and step 1 and 2 trained for an epoch from random weights."""
    sample, folder = Path(os.environ["PARTIALRES_SHARED"]) / "refcoco-sample", tmp_path_factory.mktemp("photographs")
    pictures = ["--image-folder", sample / "images/train2014"]
    done("prepare", sample / "refcoco", *pictures, "--split-by", "smoke", "--out", folder)
    done("cache-images", folder / "refs.parquet", *pictures, "--size", 640, "--out", folder / "images")
    done("split", folder / "refs.parquet", "--ratio", 50, "--out", folder / "split.parquet")
    model = ["--model", MODEL.model_dump_json(), "--training", TRAINING, *seen(folder)]
    done("train-rec", folder / "refs.parquet", *model, "--out", folder / "rec")
    start = ["--init", folder / "rec/model.safetensors", "--points", 12]
    done("train-res", folder / "split.parquet", *start, *model, "--out", folder / "res")
    return folder


def seen(folder: Path) -> list:
    return ["--vocabulary", folder / "vocabulary.json", "--images", folder / "images"]


def test_the_model_file_names_its_backbone_and_gives_the_same_network_back(place):
    path = place / "res/model.safetensors"
    assert read_config(path).backbone == SMALL
    first, second = load_model(path), load_model(path)
    assert first.visual.digest() == second.visual.digest() and not first.training


def test_a_trained_model_decodes_contours_in_the_photograph(place, tmp_path):
    model = ["--model", place / "res/model.safetensors", "--split", "val", *seen(place)]
    done("evaluate", place / "refs.parquet", *model, "--out", tmp_path)
    table = read_table(tmp_path / "val/predictions.parquet")
    assert len(table) and table["iou"].between(0, 1).all()


def test_features_of_a_frozen_network_are_cached_and_trained_on(place, tmp_path):
    frozen = MODEL.replace(frozen="all")
    weights = place / "rec/model.safetensors"
    made = ["--images", place / "images", "--model", frozen.step_1().model_dump_json(), "--out", tmp_path / "features"]
    done("cache-features", weights, *made)
    features = np.load(tmp_path / "features/features.npy", mmap_mode="r")
    assert features.shape[1:] == (MODEL.fusion, 20, 20) and features.dtype == np.float16
    options = ["--init", weights, "--points", 12, "--model", frozen.model_dump_json(), "--training", TRAINING]
    done(
        "train-res", place / "split.parquet", *options, *seen(place), "--features", tmp_path / "features",
        "--out", tmp_path / "res",
    )  # fmt: skip
    trained, start = load_model(tmp_path / "res/model.safetensors"), load_model(weights)
    assert trained.visual.digest() == start.visual.digest() == read_json(tmp_path / "features/features.json")["visual"]


def test_released_code_has_no_such_model(place, tmp_path):
    words = ["--vocabulary", place / "vocabulary.json"]
    answer = run("export-weights", place / "res/model.safetensors", tmp_path / "a.pth", *words)
    assert answer.exit_code == 1 and not (tmp_path / "a.pth").exists()


def test_the_frozen_stages_keep_their_weights_and_the_last_one_learns(place):
    from partialres.model.build import build_model

    trained = load_model(place / "rec/model.safetensors")
    words = len(read_json(place / "vocabulary.json")["words"])
    start = build_model(MODEL.step_1(), words, 2).visual.backbone.state_dict()
    changed = {
        name for name, value in trained.visual.backbone.state_dict().items() if not torch.equal(value, start[name])
    }
    assert changed and all(name.startswith("network.layer4") for name in changed)
