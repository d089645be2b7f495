"""Read the workflow's DAG, and compute how long it takes on a number of workers from the seconds of its jobs."""

import heapq
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from partialres.files import DataError


class Job(NamedTuple):
    """A job of the workflow."""

    rule: str
    wildcards: Mapping[str, str]  # its own and those of the jobs that it depends on


def dag(configs: Sequence[Path]) -> str:
    """Return the workflow's DAG with all jobs, in the DOT language; raises DataError if Snakemake has no plan."""
    files = ["--configfile", *map(str, configs)] if configs else []
    command = [sys.executable, "-m", "snakemake", "--forceall", "--dag", "--nolock", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"snakemake has no plan; run this in a checkout, with its config: {done.stderr.strip()}")
    return done.stdout


def read_dag(dot: str) -> tuple[dict[str, Job], dict[str, set[str]]]:
    """Return the jobs by number, and for each the jobs that it waits for, from the output of `snakemake --dag`."""
    labels = dict(re.findall(r'^\s*(\d+)\[label = "([^"]*)"', dot, re.MULTILINE))
    before: dict[str, set[str]] = {job: set() for job in labels}
    for earlier, later in re.findall(r"^\s*(\d+) -> (\d+)", dot, re.MULTILINE):
        before[later].add(earlier)
    jobs: dict[str, Job] = {}
    for job in TopologicalSorter(before).static_order():
        rule, *own = labels[job].split("\\n")
        inherited = {key: value for each in sorted(before[job]) for key, value in jobs[each].wildcards.items()}
        rule = re.sub(r"_\d+$", "", rule)  # evaluate_res_2 is evaluate_res for another list of splits
        jobs[job] = Job(rule, inherited | dict(pair.split(": ", 1) for pair in own))  # a label has only new wildcards
    return jobs, before


def longest_ways(before: Mapping[str, set[str]], seconds: Mapping[str, float]) -> dict[str, float]:
    """Return for each job the seconds from its start to the end of the workflow if no job ever waits for a worker."""
    ways = dict(seconds)
    for job in reversed([*TopologicalSorter(before).static_order()]):
        for earlier in before[job]:
            ways[earlier] = max(ways[earlier], seconds[earlier] + ways[job])
    return ways


def critical_path(before: Mapping[str, set[str]], seconds: Mapping[str, float]) -> list[str]:
    """Return the jobs that follow on one another and take longest, in order."""
    ways = longest_ways(before, seconds)
    path = [max(ways, key=lambda job: ways[job])]
    while following := [job for job, earlier in before.items() if path[-1] in earlier]:
        path.append(max(following, key=lambda job: ways[job]))
    return path


def wall_time(
    before: Mapping[str, set[str]],
    seconds: Mapping[str, float],
    cores: Mapping[str, int],
    workers: int,
    cores_each: int,
) -> float:
    """Return the seconds until every job is done on a number of workers.

    cores: how many each job takes. cores_each: how many each worker has. Of the jobs that are ready and fit on a
    worker, the one with the longest way to the end starts first.
    """
    ways, left = longest_ways(before, seconds), {job: len(earlier) for job, earlier in before.items()}
    free, now = [cores_each] * workers, 0.0
    ready = [job for job in before if not left[job]]
    running: list[tuple[float, str, int]] = []
    while ready or running:
        for job in sorted(ready, key=lambda job: -ways[job]):
            worker = next((place for place, room in enumerate(free) if room >= cores[job]), None)
            if worker is not None:
                ready.remove(job)
                free[worker] -= cores[job]
                heapq.heappush(running, (now + seconds[job], job, worker))
        now, done, worker = heapq.heappop(running)
        free[worker] += cores[done]
        for job, earlier in before.items():
            if done in earlier:
                left[job] -= 1
                ready += [job] if not left[job] else []
    return now
