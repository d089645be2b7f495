"""The slurm profile on a real SLURM with one node, which tests/slurm/start.sh starts. Takes some minutes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.workflow.running import ROOT, Workflow

MISSING = [name for name in ("slurmctld", "slurmd", "srun", "munged") if not shutil.which(name)]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (Debian: slurm-wlm, munge)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="SLURM is started by root only"),
    pytest.mark.skipif(Path("/etc/slurm/slurm.conf").exists(), reason="this machine has a SLURM of its own"),
    pytest.mark.skipif(
        not importlib.util.find_spec("snakemake_executor_plugin_slurm"), reason="needs snakemake-executor-plugin-slurm"
    ),
]
# This SLURM has no accounting, hence squeue, and no other users whom frequent queries would disturb. If the first check
# comes before the job's end, the plugin waits ten more seconds before the next.
SECONDS_OF_A_JOB = "8"
OPTIONS = [
    "--workflow-profile", "workflow/profiles/slurm", "--slurm-status-command", "squeue",
    "--slurm-init-seconds-before-status-checks", SECONDS_OF_A_JOB, "--seconds-between-status-checks", "1",
    "--latency-wait", "5", "--cores", "2",
]  # fmt: skip
LITTLE = {"resources": {"pretraining": {"mem_mb": 450, "runtime": 5}}}  # too little, with Snakemake's processes


@dataclass(frozen=True)
class Story:
    """An interrupted run, and the run that resumes it."""

    workflow: Workflow
    cancelled: str  # the first run's output
    finished: str  # the second's
    again: str  # a third's
    queue_then: list[tuple[str, int, str]]  # state, MB and rules of every submission after the first run
    queue: list[tuple[str, int, str]]  # the same after the second run


def submissions() -> list[tuple[str, int, str]]:
    """State, memory in MB and rules of every job that SLURM lists, in order."""
    answer = subprocess.run(
        ["squeue", "--states=all", "--noheader", "--sort=i", "--format=%T|%m|%k"], capture_output=True, text=True
    )
    rows = (line.split("|") for line in answer.stdout.splitlines())
    return [(state, int(memory.rstrip("M")), rules) for state, memory, rules in rows]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([ROOT / "tests/slurm/start.sh", folder], check=True, timeout=60)
    yield
    subprocess.run([ROOT / "tests/slurm/stop.sh", folder], check=True, timeout=60)


@pytest.fixture(scope="module")
def story(slurm: None, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    workflow = Workflow(checkout, tmp_path_factory.mktemp("run"), cold=True)
    options = [str(checkout / part) if part.startswith("workflow/") else part for part in OPTIONS]
    log = workflow.folder / "first.log"
    with log.open("w") as file:
        first = subprocess.Popen(
            workflow.command(*options, config=LITTLE), env=workflow.environment(), stdout=file, stderr=file,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell's jobs ignore it
        )  # fmt: skip
        while first.poll() is None and not any("cache_features" in rules for _, _, rules in submissions()):
            time.sleep(0.2)
        first.send_signal(signal.SIGINT)
        first.wait(timeout=120)
    time.sleep(3)
    queue_then = submissions()
    finished = workflow(*options, config=LITTLE, cores=None)
    again = workflow(*options, config=LITTLE, cores=None)
    return Story(workflow, log.read_text(), finished, again, queue_then, submissions())


def test_the_whole_workflow_runs_through(story):
    assert "Nothing to be done" in story.again
    assert (story.workflow.folder / "results/tables/table1.csv").is_file()
    assert (story.workflow.folder / "results/figures/ratio_curve.png").is_file()


def test_a_job_that_lacked_memory_is_submitted_again_with_more(story):
    tries = [(state, memory) for state, memory, rules in story.queue if "pretrain_backbone" in rules]
    assert tries == [("FAILED", 450), ("COMPLETED", 900)]


def test_a_cancelled_run_leaves_no_job_and_goes_on_from_where_it_was(story):
    assert any(state == "CANCELLED" for state, _, _ in story.queue_then)
    assert not [state for state, _, _ in story.queue_then if state in ("RUNNING", "PENDING", "COMPLETING")]
    after = story.queue[len(story.queue_then) :]
    assert after and not [rules for _, _, rules in after if "pretrain_backbone" in rules or "refshapes_" in rules[:15]]


def test_small_jobs_are_submitted_together(story):
    evaluations = [rules for _, _, rules in story.queue if "evaluate" in rules]
    assert len(evaluations) == 1  # for five jobs
    assert len(story.queue) < 22  # for 29 jobs, including those that failed or were cancelled
