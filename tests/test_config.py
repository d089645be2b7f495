"""Sections are read strictly, and the docs and the JSON schema agree with them."""

from __future__ import annotations

import json
import math
from functools import reduce
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from partialres.config import (
    BatchConfig,
    ConfigError,
    ModelConfig,
    PretrainConfig,
    PseudoConfig,
    Settings,
    TextConfig,
    TrainConfig,
    UpstreamConfig,
    check_contour,
    check_init_backbone,
)
from partialres.experiments import merge
from tools import reference

ROOT = Path(__file__).parents[1]
SECTIONS = [ModelConfig, UpstreamConfig, TrainConfig, PretrainConfig, PseudoConfig, BatchConfig, TextConfig, Settings]


@pytest.mark.parametrize("kind", SECTIONS)
def test_nothing_given_is_the_defaults_and_everything_given_comes_back(kind):
    assert kind.parse({}) == kind()
    assert kind.parse(kind().model_dump()) == kind()
    assert kind.parse(yaml.safe_load(kind().model_dump_json())) == kind()


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_section_cannot_be_changed_afterwards(kind):
    with pytest.raises(ValidationError, match="frozen"):
        setattr(kind(), next(iter(kind.model_fields)), 1)


def test_the_defaults_are_the_papers():
    model, training, pseudo = ModelConfig(), TrainConfig(), PseudoConfig()
    assert (model.bins, model.width, model.heads, model.encoder_layers, model.decoder_layers) == (1000, 256, 8, 6, 3)
    assert (training.batch, training.epochs, training.warmup_epochs, training.clip) == (128, 90, 5, 0.15)
    assert training.decay_at * training.epochs == pytest.approx(75)
    assert pseudo.threshold == 0.10 and pseudo.resample


@pytest.mark.parametrize("kind", SECTIONS)
def test_an_unknown_key_is_named_with_its_section_and_the_keys_it_has(kind):
    with pytest.raises(ConfigError, match=r"res\.depth: unknown key; the keys are .*") as caught:
        kind.parse({"depth": 3}, "res")
    assert all(name in str(caught.value) for name in kind.model_fields)


def test_a_decimal_comma_is_named():
    with pytest.raises(ConfigError, match=r"pseudo\.2: .*write a decimal with a point, as in 0\.2"):
        Settings.parse({"pseudo": {"threshold": 0, 2: None}})  # what YAML makes of {threshold: 0,2}


