"""The paper's claims against made-up results whose verdicts are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from partialres.report import captions, claims
from partialres.report.intervals import read_scores

Write = Callable[..., Path]


def verdicts(paths: list[Path]) -> dict[str, str]:
    data = claims.claims(read_scores(paths)).data
    return dict(zip(data["claim"], data["verdict"], strict=True))


def test_a_gain_agrees_is_not_seen_or_contradicted_and_claims_without_runs_are_left_out(scored: Write) -> None:
    figures = {"1/baseline/res": 40.0, "1/cctf/res": 45.0, "1/ours/res": 45.0, "1/ours/retrain": 30.0}
    paths = [
        scored(f"refshapes/seed{seed}/ratio{run}", mIoU=value + seed)
        for run, value in figures.items()
        for seed in (0, 1)
    ]
    told = verdicts(paths)
    assert told["CCTF alone helps step 2 at 1 %"] == "agrees"
    assert told["PMCA helps on top of CCTF at 1 %"] == "not seen"
    assert told["Step 3 with selected, resampled points (RPP) helps at 1 %"] == "contradicted"
    assert "Resampling helps step 3" not in told and "At 1 %, 85.9 % of the oracle (mean of splits)" not in told


def test_a_claim_of_no_gain_is_contradicted_by_a_gain(scored: Write) -> None:
    paths = [
        scored(f"refshapes/seed0/ratio1/{run}", mIoU=mean)
        for run, mean in (("ours/res", 40.0), ("no_rpp/retrain", 50.0))
    ]
    assert verdicts(paths) == {"Step 3 without resampling gains nothing": "contradicted"}


def test_a_share_is_of_the_oracles_mean_with_an_interval_about_it(scored: Write) -> None:
    runs = {"1/ours/retrain": 60.0, "10/ours/retrain": 78.0, "100/baseline/res": 80.0}
    table = claims.claims(read_scores([scored(f"refshapes/seed0/ratio{run}", mIoU=mean) for run, mean in runs.items()]))
    at_1, at_10 = (row for row in table.data.itertuples())
    assert at_1.value == pytest.approx(75) and at_1.low < 75 < at_1.high < 77 and at_1.verdict == "contradicted"
    assert at_10.value == pytest.approx(97.5) and at_10.verdict == "agrees"
    none = claims.claims(read_scores([scored("refshapes/seed0/ratio5/other/res")]))
    assert not none.grids and none.data.empty and none.notes[0].startswith("None of the claims")


def test_the_papers_figures_are_those_of_its_tables() -> None:
    paper = captions.published().query("metric == 'mIoU' and dataset == 'refcocog' and split == 'val'")
    value = {(row.experiment, row.step, row.ratio): row.value for row in paper.itertuples()}
    compared = 0
    for claim in claims.CLAIMS:
        against_table_1 = claim.text.startswith("The method beats")
        if claim.expected != "share" and not against_table_1 and {claim.model, claim.reference} <= value.keys():
            assert value[claim.model] - value[claim.reference] == pytest.approx(claim.paper, abs=0.011), claim.text
            compared += 1
    main = captions.published().query("source == 'Table 1' and step != 'peer' and ratio < 100")
    seqtr = captions.published().query("source == 'Table 1 (SeqTR)'").set_index(["dataset", "split"])["value"]
    ours = main[main["experiment"] == "ours"].set_index(["dataset", "split"])
    for share, ratio in ((85.9, 1), (95.2, 10)):
        assert (100 * ours[ours["ratio"] == ratio]["value"] / seqtr).mean() == pytest.approx(share, abs=0.06)
    assert compared >= 9
