"""Wall time, computed from the DAG that Snakemake prints and from the jobs' measured costs."""

from __future__ import annotations

import pytest

from tools import scaling

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


def test_the_dag_is_read_from_what_snakemake_prints():
    rules, before = scaling.read_dag(DOT)
    assert rules == {"0": "all", "1": "train_res", "2": "train_res", "3": "split"}
    assert before == {"0": {"1", "2"}, "1": {"3"}, "2": {"3"}, "3": set()}


@pytest.mark.parametrize(("workers", "expected"), [(1, 21), (2, 11), (64, 11)])
def test_two_trainings_of_ten_seconds_after_one_of_a_second(workers, expected):
    rules, before = scaling.read_dag(DOT)
    cost = {"0": 0.0, "1": 10.0, "2": 10.0, "3": 1.0}
    assert scaling.wall_time(before, cost, workers) == expected
    assert [rules[job] for job in scaling.critical_path(before, cost)] == ["split", "train_res", "all"]


def test_every_benchmark_of_a_run_has_its_rule(done):
    found = scaling.measured(done.folder / "results/benchmarks")
    rules, _ = scaling.read_dag(done("--forceall", "--dag"))
    assert set(found) == set(rules.values()) - {"all"}
    assert {rule: len(jobs) for rule, jobs in found.items()} == {
        rule: list(rules.values()).count(rule) for rule in found
    }
