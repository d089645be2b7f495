"""The estimate knows every job of the workflow, and computes wall times from its DAG and the jobs' costs."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
import yaml

from partialres.estimate import NOT_COUNTED, REPORTS, sizes_of
from partialres.estimate.dag import critical_path, read_dag, wall_time
from partialres.estimate.sample import KINDS, Cost, Line, work
from partialres.experiments import Plan, merge
from partialres.files import DataError
from tests import commands
from tests.workflow.running import EVALUATIONS, ROOT, TINY

DOT = """digraph snakemake_dag {
\t0[label = "all", color = "0.1 0.6 0.8", style="rounded"];
\t1[label = "train_res\\nratio: 10", color = "x"];
\t2[label = "train_res\\nratio: 1", color = "x"];
\t3[label = "split\\ndataset: a", color = "x"];
\t1 -> 0
\t2 -> 0
\t3 -> 1
\t3 -> 2
}"""
SECONDS = {"0": 0.0, "1": 10.0, "2": 10.0, "3": 1.0}
SIZES = {"train": (90, 200, 500), "val": (10, 20, 60)}


def tiny_plan(**override):
    base = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    return Plan(merge(merge(base, yaml.safe_load(TINY.read_text())), override))


def test_jobs_inherit_the_wildcards_that_their_labels_leave_out():
    jobs, before = read_dag(DOT)
    assert jobs["1"] == ("train_res", {"dataset": "a", "ratio": "10"})
    assert before == {"0": {"1", "2"}, "1": {"3"}, "2": {"3"}, "3": set()}


def test_rules_that_differ_in_their_splits_are_one_rule():
    jobs, _ = read_dag('\t1[label = "evaluate_res_2\\nstep: res", color = "x"];')
    assert jobs["1"] == ("evaluate_res", {"step": "res"})


@pytest.mark.parametrize(
    ("workers", "cores", "needed", "expected"),
    [(1, 1, 1, 21), (2, 1, 1, 11), (64, 1, 1, 11), (1, 2, 1, 11), (1, 2, 2, 21)],
)
def test_two_trainings_of_ten_seconds_after_a_job_of_a_second(workers, cores, needed, expected):
    jobs, before = read_dag(DOT)
    assert wall_time(before, SECONDS, dict.fromkeys(jobs, needed), workers, cores) == expected
    assert [jobs[number].rule for number in critical_path(before, SECONDS)] == ["split", "train_res", "all"]


def test_a_line_goes_through_both_runs_and_keeps_the_memory():
    line = Line(Cost(3, 2, 50, 10), Cost(5, 4, 70, 10), (100, 300))
    assert line.at(300) == (5, 4, 70, 10)
    assert line.at(1300) == (15, 14, 70, 10) and line.at(0) == (3, 2, 70, 10)


def test_work_counts_what_a_rule_repeats():
    settings = tiny_plan().settings("refshapes", "ours", 10)
    assert work("train_res", settings, SIZES, {"ratio": "10"}) == pytest.approx(60 * 20)
    assert work("retrain_res", settings, SIZES, {"ratio": "10"}, kept=0.5) == pytest.approx(2 * (20 + 90))
    assert work("evaluate_res", settings, SIZES, {}, splits=["val", "train"]) == 560
    alone, shared = (work("predict_pseudo_points", settings, SIZES, {"ratio": "10"}, parts=n) for n in (1, 4))
    assert alone == 4 * shared == 180
    assert work("cache_images", settings, SIZES, {}) == 100


def test_data_of_unknown_size_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = {"refshapes": None, "mine": {"raw": "here", "images": "here", "split_by": None, "splits": ["val"]}}
    with pytest.raises(DataError, match=r"datasets\.mine: .*snakemake .*refs\.parquet"):
        sizes_of(tiny_plan(datasets=own), "mine")


def test_every_rule_is_measured_or_left_out_on_purpose():
    text = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    rules = {*re.findall(r"^ *(?:use rule \w+ as|rule) (\w+)", text, re.MULTILINE), *EVALUATIONS}
    measured = {*KINDS, "prepare", "split", "select_pseudo_points", "score_pseudo_points", "gather_pseudo_points"}
    assert {rule for rule in rules - NOT_COUNTED if not rule.startswith(REPORTS)} == measured


def test_a_run_s_benchmarks_are_the_jobs_of_its_dag(done):
    jobs, _ = read_dag(done("--forceall", "--dag"))
    folder = done.folder / "results/benchmarks"
    measured = Counter(path.relative_to(folder).parts[0].removesuffix(".tsv") for path in folder.rglob("*.tsv"))
    assert measured == Counter(job.rule for job in jobs.values() if job.rule not in NOT_COUNTED)


def test_the_command_estimates_every_rule(checkout, tmp_path, monkeypatch):
    monkeypatch.chdir(checkout)
    printed = commands.done("estimate", TINY, "--images", 12, "--out", tmp_path / "estimate.json").output
    record = json.loads((tmp_path / "estimate.json").read_text())
    rules = {row["rule"]: row for row in record["rules"]}
    assert rules["train_res"]["jobs"] == 2 and rules["evaluate_res"]["jobs"] == 4
    assert all(row["hours"] > 0 for row in record["rules"]) and rules["train_rec"]["memory_mb"] > 100
    hours, total = [row["hours"] for row in record["workers"]], sum(row["hours"] for row in record["rules"])
    assert hours == sorted(hours, reverse=True) and hours[0] <= total * 1.001
    assert hours[-1] >= sum(step["seconds"] for step in record["critical_path"]) / 3600 * 0.999
    assert "| train_rec | 1 |" in printed
    assert rules["manifest"]["memory_mb"] == 0  # it is not measured as a training
