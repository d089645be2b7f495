"""How a config becomes each run's settings, and which experiment's files each run uses."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from snakemake.utils import update_config

from partialres.config import ConfigError, ModelConfig, Settings, UpstreamConfig, expand_path
from partialres.experiments import AFTER_STEP_2, SHARED, Plan, choose, merge

ROOT = Path(__file__).parents[1]
RULES = ROOT / "workflow/rules"


@pytest.fixture
def config():
    """A copy of the default config, which tests may change."""
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())


keys = st.sampled_from("abcd")
trees = st.recursive(st.integers(0, 9), lambda tree: st.dictionaries(keys, tree, max_size=3), max_leaves=8)


@given(st.dictionaries(keys, trees), st.dictionaries(keys, trees))
def test_experiments_merge_as_snakemake_merges_config_files(base, override):
    before, expected = copy.deepcopy((base, override)), copy.deepcopy(base)
    update_config(expected, copy.deepcopy(override))
    assert merge(base, override) == expected
    assert (base, override) == before


def test_the_choices_of_a_setting_join_those_of_the_layer_below(config):
    config["settings"]["res"]["epochs"] = {"by_ratio": {"1": 10, "5": 4}}
    config["experiments"]["ours"]["settings"] = {"res": {"epochs": {"by_ratio": {"5": 2}}}}
    plan = Plan(config)
    assert [plan.settings("refshapes", "ours", ratio).res.epochs for ratio in (1, 5)] == [10, 2]
    config["experiments"]["ours"]["settings"] = {"res": {"epochs": 3}}
    assert Plan(config).settings("refshapes", "ours", 5).res.epochs == 3


@pytest.mark.parametrize(("ratio", "value"), [(0.5, "a"), (1, "a"), (4, "a"), (5, "b"), (10, "b"), (100, "c")])
def test_a_ratio_takes_the_value_of_the_greatest_not_above_it_or_else_the_least(ratio, value):
    tree = {"x": {"y": {"by_ratio": {"100": "c", "1": "a", "5": "b"}}, "z": {"by_head": {"points": 1, "mask": 2}}}}
    assert choose(tree, ratio, "mask", "settings") == {"x": {"y": value, "z": 2}}


@pytest.mark.parametrize(
    "value", [{"by_ratio": {}}, {"by_ratio": 3}, {"by_ratio": {"ten": 3}}, {"by_head": {"box": 1}}]
)
def test_a_choice_that_names_no_ratio_or_head_is_refused(config, value):
    config["settings"]["res"]["epochs"] = value
    with pytest.raises(ConfigError, match=r"settings\.res\.epochs: write by_ratio"):
        Plan(config)


def test_the_experiment_overrides_the_data_set_which_overrides_the_base(config):
    config["datasets"]["refshapes"]["settings"] = {"points": 9, "pseudo": {"threshold": 0.3}}
    config["experiments"]["strict"] = {"from": "ours", "ratios": "partial", "settings": {"pseudo": {"threshold": 0.05}}}
    plan = Plan(config)
    assert plan.settings("refshapes", "ours", 10).pseudo.threshold == 0.3
    strict = plan.settings("refshapes", "strict", 10)
    assert (strict.points, strict.pseudo.threshold, strict.pseudo.resample) == (9, 0.05, True)


def test_ratios_are_all_those_below_100_or_100_alone(config):
    config["experiments"]["every"] = {}
    plan = Plan(config)
    assert plan.ratios("refshapes", "every") == [1, 5, 10, 100]
    assert plan.ratios("refshapes", "ours") == [1, 5, 10] and plan.ratios("refshapes", "baseline") == [1, 5, 10, 100]
    config["experiments"]["full"] = {"ratios": "full"}
    assert Plan(config).ratios("refshapes", "full") == [100]
    assert plan.last_step("every", 100) == "res" and plan.last_step("every", 10) == "retrain"
    assert {run.ratio for run in plan.runs("retrain", experiment="every")} == {"1", "5", "10"}


def test_a_data_sets_own_ratios_take_the_place_of_the_configs_and_are_checked(config):
    config["datasets"]["more"] = {**config["datasets"]["refshapes"], "ratios": [2, 50]}
    plan = Plan(config)
    assert plan.ratios("more", "ours") == [2, 50]
    assert plan.ratios("refshapes", "ours") == [1, 5, 10]
    config["settings"]["res"]["epochs"] = {"by_ratio": {"1": 3, "50": 0, "100": 3}}
    with pytest.raises(ConfigError, match=r"more, baseline, 50 %: res\.epochs"):
        Plan(config)


def test_an_experiment_uses_step_2_of_the_one_it_names_and_its_points_unless_it_predicts_otherwise(config):
    config["experiments"] |= {
        "strict": {"from": "ours", "ratios": "partial", "settings": {"pseudo": {"threshold": 0.05}}},
        "batched": {"from": "ours", "ratios": "partial", "settings": {"predict": {"batch": 7}}},
        "baseline_step_3": {"from": "baseline", "ratios": "partial"},
        "alone": {"ratios": "partial", "settings": {"pseudo": {"threshold": 0.05}}},
    }
    plan = Plan(config)
    owners = {name: (plan.owner(name, "res"), plan.owner(name, "points")) for name in config["experiments"]}
    assert owners == {
        "baseline": ("baseline", "baseline"), "ours": ("ours", "ours"),
        "strict": ("ours", "ours"), "batched": ("ours", "batched"),
        "baseline_step_3": ("baseline", "baseline_step_3"), "alone": ("alone", "alone"),
    }  # fmt: skip
    assert {run.experiment for run in plan.trained("res")} == {"baseline", "ours", "alone"}
    assert not plan.settings("refshapes", "baseline_step_3", 1).model.cctf


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"from": "ours", "settings": {"res": {"epochs": 3}}},
            r"experiments\.new\.settings\.res: .*predict, pseudo, ret",
        ),
        ({"from": "ours", "settings": {"model": {"cctf": False}}}, r"experiments\.new\.settings\.model"),
        ({"from": "ours", "steps": [2]}, r"experiments\.new: takes step 2 from ours and stops there"),
        ({"from": "ours", "settings": {"seeds": 2}}, r"new\.from: ours does not run at 1 % on refshapes, seed 1"),
        ({"from": "theirs"}, r"experiments\.new\.from: no experiment 'theirs'; the experiments are baseline, ours"),
    ],
)
def test_what_an_experiment_cannot_take_from_another_is_named(config, entry, message):
    config["experiments"]["new"] = {"ratios": "partial"} | entry
    with pytest.raises(ConfigError, match=message):
        Plan(config)


def read_keys(rules: str) -> set[str]:
    """The top-level settings that a file's rules read."""
    text = (RULES / f"{rules}.smk").read_text()
    asked = (
        r"setting\(\"(\w+)|training_of\(\"(\w+)|settings\(wildcards\)\.(\w+)|\.settings\(wildcards\.dataset\)\.(\w+)"
    )
    direct = re.findall(asked, text)
    models = ["model"] * bool(re.search(r"model_of|plan\.step_1", text))
    return {name for match in direct for name in match if name and name != "model_of"} | set(models)


