"""Configs with one mistake: a line that names the key. Those that are taken can be built, trained and reported."""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from partialres.config import ConfigError, ModelConfig, Settings, TrainConfig
from partialres.experiments import Plan
from partialres.model.build import build_model
from partialres.report import comparison, curves, evaluations
from partialres.training.loop import check_built, make_optimiser
from tests.bad_inputs.test_raw import key_of
from tests.cli.test_cli import ROOT
from tests.tiny import TINY
from tests.workflow.report_rules import Rules

BASE: dict[str, Any] = yaml.safe_load((ROOT / "config/config.yaml").read_text())
NO_NUMBER: list[Any] = ["x", None, True, [1], {}, math.nan, math.inf, -math.inf]
NO_COUNT: list[Any] = [*NO_NUMBER, 1.5, 0, -1, 2**31, 10**30]
NO_SIZE: list[Any] = [*NO_COUNT, 2**14 + 1]
NO_SHARE: list[Any] = [*NO_NUMBER, -0.1, 1, 2]
NO_RATE: list[Any] = [*NO_NUMBER, 0, -1e-9]
NO_WEIGHT: list[Any] = [*NO_NUMBER, -1, -1e-9]

FIELDS: dict[str, list[Any]] = {
    "seeds": [*NO_COUNT, 1001, [1.0], [0, 1]], "rec_seed": [value for value in NO_COUNT if value not in (0, None)],
    "image_size": [*NO_SIZE, 31, 65, 100], "points": [*NO_SIZE, 2, 1001], "text.max_words": [*NO_SIZE, 1001],
    "model.fusion": [*NO_SIZE, 127], "model.language": NO_SIZE, "model.word": NO_SIZE, "model.width": [*NO_SIZE, 2, 30],
    "model.heads": [*NO_SIZE, 3], "model.encoder_layers": [*NO_SIZE, 101], "model.decoder_layers": [*NO_SIZE, 101],
    "model.feedforward": NO_SIZE, "model.bins": [*NO_SIZE, 1], "model.dropout": NO_SHARE, "model.pmca_sigma": NO_RATE,
    "res.epochs": NO_COUNT, "res.batch": NO_COUNT, "res.learning_rate": NO_RATE, "res.warmup_epochs": [-1, 1.5, 2**31],
    "res.decay_at": [*NO_RATE, 1.1], "res.epsilon": NO_RATE, "res.weight_decay": NO_WEIGHT, "res.clip": NO_RATE,
    "res.ema": NO_SHARE, "res.smoothing": NO_SHARE, "res.end_weight": NO_WEIGHT, "res.first_weight": NO_WEIGHT,
    "res.betas": [[2, 0.9], [0.9, 1], [0.9], [-1, 0.9], [math.nan, 0.9], 0.9, None, [0.9, 0.9, 0.9], ["a", 0.9]],
    "res.jitter": [[0.3], [1.4, 0.3], [0, 1], [0.3, 11], [math.nan, 1], [0.3, math.inf], 1.4],
    "res.checkpoint_epochs": NO_COUNT, "res.updates": [0, -1, 1.5, 2**31], "res.schedule": ["linear", None, 1],
    "res.optimiser": ["sgd", None], "pretraining.epochs": NO_COUNT, "pretraining.learning_rate": NO_RATE,
    "pseudo.threshold": [*NO_RATE, 2.02], "evaluate.batch": NO_COUNT, "predict.batch": NO_COUNT,
    "contour": ["even", None], "init_backbone": ["pretrian", "", None, 5], "model.head": ["box", None],
    "model.backbone": ["resnet", None], "model.frozen": ["some", True],
}  # fmt: skip
PLACES: dict[str, list[Any]] = {
    "results": [None, "", "/", 5, "a/", "a\nb", "a{b}", ["a"]], "datasets": [None, {}, 5, [], {5: {}}, {"a b": {}}],
    "experiments": [None, {}, 5, [], {5: {}}, {True: {}}, {"a/b": {}}, {"$(a)": {}}], "settings": [None, 5, [], {5: 3}],
    "ratios": [[], 5, None, [math.nan], [math.inf], [0], [-1], [101], [1e-5], [1, 1], [1, 1.0], [1.0000001], ["a"],
               [None], [True], [33.333333333]],
    "report": [None, 5, {"table1": ["ours"]}, {"table2": ["baseline", "baseline"]}, {"table2": "ours"},
               {"table5": []}, {"table3": ["theirs"]}, {"oracle": "theirs"}, {"oracle": 5}],
    "resources": [None, {}, {"rec": None}, {"rec": {"mem_mb": 0, "runtime": 1}},
                  {"rec": {"mem_mb": "1G", "runtime": 1}}, {"wreck": {"mem": 1}}],
    "threads": [None, {"rec": 0}, {"rec": True}, {"wreck": 1}], "downloads": [None, {"folder": ""}, {"folder": "a{b}"}],
    "frobnicate": [None, 3, {"a": 1}],
    "datasets.refshapes.splits": [[], "val", ["val", "val"], [5], ["a b"], ["$(touch x)"], None],
    "datasets.refshapes.settings": [None, 5, {"model": None}, {"model": 5}, {"modle": {}}, {"model": {"ccft": True}}],
    "datasets.refshapes.generate": [5, {}, {"flavour": "coco"},
                                    {"flavour": "refcoco", "images": 1, "seed": 0, "side": 96},
                                    {"flavour": "refcoco", "images": 50, "seed": -1, "side": 96}],
    "datasets.refshapes.experiments": [[], ["theirs"], "ours"], "datasets.refshapes.ratios": [[], [0], [1, 1]],
    "datasets.refshapes.on_problem": ["ignore", None], "datasets.refshapes.raw": ["a", 5],
    "experiments.ours": [5, [], {"settings": {"model": 5}}, {"settings": {"model": None}}, {"steps": [1]},
                         {"steps": [3]},
                         {"steps": [2, 3, 4]}, {"from": "theirs"}, {"from": "ours"}, {"from": 5}, {"ratios": "some"},
                         {"ratios": [0]}, {"settings": {"res": {"epoch": 1}}}, {"settings": {"rec": {"epochs": 1}}},
                         {"settings": {"seeds": 3}}],
    "experiments.baseline": [{"ratios": "full", "settings": {"model": {"cctf": False, "width": 32}}},
                             {"settings": {"model": {"head": "mask"}}}],
}  # fmt: skip
CASES = [
    *(pytest.param(f"settings.{key}", value, id=f"{key}-{key_of(value)}") for key in FIELDS for value in FIELDS[key]),
    *(pytest.param(key, value, id=f"{key}-{key_of(value)}") for key in PLACES for value in PLACES[key]),
]


