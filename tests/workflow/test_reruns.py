"""What a change makes again, and that it makes nothing else again: each row of the table in docs/workflow.md."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow.running import ROOT, Workflow

RUN = "results/refshapes/seed0/ratio10/ours"
SCORED = ("predictions.parquet", "metrics.json")
SCORES = {"table1", "table_details", "figure_ratio_curve"}
GALLERY = {"figure_qualitative"}
FIRST = {"figure_forest", "figure_steps", "table_failures", "figure_failures"}  # of the first split
REPORT = SCORES | GALLERY | FIRST | {"table_pseudo", "figure_training", "figure_pseudo"}
SELECTION = {"select_pseudo_points", "score_pseudo_points"}
STEP_3 = SELECTION | {"retrain_res", "evaluate_res"}
STEP_2 = {"train_res", "train_res_full", "predict_pseudo_points"}
STEP_1 = {"train_rec", "evaluate_rec", "table_rec"}
LATER = STEP_2 | STEP_3 | REPORT  # all that follows step 1's model


@dataclass(frozen=True)
class Change:
    """A change of the config or of a module of the package, and the rules that run then."""

    what: str
    rules: set[str]
    config: dict[str, Any] = field(default_factory=dict)
    module: str | None = None
    new: str | None = None  # all files but the report's have this in their paths: nothing that was there is made again


def setting(name: str, value: Any) -> dict[str, Any]:
    """A config that changes one of the settings, by its dotted key."""
    for key in reversed(name.split(".")):
        value = {key: value}
    return {"settings": value}


STRICT = {"strict": {"ratios": "partial", "settings": {"pseudo": {"threshold": 0.05}}}}
MASK_HEAD = {"mask_head": {"retrain": False, "settings": {"model": {"head": "mask", "cctf": False, "pmca": False}}}}
CHANGES = [
    Change("`pseudo.threshold`", STEP_3 | REPORT, setting("pseudo.threshold", 0.5)),
    Change("`points`", LATER, setting("points", 8)),
    Change("`res.epochs`", LATER, setting("res.epochs", 3)),
    Change(
        "`retrain.learning_rate`",
        {"retrain_res", "evaluate_res", "figure_training"} | SCORES | GALLERY | FIRST,
        setting("retrain.learning_rate", 0.003),
    ),
    Change("`rec.epochs`", STEP_1 | LATER, setting("rec.epochs", 3)),
    Change(
        "`pretraining.epochs`",
        {"pretrain_backbone", "cache_features"} | STEP_1 | LATER,
        setting("pretraining.epochs", 2),
    ),
    Change("`evaluate.batch`", {"evaluate_rec", "evaluate_res", "table_rec"} | SCORES | GALLERY | FIRST,
           setting("evaluate.batch", 7)),
    Change("a seed more", {"split"} | STEP_1 | LATER - GALLERY - {"figure_steps"}, {"seeds": [0, 1]}, new="/seed1/"),
    Change("a ratio more", {"split", "table_data"} | (LATER - {"train_res_full"}), {"ratios": [5, 10, 100]},
           new="/ratio5/"),
    Change("a ratio less", SCORES | GALLERY | FIRST - {"figure_steps"} | {"figure_training", "table_data"},
           {"ratios": [10]}, new="no path has this"),
    Change("an experiment more",
           STEP_3 | SCORES | {"table_pseudo", "figure_training", "figure_forest", "table_thresholds"},
           {"experiments": STRICT}, new="/ratio10/strict/"),
    Change(
        "an experiment with `head: mask` more",
        {"train_rec_mask", "evaluate_rec_mask", "table_rec", "train_res", "train_res_full", "evaluate_res"}
        | SCORES | {"figure_training", "figure_forest", "figure_peer"},
        {"experiments": MASK_HEAD},
        new="mask",
    ),
    Change(
        "an evaluation split more",
        {"evaluate_rec", "evaluate_res", "table_rec"} | SCORES,
        {"datasets": {"refshapes": {"splits": ["val", "testA", "testB"]}}},
        new="/testB/",
    ),
    Change("`resources`", set(), {"resources": {"res": {"mem_mb": 5000, "runtime": 99, "gpu": 1}}}),
    Change("`threads`", set(), {"threads": {"res": 2}}),
    Change(
        "figure style: `report/style.py`",
        {"figure_ratio_curve", "figure_training", "figure_pseudo", "figure_qualitative"} | FIRST - {"table_failures"},
        module="report/style",
    ),
    Change("`metrics.py`", {"evaluate_rec", "evaluate_res", "score_pseudo_points", "table_rec", "table_pseudo"}
           | SCORES | GALLERY | FIRST, module="metrics"),
    Change("`model/pointer.py`", {"pretrain_backbone", "cache_features"} | STEP_1 | LATER, module="model/pointer"),
    Change("`training/ema.py`", STEP_1 | LATER, module="training/ema"),
    Change("`data/splits.py`", {"split", "table_data"} | LATER, module="data/splits"),
]  # fmt: skip


@contextmanager
def changed(path: Path) -> Iterator[None]:
    """A module that does one thing more when it is imported."""
    code, status = path.read_bytes(), path.stat()
    path.write_bytes(code + b"\nassert True\n")
    try:
        yield
    finally:
        path.write_bytes(code)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.what)
def test_a_change_makes_what_depends_on_it_again_and_nothing_else(done, change):
    if change.module:
        with changed(done.checkout / f"partialres/{change.module}.py"):
            pending = done.pending()
    else:
        pending = done.pending(change.config)
    assert set(pending) == change.rules
    if change.new:
        own = {
            path
            for rule, paths in pending.items()
            if rule not in REPORT | {"table_rec", "table_data", "table_thresholds", "figure_peer"}
            for path in paths
        }
        assert all(change.new in path for path in own)


def test_another_threshold_makes_these_files_again(done):
    pending = done.pending(setting("pseudo.threshold", 0.5))
    assert {rule: paths for rule, paths in pending.items() if rule not in REPORT} == {
        "select_pseudo_points": {f"{RUN}/pseudo/selected.parquet"},
        "score_pseudo_points": {f"{RUN}/pseudo/selection.json"},
        "retrain_res": {f"{RUN}/retrain/{name}" for name in ("model.safetensors", "metrics.csv", "provenance.json")},
        "evaluate_res": {f"{RUN}/retrain/{split}/{name}" for split in ("val", "testA") for name in SCORED},
    }


def test_a_changed_raw_file_makes_prepare_and_what_follows_again(done, tmp_path):
    shutil.copytree(done.folder / "results/refshapes/raw", tmp_path / "raw")
    (tmp_path / "run").mkdir()
    workflow = Workflow(done.checkout, tmp_path / "run")
    own = {"raw": str(tmp_path / "raw/refshapes"), "images": str(tmp_path / "raw/images/train2014")}
    config = {"datasets": {"refshapes": None, "own": {**own, "split_by": "unc", "splits": ["val"]}}}
    refs = "results/own/refs.parquet"
    workflow(refs, config=config)
    assert "Nothing to be done" in workflow(refs, config=config)
    with (tmp_path / "raw/refshapes/instances.json").open("a") as file:
        file.write("\n")
    assert "prepare" in workflow.pending(config)
    assert re.search(r"prepare +1", workflow("-n", refs, config=config))


def test_the_documentation_has_these_rows(done):
    text = (ROOT / "docs/workflow.md").read_text()
    rows = dict(re.findall(r"^\| (.+?) +\| (.+?) +\|$", text, re.MULTILINE))
    groups = dict(re.findall(r"^- \*\*(.+)\*\*: (.+)$", text, re.MULTILINE))
    written = {name: re.sub(r"\*\*(.+?)\*\*", lambda group: groups[group[1]], row) for name, row in rows.items()}
    said = {change.what: set(re.findall(r"`(\w+)`", written.get(change.what, "no row"))) for change in CHANGES}
    assert said == {change.what: change.rules for change in CHANGES}


def test_every_rule_of_the_table_exists():
    rules = {name for file in (ROOT / "workflow/rules").glob("*.smk")
             for pair in re.findall(r"^rule (\w+):|^use rule \w+ as (\w+) with", file.read_text(), re.MULTILINE)
             for name in pair if name}  # fmt: skip
    assert set().union(*(change.rules for change in CHANGES)) <= rules


def test_the_config_lists_what_a_job_of_each_kind_needs():
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    assert set(config["threads"]) | {"prepare", "report"} == set(config["resources"])