def test_what_is_shared_is_just_what_the_rules_of_the_shared_steps_read():
    """Every key that a rule reads must be in one of these lists, or be step 2's own."""
    shared = read_keys("data") | read_keys("step1_rec")
    assert shared - {"model"} == {*SHARED}  # those of the model's settings that step 1 reads, which check_init compares
    step_2, step_3 = read_keys("step2_res"), read_keys("step3_pseudo")
    assert not step_2 & {*AFTER_STEP_2} and not shared & {*AFTER_STEP_2}
    assert step_3 - step_2 == {*AFTER_STEP_2} - {"seeds"}
    everything = shared | step_2 | step_3 | read_keys("evaluate") | {"seeds", "rec_seed"}  # these two say what runs
    assert everything == set(Settings.model_fields)


def test_every_switch_of_the_model_is_either_step_1s_or_left_out_of_it():
    """check_init compares every field of step 1's model, even a new one, unless declared as step 2's or training's."""
    changed = {"backbone": "tiny", "head": "points", "view": "box", "upstream": UpstreamConfig(span="image")}
    for name, field in ModelConfig.model_fields.items():
        value = changed.get(name, field.default)
        if isinstance(value, bool):
            value = not value
        elif isinstance(value, int | float):
            value = value * 2 if name != "dropout" else 0.5
        elif name == "frozen":
            value = "none"
        fusion = {"fusion": 2048, "language": 1024} if name in ("fusion", "language") else {name: value}
        model = ModelConfig().replace(**fusion)
        differs = not _fits(model, ModelConfig())
        step_2s = name in experiments_fields()
        assert differs == (not step_2s and model.step_1() != ModelConfig().step_1()), name


def experiments_fields() -> set[str]:
    from partialres.config import OF_TRAINING, STEP_2_FIELDS

    return {*OF_TRAINING, *STEP_2_FIELDS}


def _fits(model: ModelConfig, step_1: ModelConfig) -> bool:
    try:
        model.check_init(step_1)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_that_ships_holds(config, path):
    if "config/paper.yaml config/" in path.read_text():  # its head says to lay it over paper.yaml
        config = merge(config, yaml.safe_load((ROOT / "config/paper.yaml").read_text()))
    Plan(merge(config, yaml.safe_load(path.read_text())))


