"""The real workflow with a config so small that it ends in a minute: what it makes, and what a change reruns."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import time

import pytest
import yaml

from partialres.checkpoints.model_file import read_header
from partialres.config import ConfigError
from partialres.files import read_table
from tests.workflow.conftest import ODD
from tests.workflow.running import ROOT, TINY, planned

RUN = "results/refshapes/seed0/ratio10/ours"
SCORED = ("predictions.parquet", "metrics.json")
COUNTS = ("expressions", "refs", "degenerate")


def test_a_second_run_does_nothing(done):
    assert "Nothing to be done" in done()


def test_every_table_and_figure_is_there(done):
    names = {path.relative_to(done.folder).as_posix() for path in done.folder.glob("results/[tf]*s/*")}
    written, drawn = (
        ("table1", "claims", "details", "rec", "data", "pseudo", "failures_refshapes"),
        (
            "ratio_curve", "qualitative_refshapes", "training", "pseudo", "steps_refshapes",
            "failures_refshapes",
        ),
    )  # fmt: skip
    tables = {f"results/tables/{name}.{kind}" for name in written for kind in ("csv", "md", "html")}
    assert names == tables | {f"results/figures/{name}.{kind}" for name in drawn for kind in ("png", "pdf")}
    assert all((done.folder / name).stat().st_size > 50 for name in names)


def test_scores_have_the_promised_keys_and_count_every_expression(done):
    refs = read_table(done.folder / "results/refshapes/refs.parquet")
    masks = [
        "expressions", "refs", "mIoU", "oIoU", "Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9", "box_accuracy",
        "mIoU_upstream", "degenerate",
    ]  # fmt: skip
    files = sorted(path.relative_to(done.folder).as_posix() for path in done.folder.rglob("metrics.json"))
    assert len(files) == 10  # step 1, three trainings of step 2 and one of step 3, on two splits each
    for path in files:
        scores = done.read(path)
        assert list(scores) == (["expressions", "refs", "box_accuracy", "mean_box_iou"] if "/rec/" in path else masks)
        split = refs[refs["split"] == path.split("/")[-2]]
        assert (scores["expressions"], scores["refs"]) == (split["expressions"].map(len).sum(), len(split))
        assert all(0 <= value <= 100 for name, value in scores.items() if name not in COUNTS)
        assert 0 <= scores.get("degenerate", 0) <= scores["expressions"]


def test_a_split_holds_no_mask_of_an_unlabelled_ref(done):
    refs = read_table(done.folder / "results/refshapes/refs.parquet")
    for ratio in (10, 100):
        split = read_table(done.folder / f"results/refshapes/seed0/ratio{ratio}/split.parquet")
        assert split["mask"].notna().tolist() == split["labelled"].tolist() == split["parts"].notna().tolist()
        assert abs(split["labelled"].mean() - ratio / 100) < 0.02
        assert set(split["ref_id"]) == set(refs.loc[refs["split"] == "train", "ref_id"])


def test_pseudo_points_are_of_the_unlabelled_refs(done):
    split = read_table(done.folder / "results/refshapes/seed0/ratio10/split.parquet")
    points = read_table(done.folder / RUN / "pseudo/points.parquet")
    selected = read_table(done.folder / RUN / "pseudo/selected.parquet")
    assert sorted(points["ref_id"]) == sorted(split.loc[~split["labelled"], "ref_id"])
    assert set(selected["ref_id"]) <= set(points["ref_id"])
    report = done.read(f"{RUN}/pseudo/selection.json")
    assert (report["candidates"], report["kept"]) == (len(points), len(selected))


def test_some_pseudo_masks_are_kept_so_that_step_3_trains_on_them(done):
    assert done.read(f"{RUN}/pseudo/selection.json")["kept"] > 0


def test_folders_with_spaces_quotes_and_commands_in_their_names_are_only_folders(done, empty):
    assert not [*done.folder.parent.rglob("hacked"), *done.checkout.parent.rglob("hacked")]
    plan = empty("-n", "-p", config={"results": ODD})
    commands = [shlex.split(line) for line in plan.splitlines() if " 2> " in line and ODD[:3] in line]
    assert len(commands) == int(re.findall(r"^total +(\d+)$", plan, re.MULTILINE)[-1]) - 1  # `all` runs none
    for words in commands:
        taken_apart = [word for word in words if ODD not in word and re.search("hacked|bjørn|Größen", word)]
        assert sum(ODD in word for word in words) >= 2 and not taken_apart
    empty(f"{ODD}/refshapes/seed0/ratio10/split.parquet", config={"results": ODD})
    assert (empty.folder / ODD / "refshapes/seed0/ratio10/split.parquet").exists()
    assert not [*empty.folder.parent.rglob("hacked")]


def test_a_manifest_has_the_digest_of_every_model_score_and_table(done):
    listed = {}
    for path in done.folder.glob("results/manifests/*.sha256"):
        listed |= {line[66:]: line[:64] for line in path.read_text().splitlines()}
    kinds = ("**/seed*/**/model.safetensors", "**/metrics.json", "**/predictions.parquet", "tables/*", "figures/*")
    made = {str(path.relative_to(done.folder)) for kind in kinds for path in (done.folder / "results").glob(kind)}
    assert listed.keys() == made and len(made) > 40
    for path, digest in listed.items():
        assert hashlib.sha256((done.folder / path).read_bytes()).hexdigest() == digest


def test_after_a_kill_the_folder_is_unlocked_as_the_docs_say_and_the_run_goes_on(empty):
    target = "results/refshapes/seed0/ratio10/split.parquet"
    killed = subprocess.Popen(
        empty.command(target, "--cores", 1), env=empty.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while killed.poll() is None and not (empty.folder / "results/logs/refshapes").exists():
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    with pytest.raises(subprocess.CalledProcessError) as locked:
        empty(target)
    assert "--unlock" in locked.value.output
    empty("--unlock")
    empty(target)
    assert (empty.folder / target).exists()


def test_logs_and_benchmarks_mirror_the_results_and_no_state_is_left(done):
    for step in ("train_res", "retrain_res"):
        assert (done.folder / f"results/logs/{step}/refshapes/seed0/ratio10/ours.log").read_text()
        assert (done.folder / f"results/benchmarks/{step}/refshapes/seed0/ratio10/ours.tsv").read_text()
    left = done.folder / "results/.resume"
    assert not left.exists() or not list(left.iterdir())


def test_training_and_evaluating_again_gives_the_same_bytes(copy):
    names = ["res/model.safetensors", *(f"res/val/{name}" for name in SCORED)]
    paths = ["results/refshapes/seed0/rec/points/model.safetensors", *(f"{RUN}/{name}" for name in names)]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in map(copy.folder.joinpath, paths)}
    copy(f"{RUN}/res/val/metrics.json", "--forcerun", "train_rec", "train_res", "evaluate_res")
    for path, (content, written) in before.items():
        assert path.stat().st_mtime_ns > written and path.read_bytes() == content, path


def test_a_mask_head_is_trained_from_a_step_1_of_its_own(copy):
    scores = "results/refshapes/seed0/ratio10/peer/res/val/metrics.json"
    output = copy(scores, config={"experiments": {"peer": MASK_HEAD}})
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE))
    assert jobs == {"train_rec": "1", "train_res": "1", "evaluate_res": "1", "total": "3"}
    assert read_header(copy.folder / "results/refshapes/seed0/rec/mask/model.safetensors")["points"] == 2
    assert set(copy.read(scores)) > {"mIoU", "box_accuracy"}


def test_two_gpus_are_two_processes_of_one_training(copy):
    model = "results/refshapes/seed0/rec/points/model.safetensors"
    copy(model, "--forcerun", "train_rec", config={"resources": {"rec": {"gpu": 2}}})
    log = (copy.folder / "results/logs/train_rec/refshapes/seed0/points.log").read_text()
    assert log.count("train-rec: 2 done") == 2 and (copy.folder / model).exists()


def test_jobs_that_share_a_prediction_make_the_file_of_one_and_leave_no_parts(copy):
    points = copy.folder / RUN / "pseudo/points.parquet"
    alone = points.read_bytes()
    output = copy(points.relative_to(copy.folder), config={"resources": {"predict": {"parts": 3}}})
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE))
    assert jobs == {"predict_pseudo_points": "3", "gather_pseudo_points": "1", "total": "4"}
    assert points.read_bytes() == alone and [*points.parent.glob("points*")] == [points]


def test_lint_finds_nothing_but_input_functions_beside_their_rules(empty):
    """The linter wants functions in a file apart; here they stand above the rule that uses them."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        empty("--lint")
    listed = re.findall(r"^    \* (.+?):?$", caught.value.output, re.MULTILINE)
    assert set(listed) == {"Mixed rules and functions in same snakefile."}


