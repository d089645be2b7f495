"""Estimate what a config's workflow costs on this machine, before it runs: time, memory and disk.

Every kind of job runs twice, as the command that the workflow would run, on two small generated data sets. A line
through both costs, extended to the work of the real job, gives its estimate.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from partialres.estimate.dag import critical_path, dag, read_dag, wall_time
from partialres.estimate.sample import KINDS, Cost, Sample, Sizes, counted
from partialres.experiments import Plan, merge
from partialres.files import DataError
from partialres.refshapes.generate import RefshapesConfig, split_of

PUBLISHED: dict[tuple[str, str], Sizes] = {  # raw folder and split_by -> sizes as published
    ("refcoco", "unc"): {
        "train": (16_994, 42_404, 120_624), "val": (1_500, 3_811, 10_834),
        "testA": (750, 1_975, 5_657), "testB": (750, 1_810, 5_095),
    },
    ("refcoco+", "unc"): {
        "train": (16_992, 42_278, 120_191), "val": (1_500, 3_805, 10_758),
        "testA": (750, 1_975, 5_726), "testB": (750, 1_798, 4_889),
    },
    ("refcocog", "umd"): {
        "train": (21_899, 42_226, 80_512), "val": (1_300, 2_573, 4_896), "test": (2_600, 5_023, 9_602),
    },
}  # fmt: skip
AN_IMAGE = 2.48, 6.44  # refs and expressions of a generated image
NOT_COUNTED = {
    "all", "download", "download_images", "download_backbone", "unpack", "unpack_vectors", "place_weights",
    "import_released",
}  # fmt: skip
REPORTS = "table", "figure", "manifest"  # beginnings of the names of rules that cost little more than their imports
WORKERS = 1, 4, 8, 64


def estimate(configs: Sequence[Path], images: int, kept: float) -> dict[str, Any]:
    """Estimate a whole run of the workflow from nothing; downloads are not counted.

    configs: files laid over config/config.yaml. images: number of generated images to measure on. kept: the share, 0 to
    1, of the pseudo masks that step 3 trains on; 1 is an upper bound. Returns lists under the keys rules, workers and
    critical_path, whose keys end in their units. Raises DataError if Snakemake has no plan, a data set's size is
    unknown or a command fails.
    """
    plan = Plan(reduce(merge, [yaml.safe_load(path.read_text()) for path in (Path("config/config.yaml"), *configs)]))
    jobs, before = read_dag(dag(configs))
    sizes, alike, costs = {name: sizes_of(plan, name) for name in plan.datasets}, dict[Any, Sample](), dict[str, Cost]()
    with tempfile.TemporaryDirectory() as folder:
        report = seconds_of_import("partialres.report.curves")
        for number, job in jobs.items():
            if job.rule in NOT_COUNTED or job.rule.startswith(REPORTS):
                costs[number] = Cost(0 if job.rule in NOT_COUNTED else report, 0, 0, 0)
                continue
            name = job.wildcards["dataset"]
            key = (plan.settings(name), plan.datasets[name].generate, plan.datasets[name].split_by)
            if key not in alike:
                alike[key] = Sample(plan, name, Path(folder) / str(len(alike)), images)
            costs[number] = alike[key].cost(job, sizes[name], kept)
    seconds, cores = {number: cost.seconds for number, cost in costs.items()}, os.cpu_count() or 1
    kinds = {number: KINDS.get(job.rule) for number, job in jobs.items()}
    needs = {number: min(cores, plan.config.threads[kind]) if kind else 1 for number, kind in kinds.items()}
    needs |= {number: cores for number, kind in kinds.items() if kind and plan.config.resources[kind].gpu}
    walls = {workers: wall_time(before, seconds, needs, workers, cores) for workers in WORKERS}
    rules = []
    for rule, numbers in Counter(job.rule for job in jobs.values() if job.rule not in NOT_COUNTED).items():
        own = [costs[number] for number, job in jobs.items() if job.rule == rule]
        rules.append(
            {
                "rule": rule, "jobs": numbers, "hours": sum(each.seconds for each in own) / 3600,
                "cpu_hours": sum(each.cpu for each in own) / 3600, "longest_seconds": max(each.seconds for each in own),
                "memory_mb": max(each.memory for each in own) / 1e6, "disk_gb": sum(each.disk for each in own) / 1e9,
            }
        )  # fmt: skip
    path = [{"rule": jobs[number].rule, "seconds": seconds[number]} for number in critical_path(before, seconds)]
    workers = [{"workers": number, "cores": cores, "hours": wall / 3600} for number, wall in walls.items()]
    return {"rules": rules, "workers": workers, "critical_path": [step for step in path if step["seconds"]]}


def seconds_of_import(module: str) -> float:
    """Return the seconds that a new process takes to import a module."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


def sizes_of(plan: Plan, name: str) -> Sizes:
    """Return the size of a data set's splits, counted in its table if there is one, else as published or generated.

    Raises DataError if neither is known.
    """
    table, entry = Path(plan.config.results) / name / "refs.parquet", plan.datasets[name]
    if table.exists():
        return counted(table)
    if entry.generate is None:
        published = PUBLISHED.get((Path(entry.raw or "").name, entry.split_by or ""))
        if published is None:
            raise DataError(f"datasets.{name}: its size is not known; make its table first: snakemake {table}")
        return published
    config = RefshapesConfig(**entry.generate.model_dump())
    images = Counter(split_of(config, index) for index in range(config.images))
    return {split: (number, number * AN_IMAGE[0], number * AN_IMAGE[1]) for split, number in images.items()}