def test_an_imported_model_takes_the_place_of_its_experiments_last_step(config):
    entry = config["datasets"]["refshapes"]
    entry |= {"models": {"ours": "a.safetensors"}, "vocabulary": "vocabulary.json"}
    plan = Plan(config)
    assert not plan.trained("res", experiment="ours") and not plan.trained("retrain", experiment="ours")
    assert not plan.scored("res", experiment="ours")
    assert plan.scored("retrain", experiment="ours") == plan.runs("retrain", experiment="ours") != []
    assert plan.trained("res", experiment="baseline") == plan.runs("res", experiment="baseline")
    entry["models"] = {"hours": "a.safetensors"}
    with pytest.raises(ConfigError, match=r"datasets\.refshapes\.models: no experiment 'hours'"):
        Plan(config)


def test_a_backbone_of_timm_has_stages_and_its_own_weights(config):
    model = config["settings"]["model"]
    model |= {"backbone": "timm/test_resnet", "frozen": "but_last_two"}
    with pytest.raises(
        ConfigError, match="timm/test_resnet has no but_last_two; set frozen: but_last_stage, all or none"
    ):
        Plan(config)
    model |= {"frozen": "but_last_stage"}
    config["settings"]["init_backbone"] = "pretrained"
    Plan(config)
    model |= {"backbone": "tiny", "frozen": "none"}
    with pytest.raises(ConfigError, match="pretrained is for timm's networks, not tiny"):
        Plan(config)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("model", {"depth": 3}, r"refshapes, ours, 1 %: model\.depth: unknown key"),
        ("res", {"epochs": "ten"}, r"refshapes, ours, 1 %: res\.epochs: 'ten'"),
        ("res", {"epochs": {"by_ratio": {"1": 5, "10": 0}}}, r"refshapes, ours, 10 %: res\.epochs: 0"),
        ("pseudo", {"threshold": 3}, r"refshapes, ours, 1 %: pseudo\.threshold: 3"),
        ("rec", {"epochs": 3}, "refshapes, ours, 1 %: changes 'rec', which all experiments and ratios share"),
        ("image_size", 64, "refshapes, ours, 1 %: changes 'image_size'"),
        ("model", {"upstream": {"padded_words": 4}}, r"refshapes, ours, 1 %: .*upstream\.padded_words is 0, not 4"),
        ("model", {"bins": 77}, "refshapes, ours, 1 %: .*bins is 64, not 77"),
    ],
)
def test_a_mistake_is_named_with_data_set_experiment_ratio_and_key(config, section, values, message):
    config["experiments"]["ours"]["settings"] = {section: values}
    with pytest.raises(ConfigError, match=message):
        Plan(config)


@pytest.mark.parametrize("step", ["rec", "res", "retrain"])
def test_jitter_and_cached_features_exclude_each_other_and_both_keys_are_named(config, step):
    config["settings"]["model"]["frozen"] = "all"
    config["settings"][step]["jitter"] = [0.3, 1.4]
    with pytest.raises(ConfigError, match=rf"{step}\.jitter.*model\.frozen: all"):
        Plan(config)
    config["settings"]["model"]["frozen"] = "but_last_two"
    Plan(config)


