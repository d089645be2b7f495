"""From one base config to each experiment's settings."""

import copy
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from partialres import experiments as ex
from partialres.config import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config():
    """The embedded config, to be changed at will."""
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())


keys = st.sampled_from("abcd")
trees = st.recursive(st.integers(0, 9), lambda tree: st.dictionaries(keys, tree, max_size=3), max_leaves=8)


@given(st.dictionaries(keys, trees), st.dictionaries(keys, trees))
def test_merging_takes_the_overrides_leaves_and_keeps_all_others(base, override):
    before = copy.deepcopy((base, override))
    merged = ex.merge(base, override)
    assert (base, override) == before

    def expected(one, other):
        if not isinstance(one, dict) or not isinstance(other, dict):
            return other
        both = {key: expected(one[key], other[key]) for key in one.keys() & other.keys()}
        return {**one, **other, **both}

    assert merged == expected(base, override)


def test_lists_and_values_by_ratio_are_replaced_whole():
    base = {"ratios": [1, 5], "res": {"epochs": {"by_ratio": {"1": 10, "5": 4}}, "batch": 32}}
    override = {"ratios": [10], "res": {"epochs": {"by_ratio": {"5": 2}}}}
    assert ex.merge(base, override) == {"ratios": [10], "res": {"epochs": {"by_ratio": {"5": 2}}, "batch": 32}}
    assert ex.merge(base, {"res": {"epochs": 3}})["res"]["epochs"] == 3
    assert ex.merge({"res": {"epochs": 3}}, base)["res"]["epochs"] == {"by_ratio": {"1": 10, "5": 4}}


@pytest.mark.parametrize(("ratio", "value"), [(0.5, "a"), (1, "a"), (4, "a"), (5, "b"), (10, "b"), (100, "c")])
def test_a_ratio_takes_the_value_of_the_greatest_not_above_it_or_else_the_least(ratio, value):
    tree = {"x": {"y": {"by_ratio": {"100": "c", "1": "a", "5": "b"}}, "z": 1}}
    assert ex.at_ratio(tree, ratio) == {"x": {"y": value, "z": 1}}


def test_the_experiment_overrides_the_data_set_which_overrides_the_base(config):
    config["datasets"]["refshapes"]["settings"] = {"points": 9, "pseudo": {"threshold": 0.3}}
    config["experiments"]["strict"] = {"settings": {"pseudo": {"threshold": 0.05}}}
    assert ex.pick(ex.settings(config, "refshapes", "ours", 10), "pseudo.threshold") == 0.3
    strict = ex.settings(config, "refshapes", "strict", 10)
    assert (strict["points"], strict["pseudo"]) == (9, {"threshold": 0.05, "resample": True, "weight": "none"})
    assert ex.settings(config, "refshapes")["points"] == 9


@pytest.mark.parametrize("names", [("refcoco", "ours"), ("refshapes", "mine")])
def test_an_unknown_data_set_or_experiment_is_named(config, names):
    with pytest.raises(KeyError, match=r"refcoco|mine"):
        ex.settings(config, *names)


def test_ratios_are_all_those_below_100_or_100_alone(config):
    config["experiments"]["every"] = {}
    assert ex.ratios_of(config, "refshapes", "every") == [1, 5, 10, 100]
    assert ex.ratios_of(config, "refshapes", "baseline") == ex.ratios_of(config, "refshapes", "ours") == [1, 5, 10]
    assert ex.ratios_of(config, "refshapes", "oracle") == [100]


def test_a_data_sets_own_ratios_take_the_place_of_the_configs_and_are_checked(config):
    config["datasets"]["more"] = {**config["datasets"]["refshapes"], "ratios": [2, 50]}
    assert ex.ratios_of(config, "more", "ours") == [2, 50] and ex.ratios_of(config, "more", "oracle") == []
    assert ex.ratios_of(config, "refshapes", "ours") == [1, 5, 10]
    assert ex.owner(config, "more", "ours", 50, "res") == "ours"
    config["settings"]["res"]["epochs"] = {"by_ratio": {"1": 3, "50": 0, "100": 3}}
    with pytest.raises(ConfigError, match="more, baseline, 50 %: res: epochs"):
        ex.check(config)