def test_every_mistake_is_a_line_of_its_own():
    with pytest.raises(ConfigError) as caught:
        Settings.parse({"model": {"ccft": True}, "res": {"epochs": "ten"}, "pseudo": {"threshold": 5}}, "ours, 1 %")
    lines = str(caught.value).splitlines()
    keys = ["ours, 1 %.model.ccft", "ours, 1 %.res.epochs", "ours, 1 %.pseudo.threshold"]
    assert [line.split(":")[0] for line in lines] == keys


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (ModelConfig, "width", "wide"), (ModelConfig, "width", 96.0), (ModelConfig, "width", True),
        (ModelConfig, "width", None), (ModelConfig, "cctf", 1), (ModelConfig, "cctf", "yes"),
        (ModelConfig, "backbone", "resnet"), (ModelConfig, "backbone", ["tiny"]), (ModelConfig, "dropout", "much"),
        (TrainConfig, "jitter", True), (TrainConfig, "jitter", 1.4),
        (TrainConfig, "betas", [0.9]), (TrainConfig, "betas", 0.9), (TrainConfig, "betas", [0.9, "x"]),
        (TrainConfig, "epochs", {"by_ratio": {"1": 3}}), (TrainConfig, "learning_rate", True),
        (PseudoConfig, "resample", None), (TextConfig, "vectors", 3), (Settings, "init_backbone", "pretrian"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_named_by_section_and_key(kind, key, value):
    with pytest.raises(ConfigError, match=rf"retrain\.{key}.*"):
        kind.parse({key: value}, "retrain")


def test_whole_numbers_stand_for_floats_lists_for_tuples_and_exponents_without_a_point_for_numbers():
    filled = TrainConfig.parse({"learning_rate": "5e-4", "betas": [0, 0.5], "weight_decay": 0})
    assert filled == TrainConfig(learning_rate=5e-4, betas=(0.0, 0.5), weight_decay=0.0)
    assert isinstance(filled.weight_decay, float) and isinstance(filled.betas, tuple)


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        (ModelConfig, {"fusion": 100}, "fusion"), (ModelConfig, {"width": 250}, "width"),
        (ModelConfig, {"width": 0}, "width"), (ModelConfig, {"dropout": 1.0}, "dropout"),
        (ModelConfig, {"bins": 1}, "bins"), (ModelConfig, {"encoder_layers": -1}, "encoder_layers"),
        (ModelConfig, {"width": 30, "heads": 3}, "width"), (ModelConfig, {"pmca_sigma": 0}, "pmca_sigma"),
        (ModelConfig, {"upstream": {"padded_words": -1}}, "padded_words"),
        (ModelConfig, {"feedforward": -1}, "feedforward"), (ModelConfig, {"head": "mask"}, "cctf: false"),
        (TrainConfig, {"epochs": 0}, "epochs"), (TrainConfig, {"batch": 0}, "batch"),
        (TrainConfig, {"learning_rate": 0}, "learning_rate"), (TrainConfig, {"learning_rate": math.nan}, "learning"),
        (TrainConfig, {"clip": -1}, "clip"), (TrainConfig, {"clip": math.inf}, "clip"),
        (TrainConfig, {"smoothing": 1}, "smoothing"), (TrainConfig, {"betas": [2, 0.9]}, "betas"),
        (TrainConfig, {"epsilon": -1}, "epsilon"), (TrainConfig, {"weight_decay": -1}, "weight_decay"),
        (TrainConfig, {"end_weight": -1}, "end_weight"), (TrainConfig, {"first_weight": -5}, "first_weight"),
        (TrainConfig, {"decay_at": 0}, "decay_at"), (TrainConfig, {"ema": 1}, "ema"),
        (TrainConfig, {"checkpoint_epochs": 0}, "checkpoint_epochs"),
        (TrainConfig, {"warmup_epochs": -1}, "warmup_epochs"),
        (TrainConfig, {"jitter": [0.9, 0.3]}, "jitter"), (TrainConfig, {"jitter": [0, 1]}, "jitter"),
        (PretrainConfig, {"epochs": 0}, "epochs"), (PretrainConfig, {"learning_rate": 0}, "learning_rate"),
        (PseudoConfig, {"threshold": 0}, "threshold"), (PseudoConfig, {"threshold": 2.5}, "threshold"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_with_its_name(kind, values, named):
    with pytest.raises(ConfigError, match=rf"step.*{named}"):
        kind.parse(values, "step")


def test_step_1_has_nothing_of_step_2_and_keeps_what_decides_its_weights():
    decisive = {"rounding": "truncate", "span": "image", "padded_words": 15, "padding": "counts"}
    released = ModelConfig.parse(
        {
            "bins": 500, "pmca_sigma": 2.0,
            "upstream": decisive | {"language_token": True, "cctf_axes": "transposed", "end_token": "anywhere"},
        }
    )  # fmt: skip
    assert released.step_1() == ModelConfig.parse({"cctf": False, "pmca": False, "bins": 500, "upstream": decisive})


def test_step_2_starts_from_a_model_that_agrees_in_all_that_decides_its_weights():
    truncating = UpstreamConfig(rounding="truncate")
    step_1 = ModelConfig(cctf=False, pmca=False, upstream=truncating, frozen="none")
    ModelConfig(upstream=truncating.replace(language_token=True, start="learned"), dropout=0.0).check_init(step_1)
    with pytest.raises(ConfigError, match=r"width is 256, not 128; upstream\.rounding is 'truncate', not 'round'"):
        ModelConfig(width=128).check_init(step_1)


def test_contours_that_may_be_short_need_a_model_that_may_end_early():
    early = ModelConfig(upstream=UpstreamConfig(end_token="anywhere"))
    for sampling, model in (("uniform", ModelConfig()), ("uniform", early), ("released", early)):
        check_contour(sampling, model)
    with pytest.raises(ConfigError, match=r"end_token: anywhere"):
        check_contour("released", ModelConfig())


@pytest.mark.parametrize("source", ["data/weights/yolov3.weights", "darknet53.conv.74", "random"])
def test_a_wholly_frozen_visual_part_starts_from_weights_for_all_of_it(source):
    for whole in ("pretrain", "results/visual.safetensors"):
        check_init_backbone(Settings.parse({"init_backbone": whole, "model": {"frozen": "all"}}))
    check_init_backbone(Settings(init_backbone=source))
    with pytest.raises(ConfigError, match=rf"init_backbone: {source}.*model\.frozen: all"):
        check_init_backbone(Settings.parse({"init_backbone": source, "model": {"frozen": "all"}}))


def test_every_key_is_described_and_the_schema_and_the_readme_say_so():
    for name, kind in vars(reference.config).items():
        if isinstance(kind, type) and issubclass(kind, reference.Section) and kind is not reference.Section:
            assert set(reference.descriptions()[name]) >= set(kind.model_fields), name
    again = "run python -m tools.reference"
    assert reference.SCHEMA.read_text() == json.dumps(reference.schema(), indent=1, ensure_ascii=False) + "\n", again
    assert reference.README.read_text() == reference.readme(), again


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_schema_takes_every_config_that_ships(path):
    below = [
        "config.yaml",
        *(["paper.yaml"] if "config/paper.yaml" in path.read_text() else []),
    ]  # see its usage line
    files = [*(ROOT / "config" / name for name in below), path]
    config = reduce(merge, (yaml.safe_load(file.read_text()) for file in files))
    jsonschema.validate(config, reference.schema())
    for text, taken in (("5e-2", True), ("5e", False)):  # as YAML 1.1 reads it
        config["settings"]["pseudo"]["threshold"] = text
        assert jsonschema.Draft202012Validator(reference.schema()).is_valid(config) == taken
    config["settings"]["pseudo"]["threshold"] = 0.1
    config["settings"]["model"]["ccft"] = True
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, reference.schema())