def test_what_all_ratios_share_cannot_be_chosen_by_ratio(config):
    config["settings"]["rec"]["epochs"] = {"by_ratio": {"1": 5, "100": 7}}
    with pytest.raises(ConfigError, match=r"refshapes, baseline, 1 %: changes 'rec'"):
        Plan(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratio": [1]}, "ratio: unknown key; the keys are datasets, downloads"),
        ({"ratios": [0]}, r"ratios\.0: 0"),
        ({"ratios": [1, 1]}, "ratios: has 1"),
        ({"seeds": [0, 1]}, r"seeds: unknown key"),
        ({"settings": {"seeds": 0}}, r"refshapes: seeds: 0: input should"),
        ({"datasets": None}, "datasets: None"),
        ({"experiments": {}}, r"experiments: \{\}"),
        ({"threads": {"rest": 2}}, r"threads\.rest"),
        ({"report": {"table1": ["baseline", "theirs"]}}, r"report\.table1: no experiment 'theirs'"),
        ({"report": {"oracle": "theirs"}}, r"report\.oracle: no experiment 'theirs'"),
        ({"datasets": {"mine": {"split_by": None, "splits": ["val"], "raw": "x"}}}, "datasets.mine: give either"),
    ],
)
def test_a_mistake_in_the_rest_of_the_config_is_a_line_that_names_the_key(config, change, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Plan(config | change)
    assert len(str(caught.value).splitlines()) == 1


def test_a_data_set_that_names_its_experiments_runs_no_others(config):
    config["datasets"]["refshapes"]["experiments"] = ["ours"]
    plan = Plan(config)
    assert plan.ratios("refshapes", "ours") == [1, 5, 10] and plan.ratios("refshapes", "baseline") == []
    config["datasets"]["refshapes"]["experiments"] = ["ours", "theirs"]
    with pytest.raises(ConfigError, match=r"datasets\.refshapes\.experiments: no experiment 'theirs'"):
        Plan(config)


def test_a_model_that_sees_the_known_box_is_not_scored_but_its_student_is(config):
    config["experiments"]["ours_plus"] = {"ratios": "partial", "settings": {"model": {"view": "box"}}}
    plan = Plan(config)
    assert "ours_plus" not in {run.experiment for run in plan.scored("res")}
    assert "ours_plus" in {run.experiment for run in plan.scored("retrain")}
    settings = plan.settings("refshapes", "ours_plus", 1)
    assert (settings.model_of("res").view, settings.model_of("retrain").view) == ("box", "image")


MASK_HEAD = {"ratios": "partial", "steps": [2], "settings": {"model": {"head": "mask", "cctf": False, "pmca": False}}}


def test_the_mask_head_has_a_step_1_of_its_own_with_its_own_length(config):
    assert Plan(config).rec_runs() == [("refshapes", 0, "points")]
    config["experiments"]["mask_head"] = MASK_HEAD
    plan = Plan(config)
    assert plan.rec_runs() == [("refshapes", 0, "points"), ("refshapes", 0, "mask")]
    assert [plan.head("refshapes", name) for name in ("ours", "mask_head")] == ["points", "mask"]
    assert plan.step_1("refshapes", "mask") == plan.step_1("refshapes").replace(head="mask")
    lengths = config["settings"]["rec"]["epochs"]["by_head"]
    assert lengths == {head: plan.settings("refshapes", head=head).rec.epochs for head in ("points", "mask")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [2, 3]}, "refshapes, mask_head, 1 %: model.head: mask predicts no points"),
        ({"settings": {"model": {"cctf": True}}}, r"mask_head, 1 %: model: head: mask .*set cctf: false"),
        ({"settings": {"model": {"width": 128}}}, "mask_head, 1 %: .*width is 64, not 128"),
        ({"settings": {"rec": {"epochs": 5}}}, "mask_head, 1 %: changes 'rec'"),
    ],
)
def test_what_a_mask_head_cannot_have_is_named(config, change, message):
    config["experiments"]["mask_head"] = merge(MASK_HEAD, change)
    with pytest.raises(ConfigError, match=message):
        Plan(config)


def test_a_mask_head_for_all_experiments_is_refused(config):
    config["settings"]["model"] |= {"head": "mask", "cctf": False, "pmca": False}
    with pytest.raises(ConfigError, match=r"refshapes: model\.head: mask belongs to experiments"):
        Plan(config)


def test_runs_have_their_own_number_of_seeds_and_may_start_from_one_step_1(config):
    config["settings"]["seeds"] = {"by_ratio": {"1": 4, "5": 2}}
    config["experiments"]["strict"] = {"from": "ours", "ratios": [1], "settings": {"seeds": 3}}
    plan = Plan(config)
    assert [run.seed for run in plan.runs("retrain", "ours") if run.ratio == "1"] == [0, 1, 2, 3]
    assert [run.seed for run in plan.runs("retrain", "ours") if run.ratio == "10"] == [0, 1]
    assert [run.seed for run in plan.runs("retrain", "strict")] == [0, 1, 2]
    assert [seed for _, seed, _ in plan.rec_runs()] == [0, 1, 2, 3]
    config["settings"]["rec_seed"] = 0
    config["experiments"]["ours"]["settings"] = {"rec_seed": 7}
    plan = Plan(config)
    assert sorted(plan.rec_runs()) == [("refshapes", 0, "points"), ("refshapes", 7, "points")]
    assert {plan.rec_seed(run) for run in plan.runs("retrain", "strict")} == {7}


def test_an_environment_variable_is_filled_in_or_named_if_it_is_not_set(monkeypatch):
    monkeypatch.setenv("PICTURES", "/somewhere")
    assert expand_path("$PICTURES/train2014", "datasets.refcoco.images") == "/somewhere/train2014"
    assert expand_path("~/pictures", "datasets.refcoco.images") == os.path.expanduser("~/pictures")
    monkeypatch.delenv("PICTURES")
    with pytest.raises(ConfigError, match=r"datasets\.refcoco\.images.*PICTURES"):
        expand_path("${PICTURES}/train2014", "datasets.refcoco.images")
    with pytest.raises(ConfigError, match=r"datasets\.refcoco\.images"):
        expand_path("a$/b", "datasets.refcoco.images")