def test_experiments_that_agree_up_to_a_step_share_its_files_and_no_later_ones(config):
    config["experiments"]["strict"] = {"ratios": "partial", "settings": {"pseudo": {"threshold": 0.05}}}
    config["experiments"]["longer"] = {"ratios": "partial", "settings": {"retrain": {"epochs": 99}}}
    config["experiments"]["cctf"] = {"ratios": "partial", "settings": {"model": {"pmca": False}}}

    def owners(experiment):
        return [ex.owner(config, "refshapes", experiment, 10, step) for step in ex.DECISIVE]

    assert owners("ours") == ["ours"] * 4
    assert owners("strict") == ["ours", "ours", "strict", "strict"]
    assert owners("longer") == ["ours", "ours", "ours", "longer"]
    assert owners("cctf") == ["cctf"] * 4
    assert ex.owner(config, "refshapes", "baseline", 10, "res") == "baseline"


def test_ours_owns_what_a_later_experiment_shares_with_it_though_snakemake_names_that_first(config):
    strict = {"ratios": "partial", "settings": {"pseudo": {"threshold": 0.05}}}
    config["experiments"] = ex.paper_first({"strict": strict, **config["experiments"]})
    assert list(config["experiments"]) == ["baseline", "ours", "oracle", "strict"]
    assert ex.owner(config, "refshapes", "strict", 10, "res") == "ours"


def test_nothing_is_shared_with_an_experiment_that_does_not_get_so_far_or_has_not_the_ratio(config):
    config["experiments"] = {
        "short": {"retrain": False}, "full": {"ratios": "full"}, "ours": {"ratios": "partial"}
    }  # fmt: skip
    assert ex.owner(config, "refshapes", "ours", 10, "res") == "short"
    assert ex.owner(config, "refshapes", "ours", 10, "points") == "ours"
    assert ex.owner(config, "refshapes", "full", 100, "retrain") == "full"


def test_the_embedded_config_and_every_config_beside_it_hold():
    for path in (ROOT / "config").glob("*.yaml"):
        base = yaml.safe_load((ROOT / "config/config.yaml").read_text())
        config = ex.merge(base, yaml.safe_load(path.read_text()))
        for section in ("datasets", "experiments"):
            config[section] = {name: entry for name, entry in config[section].items() if entry is not None}
        ex.check(config)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("model", {"depth": 3}, "refshapes, ours, 1 %: model: unknown key 'depth'"),
        ("res", {"epochs": "many"}, "refshapes, ours, 1 %: res.epochs: 'many' is not of type int"),
        ("res", {"epochs": {"by_ratio": {"1": 5, "10": 0}}}, "refshapes, ours, 10 %: res: epochs"),
        ("pseudo", {"threshold": 3}, "refshapes, ours, 1 %: pseudo: threshold"),
        ("rec", {"epochs": 3}, "refshapes, ours, 1 %: 'rec' is changed, which all experiments and ratios share"),
        ("model", {"padded_words": 4}, "refshapes, ours, 1 %: 'model.padded_words' is changed, which all"),
        ("model", {"bins": 77}, "refshapes, ours, 1 %: 'model.bins' is changed, which all"),
    ],
)
def test_a_mistake_is_named_with_data_set_experiment_ratio_and_key(config, section, values, message):
    config["experiments"]["ours"]["settings"] = {section: values}
    with pytest.raises(ConfigError) as caught:
        ex.check(config)
    assert message in str(caught.value)


@pytest.mark.parametrize("step", ["rec", "res", "retrain"])
def test_jitter_and_cached_features_exclude_each_other_and_both_keys_are_named(config, step):
    config["settings"][step]["jitter"] = [0.3, 1.4]
    with pytest.raises(ConfigError, match=rf"{step}\.jitter.*model\.frozen: all"):
        ex.check(config)
    config["settings"]["model"]["frozen"] = "but_last_two"
    ex.check(config)


def test_what_all_ratios_share_cannot_be_chosen_by_ratio(config):
    config["settings"]["rec"]["epochs"] = {"by_ratio": {"1": 5, "100": 7}}
    with pytest.raises(ConfigError, match=r"refshapes, baseline, 1 %: 'rec' is changed"):
        ex.check(config)


@pytest.mark.parametrize("value", [{}, 3, None, {"ten": 3}])
def test_a_value_by_ratio_that_names_no_ratio_is_refused(config, value):
    config["settings"]["res"]["epochs"] = {"by_ratio": value}
    with pytest.raises(ConfigError, match=r"settings\.res\.epochs: by_ratio"):
        ex.check(config)


