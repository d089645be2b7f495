"""A table or figure is a target of the workflow exactly when the config's `report` asks for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workflow.report_rules import Rules
from tests.workflow.running import TINY, planned

ALWAYS = {
    "table1", "claims", "details", "rec", "data", "pseudo", "failures_refshapes", "ratio_curve", "training",
    "qualitative_refshapes", "steps_refshapes",
}  # fmt: skip
CCTF = {"cctf": {"steps": [2], "settings": {"model": {"pmca": False}}}}
NO_RPP = {"no_rpp": {"from": "ours", "ratios": "partial", "settings": {"pseudo": {"resample": False}}}}
MASKS = {
    "masks": {"ratios": "partial", "steps": [2], "settings": {"model": {"head": "mask", "cctf": False, "pmca": False}}}
}
STEPS = ("res", "retrain")
OF_TABLE_1 = {"table1", "claims", "ratio_curve", "qualitative_refshapes", "steps_refshapes"}


def targets(config: dict[str, Any]) -> set[str]:
    """What the rule `all` asks for: test_dag sees that a run makes just this."""
    rules = Rules(planned(TINY, config))
    return {path.split("/")[-1].rsplit(".", 1)[0] for path in [*rules["tables"](), *rules["figures"]()]}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({}, ALWAYS),
        ({"experiments": CCTF, "report": {"table2": ["baseline", "cctf", "ours"]}}, ALWAYS | {"table2"}),
        ({"experiments": NO_RPP, "report": {"table3": ["no_rpp", "ours"]}}, ALWAYS | {"table3"}),
        ({"experiments": NO_RPP, "report": {"table4": ["no_rpp", "ours"]}}, ALWAYS | {"table4"}),
        ({"experiments": NO_RPP, "report": {"beyond": ["ours", "no_rpp"]}}, ALWAYS | {"beyond"}),
        ({"experiments": MASKS, "report": {"figure1": ["masks"]}}, ALWAYS | {"heads"}),
        ({"report": {"table1": [], "oracle": None}}, ALWAYS - OF_TABLE_1 - {"failures_refshapes"}),
        ({"experiments": {"ours": {"steps": [2]}}}, ALWAYS - {"pseudo", "steps_refshapes"}),
        ({"ratios": [100]}, {"details", "rec", "data", "training"}),
    ],
    ids=["embedded", "table 2", "table 3", "table 4", "beyond", "figure 1", "no table 1", "no step 3", "100 % alone"],
)
def test_targets_are_the_tables_and_figures_that_the_config_names(config: dict[str, Any], names: set[str]):
    assert targets(config) == names


def test_a_table_is_asked_for_the_files_of_its_experiments_alone(empty):
    config = {"experiments": CCTF | NO_RPP, "report": {"table2": ["baseline", "cctf", "ours"]}}
    plan = empty("-n", "results/tables/table2.csv", config=config)
    assert "cctf, 10 %" in plan and "baseline, 10 %" in plan
    assert "retrain_res" not in plan and "select_pseudo_points" not in plan


def test_a_training_is_given_the_refs_only_where_it_scores_a_sample(empty):
    models = [f"results/refshapes/seed0/ratio10/ours/{step}/model.safetensors" for step in STEPS]
    for scored, silent in (("res", "retrain"), ("retrain", "res")):
        plan = empty("-n", "-p", *models, config={"settings": {scored: {"score_epochs": 2}}})
        commands = {step: next(line for line in plan.splitlines() if f"/ours/{step} 2>" in line) for step in STEPS}
        assert "--val results/refshapes/refs.parquet" in commands[scored] and "--val" not in commands[silent]
