"""Settings are filled strictly."""

import dataclasses
import math

import pytest

from partialres.config import (
    ConfigError,
    ModelConfig,
    PretrainConfig,
    PseudoConfig,
    TrainConfig,
    check_contour,
    check_visual,
    fill,
)

SECTIONS = [ModelConfig, TrainConfig, PretrainConfig, PseudoConfig]


@pytest.mark.parametrize("kind", SECTIONS)
def test_nothing_given_is_the_defaults_and_everything_given_comes_back(kind):
    assert fill(kind, {}) == kind()
    assert fill(kind, dataclasses.asdict(kind())) == kind()


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_section_cannot_be_changed_afterwards(kind):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kind(), dataclasses.fields(kind)[0].name, 1)


def test_the_defaults_are_the_papers():
    model, training, pseudo = ModelConfig(), TrainConfig(), PseudoConfig()
    assert (model.bins, model.width, model.heads, model.encoder_layers, model.decoder_layers) == (1000, 256, 8, 6, 3)
    assert (training.batch, training.epochs, training.warmup_epochs, training.clip) == (128, 90, 5, 0.15)
    assert training.decay_at * training.epochs == pytest.approx(75)
    assert pseudo.threshold == 0.10 and pseudo.resample


@pytest.mark.parametrize("kind", SECTIONS)
def test_an_unknown_key_is_named_with_its_section_and_the_known_ones(kind):
    with pytest.raises(ConfigError, match=r"res: unknown key 'depth'; known are .*") as caught:
        fill(kind, {"depth": 3}, "res")
    assert all(field.name in str(caught.value) for field in dataclasses.fields(kind))


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (ModelConfig, "width", "wide"), (ModelConfig, "width", 96.0), (ModelConfig, "width", True),
        (ModelConfig, "width", None), (ModelConfig, "cctf", 1), (ModelConfig, "cctf", "yes"),
        (ModelConfig, "backbone", "resnet"), (ModelConfig, "backbone", ["tiny"]), (ModelConfig, "dropout", "much"),
        (TrainConfig, "jitter", True), (TrainConfig, "jitter", 1.4),
        (TrainConfig, "betas", [0.9]), (TrainConfig, "betas", 0.9), (TrainConfig, "betas", [0.9, "x"]),
        (TrainConfig, "epochs", {"by_ratio": {"1": 3}}), (TrainConfig, "learning_rate", True),
        (PseudoConfig, "resample", None),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_named_by_section_key_and_value(kind, key, value):
    with pytest.raises(ConfigError, match=rf"retrain\.{key}.*") as caught:
        fill(kind, {key: value}, "retrain")
    assert repr(value) in str(caught.value) or "'x'" in str(caught.value)


def test_whole_numbers_stand_for_floats_lists_for_tuples_and_exponents_without_a_point_for_numbers():
    filled = fill(TrainConfig, {"learning_rate": "5e-4", "betas": [0, 0.5], "weight_decay": 0})
    assert filled == TrainConfig(learning_rate=5e-4, betas=(0.0, 0.5), weight_decay=0.0)
    assert isinstance(filled.weight_decay, float) and isinstance(filled.betas, tuple)


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        (ModelConfig, {"fusion": 100}, "fusion"), (ModelConfig, {"width": 250}, "width"),
        (ModelConfig, {"dropout": 1.0}, "dropout"), (ModelConfig, {"bins": 1}, "bins"),
        (ModelConfig, {"padded_words": -1}, "padded_words"), (ModelConfig, {"width": 30, "heads": 3}, "width"),
        (TrainConfig, {"epochs": 0}, "epochs"), (TrainConfig, {"batch": 0}, "batch"),
        (TrainConfig, {"learning_rate": 0}, "learning_rate"), (TrainConfig, {"learning_rate": math.nan}, "learning"),
        (TrainConfig, {"clip": -1}, "clip"), (TrainConfig, {"smoothing": 1}, "smoothing"),
        (TrainConfig, {"decay_at": 0}, "decay_at"), (TrainConfig, {"ema": 1}, "ema"),
        (TrainConfig, {"checkpoint_epochs": 0}, "checkpoint_epochs"),
        (TrainConfig, {"warmup_epochs": -1}, "warmup_epochs"),
        (TrainConfig, {"jitter": [0.9, 0.3]}, "jitter"), (TrainConfig, {"jitter": [0, 1]}, "jitter"),
        (PretrainConfig, {"epochs": 0}, "epochs"), (PretrainConfig, {"batch": 0}, "batch"),
        (PretrainConfig, {"learning_rate": 0}, "learning_rate"),
        (PseudoConfig, {"threshold": 0}, "threshold"), (PseudoConfig, {"threshold": 2.5}, "threshold"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_with_its_name(kind, values, named):
    with pytest.raises(ConfigError, match=rf"step: .*{named}"):
        fill(kind, values, "step")


def test_step_1_has_nothing_of_step_2_and_keeps_what_its_weights_are_for():
    released = ModelConfig(language_token=True, cctf_axes="transposed", pmca_scale="multiply", start="learned",
                           end="anywhere", rounding="truncate", span="image", padded_words=15, bins=500)  # fmt: skip
    assert released.step_1() == ModelConfig(
        cctf=False, pmca=False, rounding="truncate", span="image", padded_words=15, bins=500
    )


def test_step_2_goes_on_from_a_model_that_agrees_in_all_it_was_trained_with():
    step_1 = ModelConfig(cctf=False, pmca=False, rounding="truncate", frozen="none")
    step_2 = ModelConfig(rounding="truncate", language_token=True, start="learned", dropout=0.0)
    assert step_2.after(step_1) == step_2
    with pytest.raises(ConfigError, match="width is 256, not 128; rounding is 'truncate', not 'round'"):
        ModelConfig(width=128).after(step_1)


@pytest.mark.parametrize(("sampling", "end"), [("uniform", "last"), ("uniform", "anywhere"), ("released", "anywhere")])
def test_contours_that_may_be_short_need_a_model_that_may_end_early(sampling, end):
    check_contour(sampling, end)
    with pytest.raises(ConfigError, match=r"model\.end: anywhere"):
        check_contour("released", "last")


@pytest.mark.parametrize("visual", ["data/weights/yolov3.weights", "darknet53.conv.74", "random"])
def test_a_wholly_frozen_visual_part_starts_from_weights_of_all_of_it(visual):
    for whole in ("pretrain", "results/visual.safetensors"):
        check_visual(whole, "all")
    check_visual(visual, "but_last_two")
    with pytest.raises(ConfigError, match=rf"visual: {visual}.*model\.frozen: all"):
        check_visual(visual, "all")
