"""The workflow in other places: as a module of another workflow, and on any scheduler."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess

import pytest
import yaml

from tests.workflow.running import EVALUATIONS, ROOT, TINY, Workflow, run_warm

PROFILES = ROOT / "workflow/profiles"


def jobs(output: str) -> dict[str, int]:
    """Rule -> number of jobs, from the table at the start of a dry run."""
    return {name: int(number) for name, number in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}


def test_another_workflow_takes_it_as_a_module(checkout, tmp_path):
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/Snakefile").write_text(f"""
configfile: "settings.yaml"

module partialres:
    snakefile: {str(checkout / "workflow/Snakefile")!r}
    config: config["partialres"]

use rule * from partialres as partialres_*

rule summary:
    default_target: True
    input: rules.partialres_all.input, "results/tables/table1.csv"
    output: "summary.txt"
    shell: "wc -l {{input}} > {{output}}"
""")
    settings = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    tiny = yaml.safe_load(TINY.read_text())
    settings |= {name: tiny[name] for name in ("ratios", "datasets", "threads")}
    settings["datasets"]["refshapes"]["split_by"] = "unc"
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"partialres": settings}))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tmp_path / "settings.yaml", elsewhere)
    words = ["snakemake", "-n", "--directory", str(elsewhere), "-s", str(tmp_path / "workflow/Snakefile")]
    planned = jobs(run_warm(checkout, words, tmp_path, Workflow(checkout, elsewhere).environment()))
    assert planned["summary"] == 1 and planned["partialres_train_rec"] == 1 and planned["partialres_retrain_res"] == 1


def test_a_failed_job_is_named_and_shows_the_end_of_its_log(checkout, tmp_path):
    (tmp_path / "run").mkdir()
    workflow = Workflow(checkout, tmp_path / "run")
    target = "results/own/refs.parquet"
    (tmp_path / "instances.json").write_text("{}")
    (tmp_path / "refs(unc).p").write_bytes(b"no pickle")
    own = {"raw": str(tmp_path), "images": str(tmp_path), "split_by": "unc", "splits": ["val"]}
    with pytest.raises(subprocess.CalledProcessError) as caught:
        workflow(target, config={"datasets": {"refshapes": None, "own": own}})
    log = (tmp_path / "run/results/logs/prepare/own.log").read_text().strip().splitlines()
    assert log and log[-1] in caught.value.output and "refs(unc).p" in log[-1]
    assert "Error in rule prepare" in caught.value.output


@pytest.mark.parametrize("profile", [path.parent.name for path in sorted(PROFILES.glob("*/config.yaml"))])
def test_a_profile_names_rules_and_groups_of_the_workflow(profile):
    content = yaml.safe_load((PROFILES / profile / "config.yaml").read_text())
    text = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    rules = {name for pair in re.findall(r"(?m)^ *rule (\w+):|^use rule \w+ as (\w+) with", text) for name in pair}
    rules |= {f"{name}{number}" for name in EVALUATIONS for number in ("", "_2", "_3")}  # for lists of splits
    groups = set(re.findall(r'group: "(\w+)"', text))
    assert {*content.get("set-resources", {})} <= rules
    assert set(content.get("group-components", {})) in (set(), groups)


@pytest.mark.skipif(
    not importlib.util.find_spec("snakemake_executor_plugin_cluster_generic"),
    reason="needs snakemake-executor-plugin-cluster-generic",
)
def test_any_scheduler_with_a_submit_command_runs_it(tmp_path):
    """A stand-in for Grid Engine's qsub that records its arguments and runs the script itself."""
    qsub = tmp_path / "qsub"
    qsub.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nfor script; do :; done\n'
        f'sh "$script" > {tmp_path}/log 2>&1 &\necho 1\n'
    )
    qsub.chmod(0o755)
    (tmp_path / "run").mkdir()
    workflow = Workflow(ROOT, tmp_path / "run", cold=True)
    path = f"{tmp_path}:{workflow.environment()['PATH']}"
    target = "results/refshapes/refs.parquet"
    profile = ROOT / "workflow/profiles/cluster"
    workflow(
        target,
        "--workflow-profile",
        profile,
        "--latency-wait",
        5,
        "--seconds-between-status-checks",
        1,
        env={"PATH": path},
        cores=None,
    )
    assert (workflow.folder / target).is_file()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 2 and all("h_vmem=" in line and "h_rt=00:5:00" in line for line in asked)


def test_the_workflow_catalog_can_read_how_to_use_it():
    catalog = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())
    usage = catalog["usage"]
    assert usage["mandatory-flags"]["flags"] == "" and usage["software-stack-deployment"]["conda"] is True
    assert (ROOT / "config/README.md").is_file() and (ROOT / "workflow/Snakefile").is_file()