MASK_HEAD = {"ratios": "partial", "steps": [2], "settings": {"model": {"head": "mask", "cctf": False, "pmca": False}}}
REAL = {"raw": "$NO_SUCH_FOLDER", "images": "x", "split_by": "unc", "splits": ["val"]}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"experiments": {"ours": {"settings": {"model": {"ccft": True}}}}},
            ["refshapes, ours, 10 %: model.ccft: unknown key", "cctf"],
        ),
        ({"downloads": {"table": "$NO_SUCH_FOLDER/table.tsv"}}, ["downloads.table", "NO_SUCH_FOLDER"]),
        ({"datasets": {"refshapes": None, "real": REAL}}, ["datasets.real.raw", "NO_SUCH_FOLDER"]),
    ],
    ids=["of the plan", "of a rule file", "of an input function"],
)
def test_a_mistake_in_the_config_is_named_before_any_job_runs(empty, config, words):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        empty(config=config)
    assert not (empty.folder / "results").exists()
    output: str = caught.value.output
    assert [word for word in words if word not in output] == [] and len(output.splitlines()) < 25, output


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"settings": {"visual": "random"}}, ["refshapes: visual: unknown key", "init_backbone"]),
        ({"settings": {"init_backbone": "yolov3.weights"}}, ["init_backbone: yolov3.weights", "model.frozen: all"]),
        ({"datasets": {"refshapes": {"splits": "val"}}}, ["datasets.refshapes.splits: 'val'"]),
        ({"experiments": {"new": {"from": "theirs"}}}, ["experiments.new.from: no experiment 'theirs'"]),
        ({"experiments": {"baseline": None}}, ["report.oracle: no experiment 'baseline'"]),
        ({"frobnicate": {"a": 1}}, ["frobnicate: unknown key"]),
        ({"datasets": None}, ["datasets: None"]),
        ({"datasets": {7: {"splits": ["val"]}}}, ["datasets.7.[key]: 7"]),
    ],
)
def test_a_mistake_that_the_plan_finds_is_named_in_a_few_lines(config, words):
    with pytest.raises(ConfigError) as caught:
        planned(TINY, config)
    output = str(caught.value)
    assert [word for word in words if word not in output] == [] and len(output.splitlines()) < 20, output


