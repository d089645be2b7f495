"""Compute a workflow's wall time by number of workers, from Snakemake's DAG and the jobs' benchmark files.

    snakemake --forceall --dag | python -m tools.scaling results/benchmarks --cost train_rec=36000

A worker runs one job at a time; of the jobs that are ready, the one with the longest remaining path goes first.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import re
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path


def read_dag(dot: str) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Job -> rule, and job -> the jobs it waits for, from the output of `snakemake --dag`."""
    rules = {
        job: label.split("\\n")[0] for job, label in re.findall(r'^\s*(\d+)\[label = "([^"]*)"', dot, re.MULTILINE)
    }
    before: dict[str, set[str]] = {job: set() for job in rules}
    for earlier, later in re.findall(r"^\s*(\d+) -> (\d+)", dot, re.MULTILINE):
        before[later].add(earlier)
    return rules, before


def measured(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Rule -> seconds and peak memory (MB) of each of its jobs that has a benchmark file."""
    costs: dict[str, list[tuple[float, float]]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        with path.open() as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        if rows:
            memory = rows[-1]["max_rss"]
            costs.setdefault(rule, []).append((float(rows[-1]["s"]), float("nan" if memory == "NA" else memory)))
    return costs


def ways(before: Mapping[str, set[str]], cost: Mapping[str, float]) -> dict[str, float]:
    """Job -> seconds from its start to the end of the workflow if no job ever waits for a worker."""
    after: dict[str, list[str]] = {job: [] for job in before}
    for job, earlier in before.items():
        for each in earlier:
            after[each].append(job)
    costs: dict[str, float] = {}
    for job in reversed(in_order(before)):
        costs[job] = cost[job] + max((costs[each] for each in after[job]), default=0.0)
    return costs


def in_order(before: Mapping[str, set[str]]) -> list[str]:
    """All jobs, each after those that it depends on."""
    done: dict[str, None] = {}
    waiting = dict(before)
    while waiting:
        ready = [job for job, earlier in waiting.items() if earlier <= done.keys()]
        if not ready:
            raise ValueError("the DAG has a cycle")
        done |= dict.fromkeys(ready)
        waiting = {job: earlier for job, earlier in waiting.items() if job not in done}
    return list(done)


def wall_time(before: Mapping[str, set[str]], cost: Mapping[str, float], workers: int) -> float:
    """Seconds until every job is done, with so many workers."""
    left = {job: len(earlier) for job, earlier in before.items()}
    way = ways(before, cost)
    after: dict[str, list[str]] = {job: [] for job in before}
    for job, earlier in before.items():
        for each in earlier:
            after[each].append(job)
    ready = [(-way[job], job) for job in before if not left[job]]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            _, job = heapq.heappop(ready)
            heapq.heappush(running, (now + cost[job], job))
        now, job = heapq.heappop(running)
        for each in after[job]:
            left[each] -= 1
            if not left[each]:
                heapq.heappush(ready, (-way[each], each))
    return now


def critical_path(before: Mapping[str, set[str]], cost: Mapping[str, float]) -> list[str]:
    """The critical path: the jobs whose costs add up to the shortest possible wall time."""
    way = ways(before, cost)
    path = [max(way, key=lambda job: way[job])]
    while True:
        following = [job for job, earlier in before.items() if path[-1] in earlier]
        if not following:
            return path
        path.append(max(following, key=lambda job: way[job]))


def report(rules: Mapping[str, str], before: Mapping[str, set[str]], seconds: Mapping[str, float],
           workers: Iterable[int]) -> str:  # fmt: skip
    """Wall time and node hours by number of workers, and the critical path, as Markdown."""
    cost = {job: seconds.get(rule, 0.0) for job, rule in rules.items()}
    total = sum(cost.values())
    lines = ["| workers | wall time, h | node hours | busy |", "| ---: | ---: | ---: | ---: |"]
    for number in workers:
        wall = wall_time(before, cost, number)
        busy = total / (wall * number) if wall else 0.0
        lines.append(f"| {number} | {wall / 3600:.2f} | {wall * number / 3600:.2f} | {busy:.0%} |")
    path = critical_path(before, cost)
    steps = ", ".join(f"{rules[job]} ({cost[job]:.0f} s)" for job in path if cost[job])
    lines += ["", f"{len(rules)} jobs, {total / 3600:.2f} h of work. Critical path, "
              f"{sum(cost[job] for job in path) / 3600:.2f} h: {steps}."]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Read the DAG from standard input and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmarks", type=Path, help="folder of a run's benchmark files")
    parser.add_argument("--cost", action="append", default=[], metavar="RULE=SECONDS", help="instead of the measured")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    options = parser.parse_args()
    rules, before = read_dag(sys.stdin.read())
    if not rules:
        sys.exit("standard input holds no DAG: pipe `snakemake --forceall --dag` into this")
    costs = measured(options.benchmarks)
    seconds = {rule: statistics.mean(time for time, _ in jobs) for rule, jobs in costs.items()}
    seconds |= {rule: float(value) for rule, value in (each.split("=") for each in options.cost)}
    unknown = {rule for rule in rules.values() if rule not in seconds} - {"all"}
    if unknown:
        print(f"without a measurement, counted as 0 s: {', '.join(sorted(unknown))}", file=sys.stderr)
    print("| rule | jobs measured | mean, s | longest, s | peak memory, MB |\n| --- | ---: | ---: | ---: | ---: |")
    for rule, jobs in costs.items():
        times, memory = zip(*jobs, strict=True)
        print(f"| {rule} | {len(jobs)} | {statistics.mean(times):.1f} | {max(times):.1f} | {max(memory):.0f} |")
    print(f"\n{report(rules, before, seconds, options.workers)}")


if __name__ == "__main__":
    main()
