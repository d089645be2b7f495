"""What each change reruns, and that it reruns nothing else."""

from __future__ import annotations

import re
import shutil

import pytest
import yaml

from tests.workflow.reruns import CHANGES, END, PAGE, START, pending, row, setting
from tests.workflow.running import ROOT, Workflow

RUN = "results/refshapes/seed0/ratio10/ours"
SCORED = ("predictions.parquet", "metrics.json")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.what)
def test_the_documented_row_is_what_a_dry_run_says(done, change):
    text = PAGE.read_text().split(START)[1].split(END)[0]
    assert row(change, set(pending(done, change))) in text.splitlines(), "run python -m tests.workflow.reruns"


def not_of_the_report(paths: dict[str, set[str]]) -> dict[str, set[str]]:
    return {rule: files for rule, files in paths.items() if not re.match(r"table|figure|manifest", rule)}


def test_another_threshold_makes_selection_step_3_and_its_scores_again(done):
    (change,) = (change for change in CHANGES if change.config == setting("pseudo.threshold", 0.5))
    assert not_of_the_report(pending(done, change)) == {
        "select_pseudo_points": {f"{RUN}/pseudo/selected.parquet"},
        "score_pseudo_points": {f"{RUN}/pseudo/selection.json"},
        "retrain_res": {f"{RUN}/retrain/{name}" for name in ("model.safetensors", "metrics.csv", "provenance.json")},
        "evaluate_res": {f"{RUN}/retrain/{split}/{name}" for split in ("val", "testA") for name in SCORED},
    }


@pytest.mark.parametrize(
    ("what", "part"),
    [
        ("a seed more (`seeds`)", "/seed1/"),
        ("a ratio more", "/ratio5/"),
        ("a ratio less", "no path has this"),
        ("an experiment with `from: ours` more", "/ratio10/strict/"),
        ("an experiment with `head: mask` more", "mask"),
    ],
)
def test_what_is_added_makes_its_own_files_and_none_again(done, what, part):
    (change,) = [change for change in CHANGES if change.what == what]
    made = not_of_the_report(pending(done, change))
    assert all(part in path for paths in made.values() for path in paths)
    if "from" in what:
        assert not {"train_res", "predict_pseudo_points"} & set(made)


def test_a_split_more_scores_every_split_of_its_data_set_again_and_trains_nothing(done):
    (change,) = [change for change in CHANGES if change.what == "an evaluation split more"]
    made = not_of_the_report(pending(done, change))
    assert made.keys() == {"evaluate_rec", "evaluate_res"}
    rec = {
        f"results/refshapes/seed0/rec/points/{split}/{name}" for split in ("val", "testA", "testB") for name in SCORED
    }
    assert made["evaluate_rec"] == rec


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
    assert re.search(r"prepare +1", workflow("-n", refs, config=config))


def test_the_config_lists_what_a_job_of_each_kind_needs():
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    assert set(config["threads"]) | {"prepare", "report"} == set(config["resources"])