shared = pytest.mark.skipif("PARTIALRES_SHARED" not in os.environ, reason="PARTIALRES_SHARED names no folder")


@shared
@pytest.mark.parametrize("name", ["refcoco-sample"])
def test_the_workflow_runs_on_real_files(empty, name):
    config = ROOT / f"config/{name}.yaml"
    if not config.exists():
        pytest.skip(f"there is no config/{name}.yaml")
    # Small images, a small model around DarkNet-53 and one split: the golden recordings check the paper's sizes.
    model = {"fusion": 64, "language": 32, "width": 64, "feedforward": 64, "encoder_layers": 1, "decoder_layers": 1}
    smaller = {"settings": {"image_size": 96, "model": model}, "datasets": {name: {"splits": ["val"]}}}
    smaller["threads"] = yaml.safe_load(TINY.read_text())["threads"]  # a core is shared with other tests
    empty(base=config, config=smaller)
    results = empty.folder / yaml.safe_load(config.read_text()).get("results", "results")
    for files in ("tables/*.csv", "tables/*.md", "tables/*.html", "figures/*.png", "figures/*.pdf"):
        assert list(results.glob(files)), f"no {files}"
    (refs,) = results.glob("*/refs.parquet")
    table = read_table(refs)
    assert any(parts is not None and len(parts) > 1 for parts in table["parts"])  # masks with several parts
    for path in results.rglob("ratio*/**/metrics.json"):
        scores = json.loads(path.read_text())
        split = table[table["split"] == path.parent.name]
        assert (scores["expressions"], scores["refs"]) == (split["expressions"].map(len).sum(), len(split)) != (0, 0)
    assert "Nothing to be done" in empty(base=config, config=smaller)