def with_value(key: str, value: Any) -> dict[str, Any]:
    config = inner = copy.deepcopy(BASE)
    *way, last = key.split(".")
    for part in way:
        inner = inner.setdefault(part, {})
    inner[last] = value
    return config


@pytest.mark.parametrize(("key", "value"), CASES)
def test_a_mistake_is_a_line_that_names_the_key(key, value):
    with pytest.raises(ConfigError) as error:
        Plan(with_value(key, value))
    lines = str(error.value).splitlines()
    assert len(lines) <= 9 and all(len(line) < 500 for line in lines)
    assert {*re.findall(r"\w+", lines[0])} & {*key.removeprefix("settings.").split(".")}, lines


@pytest.mark.parametrize("value", [None, 5, {"mem": 1}, {"mem_mb": 1, "runtime": 1}])
def test_an_unknown_kind_of_job_is_one_line_whatever_its_value(value):
    with pytest.raises(ConfigError, match=r"^resources\.wreck[^\n]*'prepare', 'images'[^\n]*$"):
        Plan(with_value("resources.wreck", value))


MODELS = {
    "width": [4, 8, 124, 128, 160], "heads": [1, 2], "fusion": [2, 16], "word": [1], "feedforward": [1], "bins": [2],
    "encoder_layers": [1, 3], "decoder_layers": [1, 3], "dropout": [0, 0.99], "pmca_sigma": [1e-6, 1e6],
}  # fmt: skip
TRAININGS = {
    "betas": [(0, 0), (0.999999, 0.999999)], "epsilon": [1e-30, 1e6], "weight_decay": [0, 1e9], "clip": [1e-9, 1e30],
    "ema": [0, 0.999999], "learning_rate": [1e-30, 1e30], "optimiser": ["adam", "adamw"], "amsgrad": [True, False],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in MODELS for value in MODELS[key]])
