"""The lines of the report's first page."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from partialres.report import comparison, evaluations, front_page, intervals


@pytest.fixture
def files(tmp_path: Path, runs: list[Path]) -> dict:
    """The files of a run: two jobs of 90 seconds each, and Table 1 of made-up scores."""
    columns = ["dataset", "split", "ratio", "figure", "value"]
    rows = [("refshapes", "train", None, "images", 4860), ("refshapes", "train", None, "refs", 12075),
            ("refshapes", "val", None, "images", 216)]  # fmt: skip
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "data.csv", index=False)
    record = {"commit": "abc123", "versions": {"python": "3.11", "torch": "2.6"}, "device": "cpu"}
    (tmp_path / "provenance.json").write_text(json.dumps(record))
    (tmp_path / "job.tsv").write_text("s\th:m:s\n90\t0:01:30\n")
    table = comparison.table1(evaluations.collect(runs), intervals.read_scores(runs), "baseline")
    table.data.to_csv(tmp_path / "table1.csv", index=False)
    return {
        "experiments": {"baseline": [1, 100], "ours": [0.5, 1]}, "oracle": "baseline",
        "data": tmp_path / "data.csv", "splits": {"refshapes": ["val", "testA"]},
        "provenance": tmp_path / "provenance.json", "benchmarks": [tmp_path / "job.tsv"] * 2,
        "table1": tmp_path / "table1.csv",
    }  # fmt: skip


def test_the_page_names_data_code_time_and_the_scores_at_the_lowest_ratio(files):
    ran, data, code, time, scores = front_page.lines(**files)
    assert ran == "- **What ran**, by share of masks: baseline at 1, 100 % (oracle); ours at 0.5, 1 %."
    assert data == "- **Data**: RefShapes: 4,860 training images, 12,075 training refs; scored on val, testA."
    assert code == "- **Code**: commit abc123, python 3.11, torch 2.6; trained on cpu."
    assert time.startswith("- **Time**: 2 jobs ran for 3 minutes")
    assert "RefShapes val with 1 % of the masks**: Baseline **31.0**; Ours, step 3 **41.0** (gain +10.00" in scores
    assert scores.endswith("with every mask (oracle) **77.0**.")


def test_a_run_without_table_1_has_no_line_of_scores(files):
    assert len(front_page.lines(**files | {"table1": None})) == 4