def test_an_environment_variable_is_filled_in_or_named_if_it_is_not_set(monkeypatch):
    monkeypatch.setenv("PICTURES", "/somewhere")
    assert ex.expand("$PICTURES/train2014", "datasets.refcoco.images") == "/somewhere/train2014"
    assert ex.expand("~/pictures", "datasets.refcoco.images") == os.path.expanduser("~/pictures")
    monkeypatch.delenv("PICTURES")
    with pytest.raises(ConfigError, match=r"datasets\.refcoco\.images.*PICTURES"):
        ex.expand("${PICTURES}/train2014", "datasets.refcoco.images")
    with pytest.raises(ConfigError, match=r"datasets\.refcoco\.images"):
        ex.expand("a$/b", "datasets.refcoco.images")


def test_programs_are_found_in_the_interpreters_folder_first(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/usr/bin")
    ex.first_on_path(tmp_path)
    assert os.environ["PATH"] == f"{tmp_path}{os.pathsep}/usr/bin"


def test_a_data_set_that_names_its_experiments_runs_no_others(config):
    config["datasets"]["refshapes"]["experiments"] = ["ours"]
    assert ex.ratios_of(config, "refshapes", "ours") == [1, 5, 10]
    assert ex.ratios_of(config, "refshapes", "baseline") == []
    config["datasets"]["refshapes"]["experiments"] = ["ours", "theirs"]
    with pytest.raises(ConfigError, match=r"datasets\.refshapes\.experiments: no experiment 'theirs'"):
        ex.check(config)


MASK_HEAD = {"retrain": False, "settings": {"model": {"head": "mask", "cctf": False, "pmca": False}}}


def test_the_mask_head_has_a_step_1_of_its_own_with_settings_of_its_own(config):
    config["experiments"]["mask_head"] = ex.merge(MASK_HEAD, {"settings": {"rec": {"epochs": 99}}})
    config["experiments"]["mask_wide"] = copy.deepcopy(config["experiments"]["mask_head"])
    ex.check(config)
    assert ex.mask_step_1(config, "refshapes") == "mask_head"
    assert [ex.head(config, "refshapes", name) for name in ("ours", "mask_head")] == ["points", "mask"]
    assert ex.owner(config, "refshapes", "mask_head", 10, "res") == "mask_head"
    config["experiments"]["mask_wide"]["settings"]["rec"]["epochs"] = 98
    with pytest.raises(ConfigError, match="refshapes, mask_wide, 1 %: 'rec' is changed"):
        ex.check(config)
    del config["experiments"]["mask_head"], config["experiments"]["mask_wide"]
    assert ex.mask_step_1(config, "refshapes") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"retrain": True}, "refshapes, mask_head, 1 %: model.head: mask predicts no points.*retrain: false"),
        ({"settings": {"model": {"cctf": True}}}, "mask_head, 1 %: model: head: mask .*set cctf: false"),
        ({"settings": {"model": {"width": 128}}}, "mask_head, 1 %: 'model.width' is changed"),
        ({"settings": {"image_size": 64}}, "mask_head, 1 %: 'image_size' is changed"),
        ({"settings": {"rec": {"epochs": {"by_ratio": {"1": 5, "100": 7}}}}}, "mask_head, 1 %: 'rec' is changed"),
    ],
)
def test_what_a_mask_head_cannot_have_is_named(config, change, message):
    config["experiments"]["mask_head"] = ex.merge(MASK_HEAD, change)
    with pytest.raises(ConfigError, match=message):
        ex.check(config)


def test_jitter_is_not_for_a_mask_head_where_the_other_experiments_have_it(config):
    config["settings"]["model"]["frozen"] = "none"
    for step in ("rec", "res", "retrain"):
        config["settings"][step]["jitter"] = [0.3, 1.4]
    ex.check(config)
    config["experiments"]["mask_head"] = MASK_HEAD
    with pytest.raises(ConfigError, match=r"rec\.jitter is for model\.head: points alone"):
        ex.check(config)
    none = {"settings": {step: {"jitter": None} for step in ("rec", "res")}}
    config["experiments"]["mask_head"] = ex.merge(MASK_HEAD, none)
    ex.check(config)


def test_a_mask_head_for_all_experiments_is_refused(config):
    config["settings"]["model"] |= {"head": "mask", "cctf": False, "pmca": False}
    with pytest.raises(ConfigError, match=r"refshapes: model\.head: mask is an experiment's"):
        ex.check(config)
