"""The docs' example of a user's own data, run from the text of the docs alone."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import cv2
import numpy as np

from tests.workflow.running import ROOT, Workflow, run_warm

PAGE = (ROOT / "docs/own-data.md").read_text()


def block(kind: str, place: int = 0) -> str:
    """The text of a fenced block on the page, by language and position."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[place]


def test_the_example_runs_as_it_is_written(empty):
    folder = empty.folder
    empty.command("-n")  # copies the default config into the folder
    default = folder / "config/config.yaml"  # with a thread a job, since a core is shared with other tests
    default.write_text(re.sub("(?m)^threads: .*$", lambda line: line[0].replace("2", "1"), default.read_text()))
    (folder / "data/kitchen").mkdir(parents=True)
    (folder / "data/kitchen/instances.json").write_text(block("json", 0))
    (folder / "data/kitchen/expressions.json").write_text(block("json", 1))
    (folder / "kitchen.yaml").write_text(block("yaml"))
    for image in json.loads(block("json", 0))["images"]:
        path = folder / "data/kitchen/images" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(image["id"]).integers(0, 256, (image["height"], image["width"], 3), np.uint8)
        assert cv2.imwrite(str(path), noise)
    (folder / "photographs.yaml").write_text(block("yaml", 1))
    shutil.copyfile(ROOT / "config/paper.yaml", folder / "config/paper.yaml")
    shutil.copyfile(ROOT / "config/gpu.yaml", folder / "config/gpu.yaml")
    run(empty, block("sh", 1).replace("kitchen.yaml", "photographs.yaml"))  # the plan alone
    run(empty, block("sh"))
    names = {path.name for path in (folder / "results/kitchen/tables").iterdir()}
    assert {"table1.csv", "data.csv", "pseudo.csv"} <= names
    assert not (folder / "results/tables").exists()  # these are make reproduce's


def run(workflow: Workflow, command: str) -> None:
    """Run a documented snakemake command on the checkout's workflow."""
    program, *words = shlex.split(command)
    assert program == "snakemake"
    words = [program, *words, "-s", str(workflow.checkout / "workflow/Snakefile")]
    run_warm(workflow.checkout, words, workflow.folder, workflow.environment())
