"""A table or figure is a target of the workflow exactly where its experiments are configured."""

from __future__ import annotations

from typing import Any

import pytest

ALWAYS = {
    "table1", "details", "rec", "data", "pseudo", "failures_refshapes", "ratio_curve", "training",
    "qualitative_refshapes", "forest_refshapes", "steps_refshapes",
}  # fmt: skip
CCTF = {"retrain": False, "settings": {"model": {"pmca": False}}}
NO_RPP = {"ratios": "partial", "settings": {"pseudo": {"resample": False}}}
STRICT = {"ratios": "partial", "settings": {"pseudo": {"threshold": 0.05}}}
LONGER = {"ratios": "partial", "settings": {"retrain": {"epochs": 3}}}
MASKS = {"retrain": False, "settings": {"model": {"head": "mask", "cctf": False, "pmca": False}}}
WITHOUT = {"ratio_curve", "qualitative_refshapes", "forest_refshapes", "steps_refshapes", "failures_refshapes"}


@pytest.mark.parametrize(
    ("experiments", "names"),
    [
        ({}, ALWAYS),
        ({"cctf": CCTF}, ALWAYS | {"table2"}),
        ({"no_rpp": NO_RPP}, ALWAYS | {"table3"}),
        ({"strict": STRICT}, ALWAYS | {"table4"}),
        ({"longer": LONGER}, ALWAYS | {"extensions"}),
        ({"masks": MASKS}, ALWAYS | {"peer"}),
        (
            {"cctf": CCTF, "no_rpp": NO_RPP, "strict": STRICT, "longer": LONGER},
            ALWAYS | {"table2", "table3", "table4", "extensions"},
        ),
        ({"baseline": None}, ALWAYS - WITHOUT),
        ({"ours": {"retrain": False}}, ALWAYS - {"pseudo", "steps_refshapes"}),
    ],
    ids=["embedded", "cctf", "no_rpp", "strict", "longer", "mask head", "all", "no baseline", "no step 3"],
)
def test_targets_are_those_whose_experiments_are_there(empty, experiments: dict[str, Any], names: set[str]):
    pending = empty.pending({"experiments": experiments})
    report = {path for paths in pending.values() for path in paths if path.split("/")[1] in ("tables", "figures")}
    assert {path.split("/")[-1].rsplit(".", 1)[0] for path in report} == names


def test_a_table_of_a_comparison_is_asked_for_the_files_of_its_rows_alone(empty):
    plan = empty("-n", "results/tables/table2.csv", config={"experiments": {"cctf": CCTF, "no_rpp": NO_RPP}})
    assert "cctf, 10 %" in plan and "baseline, 10 %" in plan
    assert "retrain_res" not in plan and "select_pseudo_points" not in plan
