"""Which runs a comparison sets side by side, by the settings of a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from partialres import comparisons, experiments
from partialres.comparisons import Compared
from partialres.files import DataError

ROOT = Path(__file__).parents[1]
CCTF = {"retrain": False, "settings": {"model": {"pmca": False}}}
NO_RPP = {"ratios": "partial", "settings": {"pseudo": {"resample": False}}}
STRICT = {"ratios": "partial", "settings": {"pseudo": {"threshold": 0.05}}}
LAX = {"ratios": "partial", "settings": {"pseudo": {"threshold": 1.0}}}
LONGER = {"ratios": "partial", "settings": {"retrain": {"epochs": 40}}}
MASKS = {"retrain": False, "settings": {"model": {"head": "mask", "cctf": False, "pmca": False}}}


def config(**more: Any) -> dict[str, Any]:
    """The embedded config with further experiments and at the ratios 1 and 100."""
    base = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    return experiments.merge(base, {"ratios": [1, 100], "experiments": more})


def told(rows: list[Compared]) -> list[tuple[float, str, str, list[Any], bool]]:
    return [(row.ratio, row.experiment, row.step, list(row.values.values()), row.reference) for row in rows]


def test_the_embedded_config_ablates_nothing() -> None:
    for rows in (comparisons.ablation, comparisons.resampling, comparisons.thresholds, comparisons.extensions):
        assert rows(config()) == []
    assert comparisons.peers(config()) == []


def test_cctf_and_pmca_are_told_by_their_settings_whatever_the_names() -> None:
    rows = comparisons.ablation(config(gate_only=CCTF, longer=LONGER, strict=STRICT))
    assert told(rows) == [
        (1, "baseline", "res", [False, False], True),
        (1, "gate_only", "res", [True, False], False),
        (1, "ours", "res", [True, True], False),
        (100, "gate_only", "res", [True, False], False),
        (100, "oracle", "res", [True, True], False),
    ]


def test_other_settings_of_step_2_are_no_ablation_of_cctf() -> None:
    wider = {"retrain": False, "settings": {"model": {"pmca": False, "decoder_layers": 3}}}
    assert comparisons.ablation(config(wider=wider)) == []


def test_resampling_and_thresholds_stand_beside_step_2() -> None:
    full = config(no_rpp=NO_RPP, strict=STRICT, lax=LAX, longer=LONGER, cctf=CCTF)
    assert told(comparisons.resampling(full)) == [
        (1, "ours", "res", [], True), (1, "no_rpp", "retrain", [False], False), (1, "ours", "retrain", [True], False),
    ]  # fmt: skip
    assert told(comparisons.thresholds(full)) == [
        (1, "ours", "res", [], True), (1, "lax", "retrain", [1.0], False), (1, "ours", "retrain", [0.1], False),
        (1, "strict", "retrain", [0.05], False),
    ]  # fmt: skip


def test_beyond_the_paper_is_what_differs_in_more_than_its_ablations() -> None:
    same = {"ratios": "partial"}
    full = config(no_rpp=NO_RPP, strict=STRICT, longer=LONGER, cctf=CCTF, same=same)
    expected = [(1, "ours", "retrain", [], True), (1, "longer", "retrain", [], False)]
    assert told(comparisons.extensions(full)) == expected
    full["experiments"]["ours"]["retrain"] = False
    assert comparisons.extensions(full) == []  # without step 3 of ours there is nothing to compare with


def test_a_second_round_goes_beyond_the_paper() -> None:
    rows = comparisons.extensions(config(again={"ratios": "partial", "after": "ours"}))
    assert [(row.experiment, row.reference) for row in rows] == [("ours", True), ("again", False)]


def test_files_that_experiments_share_are_named_by_their_owner() -> None:
    full = config(no_rpp=NO_RPP)
    full["experiments"] = {"no_rpp": NO_RPP, **full["experiments"]}  # now it comes first and makes step 2
    assert told(comparisons.resampling(full))[0] == (1, "no_rpp", "res", [], True)


def test_peers_have_a_mask_head() -> None:
    rows = comparisons.peers(config(two_heads=MASKS))
    assert told(rows) == [(1, "two_heads", "res", [], False), (100, "two_heads", "res", [], False)]


def test_examples_and_failures_are_at_the_least_ratio() -> None:
    full = config(ours_plus=LONGER)
    assert told(comparisons.steps(full, "refshapes")) == [
        (1, "baseline", "res", [], False), (1, "ours", "res", [], False), (1, "ours", "retrain", [], False),
    ]  # fmt: skip
    assert told(comparisons.failures(full, "refshapes")) == [
        (1, "baseline", "res", [], False), (1, "ours", "retrain", [], False), (1, "ours_plus", "retrain", [], False),
        (100, "oracle", "res", [], False),
    ]  # fmt: skip
    del full["experiments"]["baseline"], full["experiments"]["oracle"]
    assert comparisons.steps(full, "refshapes") == []
    assert [row.experiment for row in comparisons.failures(full, "refshapes")] == ["ours", "ours_plus"]
    del full["experiments"]["ours"]
    assert comparisons.failures(full, "refshapes") == comparisons.steps(full, "refshapes") == []


def test_there_are_gains_where_the_baseline_and_another_run() -> None:
    assert comparisons.gains(config(), "refshapes") == [1]
    assert comparisons.gains(config(baseline={"ratios": "all"}), "refshapes") == [1, 100]
    assert comparisons.gains(config(baseline={"ratios": "full"}, oracle={"ratios": "partial"}), "refshapes") == []


def test_rows_pass_a_command_line_unchanged() -> None:
    rows = comparisons.thresholds(config(strict=STRICT))
    assert comparisons.from_json(comparisons.to_json(rows)) == rows != []


@pytest.mark.parametrize("text", ["[", '[{"dataset": "refshapes"}]', "[3]", '{"dataset": 1}'])
def test_rows_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="compared run"):
        comparisons.from_json(text)