def test_every_model_that_is_taken_can_be_built(key, value):
    changes = {key: value} | ({"language": value // 2} if key == "fusion" else {})
    config = TINY.replace(**changes | ({"heads": 1} if key == "width" else {}))
    heads = [] if value in (4, 124) else [config.replace(cctf=False, pmca=False, head="mask")]
    for model in (config, config.step_1(), *heads):
        with torch.device("meta"):
            assert build_model(model, 5, 4).config == model


@pytest.mark.parametrize("width", [4, 12, 72, 80, 124, 160 + 4])
def test_a_mask_head_is_refused_a_width_that_its_groups_do_not_divide(width):
    with pytest.raises(ConfigError, match="width"):
        TINY.replace(width=width, heads=1, cctf=False, pmca=False, head="mask")


@pytest.mark.parametrize(("key", "value"), [(key, value) for key in TRAININGS for value in TRAININGS[key]])
def test_every_optimiser_that_is_taken_can_be_built(key, value):
    with torch.device("meta"):
        assert make_optimiser(build_model(TINY, 5, 4), TrainConfig(**{key: value}))


def test_what_torch_refuses_is_an_error_of_the_config():
    check_built(TINY, 4, TrainConfig())
    with pytest.raises(ConfigError, match="torch cannot build this model and optimiser: Invalid beta"):
        check_built(TINY, 4, TrainConfig.model_construct(**TrainConfig().model_dump() | {"betas": (2.0, 2.0)}))


@pytest.mark.parametrize("name", [field for field in ModelConfig.model_fields if field not in ("upstream",)])
def test_no_field_of_the_model_takes_what_is_no_value(name):
    for value in ({}, [], object(), b"", -(2**70), math.nan, "\ud800"):
        with pytest.raises(ConfigError, match=name):
            Settings.parse({"model": {name: value}})


# Every table and figure that is asked for can be made

STRICT = {"from": "ours", "ratios": "partial", "settings": {"pseudo": {"threshold": 0.05}}}
UNIVERSE: dict[str, dict[str, Any]] = {
    "baseline": BASE["experiments"]["baseline"],
    "ours": {},
    "cctf": {"steps": [2], "settings": {"model": {"pmca": False}}},
    "strict": STRICT,
    "mask_head": {"steps": [2], "ratios": [1, 100],
                  "settings": {"model": {"head": "mask", "cctf": False, "pmca": False}}},
    "boxed": {"ratios": "partial", "settings": {"model": {"view": "box"}}},
}  # fmt: skip
REPORTS: dict[str, list[str]] = {
    "table1": ["baseline", "ours"], "table2": ["baseline", "cctf", "ours"], "table3": ["strict", "ours"],
    "table4": ["strict", "boxed", "ours"], "beyond": ["ours", "boxed", "strict", "cctf"], "figure1": ["mask_head"],
}  # fmt: skip
SUBSETS = [
    (names, ratios)
    for size in range(1, len(UNIVERSE) + 1)
    for names in itertools.combinations(UNIVERSE, size)
    for ratios in ([100], [1, 5, 100])
    if not ("strict" in names and "ours" not in names)
]


def fake_table(paths: list[str]) -> pd.DataFrame:
    """What `collect` would read from these files."""
    runs = [evaluations.evaluation_of(Path(path))._asdict() for path in paths]
    rows = [{**run, "expressions": 9, "refs": 5, "metric": name, "value": 10.0} for run in runs for name in METRICS]
    return evaluations.ordered(pd.DataFrame(rows).astype({"ratio": "float64"}))


METRICS = ("mIoU", "oIoU", "mIoU_upstream", "Pr@0.5")


def planned(names: tuple[str, ...], ratios: list[float]) -> Plan | None:
    """A plan of some experiments whose report asks for every table that names only these."""
    config = copy.deepcopy(BASE) | {"ratios": ratios, "experiments": {name: UNIVERSE[name] for name in names}}
    config["report"] = {key: shown for key, shown in REPORTS.items() if {*shown} <= {*names}}
    config["report"]["oracle"] = "baseline" if "baseline" in names else None
    try:
        return Plan(config)
    except ConfigError as error:
        assert "runs at any ratio" in str(error) or "does not run at" in str(error), error
        return None


@pytest.mark.parametrize("size", range(1, len(UNIVERSE) + 1))
def test_the_tables_of_every_subset_of_experiments_and_ratios_can_be_made_or_are_left_out(size, capsys, monkeypatch):
    monkeypatch.setattr(comparison, "arrange", lambda *_: None)  # how it looks is the report's matter
    for names, ratios in SUBSETS:
        plan = planned(names, ratios) if len(names) == size else None
        if plan is None:
            continue
        rules = Rules(plan)
        made = {Path(path).stem for path in rules["tables"]() + rules["figures"]()}
        scored = {rules["RUN"].format(**run._asdict()) + f"/{step}" for step in ("res", "retrain")
                  for run in plan.scored(step)}  # fmt: skip
        for name in rules["TITLES"]:
            asked, files = name in made, rules["row_scores"](name)
            assert asked == bool(files) and (asked or name not in plan.config.report or not plan.rows(name) or
                                             f"report.{name} is left out" in capsys.readouterr().err)  # fmt: skip
            if asked:
                rows = plan.rows(name)
                assert comparison.comparison(name, fake_table(files), {}, rows, rules["ORACLE"]).data is not None
        if "table1" in made:
            comparison.table1(fake_table(rules["TABLE_1"]), {}, rules["ORACLE"])
        if "ratio_curve" in made:
            curves._mask_scores(fake_table(rules["TABLE_1"]), ("baseline", "ours"))
        if "heads" in made:
            files = rules["unique"](rules["both_steps"](["baseline", "ours", "mask_head"], first=True))
            curves._mask_scores(fake_table(files), ("baseline", "ours", "mask_head"))
        shown = [rules["by_ratio"]("refshapes")] if "qualitative_refshapes" in made else []
        shown += [rules["by_step"]("refshapes")] if "steps_refshapes" in made else []
        for pictures in shown:
            assert pictures and {f"refshapes/seed0/ratio{r:g}/{name}/{step}" for name, step, r in pictures} <= scored


def test_gains_need_the_seeds_of_the_row_that_they_are_over():
    config = with_value("experiments.ours", {"settings": {"seeds": 3}})
    with pytest.raises(ConfigError, match=r"report\.table1: ours has 3 seeds at 1 % on refshapes, and baseline.* 1;"):
        Plan(config)
    config["experiments"]["baseline"]["settings"]["seeds"] = 3
    Plan(config)


def test_a_config_that_is_taken_has_a_json_form():
    plan = Plan(BASE)
    json.dumps(plan.settings("refshapes", "ours", 1).model_dump(mode="json"), allow_nan=False)
