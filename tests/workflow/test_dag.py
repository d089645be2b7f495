"""The real workflow on a config so small that it ends in a minute: what it makes, what a change makes again."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from partialres.files import read_table

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).parent / "tiny.yaml"
RUN = "results/refshapes/seed0/ratio10/ours"
SCORED = ("predictions.parquet", "metrics.json")
REPORT = {
    "table1", "table_details", "table_pseudo", "figure_training", "figure_pseudo", "figure_ratio_curve",
    "figure_qualitative",
}  # fmt: skip


@dataclass(frozen=True)
class Workflow:
    """The workflow in a checkout, run in a folder."""

    checkout: Path
    folder: Path

    def __call__(self, *options: Any, config: dict[str, Any] | None = None, base: Path = TINY) -> str:
        """Snakemake's output, with a config laid over the base one; CalledProcessError if it fails."""
        files = [self.checkout / "config/config.yaml", base]
        if config:
            override = self.folder.parent / f"{self.folder.name}-override.yaml"
            override.write_text(yaml.safe_dump(config))
            files.append(override)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        answer = subprocess.run(
            [
                sys.executable, "-m", "snakemake", *options, "-s", self.checkout / "workflow/Snakefile",
                "--cores", "2", "--directory", self.folder, "--configfile", *files,
            ],
            env=environment | {"OMP_NUM_THREADS": "1"}, cwd=self.folder.parent,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if answer.returncode:
            raise subprocess.CalledProcessError(answer.returncode, "snakemake", answer.stdout)
        return answer.stdout

    def pending(self, config: dict[str, Any] | None = None) -> dict[str, set[str]]:
        """Files that a run would make, and make again: rule -> paths."""
        table = self("--summary", config=config)
        lines = table[table.index("output_file\t") :]
        found: dict[str, set[str]] = {}
        for row in csv.DictReader(io.StringIO(lines), delimiter="\t"):
            if row["plan"] == "update pending":
                found.setdefault(row["rule"], set()).add(row["output_file"])
        return found

    def read(self, path: str) -> Any:
        """A JSON file."""
        return json.loads((self.folder / path).read_text())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a run needs of the checkout: tests may change it, and editing the checkout breaks no test."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in ("partialres", "workflow", "config", "envs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def done(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The workflow after a whole run; to be looked at only."""
    workflow = Workflow(checkout, tmp_path_factory.mktemp("run"))
    workflow()
    return workflow


@pytest.fixture
def copy(done: Workflow, tmp_path: Path) -> Workflow:
    """A copy of the run that may go on."""
    shutil.copytree(done.folder, tmp_path / "run")
    return Workflow(done.checkout, tmp_path / "run")


@pytest.fixture
def empty(checkout: Path, tmp_path: Path) -> Workflow:
    """The workflow where nothing has run."""
    (tmp_path / "run").mkdir()
    return Workflow(checkout, tmp_path / "run")


def test_a_second_run_does_nothing(done):
    assert "Nothing to be done" in done()


def test_every_table_and_figure_is_there(done):
    names = {path.relative_to(done.folder).as_posix() for path in done.folder.glob("results/[tf]*s/*")}
    written, drawn = (
        ("table1", "details", "rec", "pseudo"),
        ("ratio_curve", "qualitative_refshapes", "training", "pseudo"),
    )
    tables = {f"results/tables/{name}.{kind}" for name in written for kind in ("csv", "md", "html")}
    assert names == tables | {f"results/figures/{name}.{kind}" for name in drawn for kind in ("png", "pdf")}
    assert all((done.folder / name).stat().st_size > 50 for name in names)


def test_scores_have_the_promised_keys_and_count_every_expression(done):
    refs = read_table(done.folder / "results/refshapes/refs.parquet")
    masks = [
        "expressions", "refs", "mIoU", "oIoU", "Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9", "box_accuracy",
        "mIoU_upstream",
    ]  # fmt: skip
    files = sorted(path.relative_to(done.folder).as_posix() for path in done.folder.rglob("metrics.json"))
    assert len(files) == 10  # step 1, three trainings of step 2 and one of step 3, on two splits each
    for path in files:
        scores = done.read(path)
        assert list(scores) == (["expressions", "refs", "box_accuracy", "mean_box_iou"] if "/rec/" in path else masks)
        split = refs[refs["split"] == path.split("/")[-2]]
        assert (scores["expressions"], scores["refs"]) == (split["expressions"].map(len).sum(), len(split))
        assert all(0 <= value <= 100 for name, value in scores.items() if name not in ("expressions", "refs"))


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


def test_logs_and_benchmarks_mirror_the_results_and_no_state_is_left(done):
    for step in ("train-res", "retrain-res"):
        assert (done.folder / f"logs/refshapes/seed0/ratio10/ours/{step}.log").read_text()
        assert (done.folder / f"benchmarks/refshapes/seed0/ratio10/ours/{step}.tsv").read_text()
    left = done.folder / "results/.resume"
    assert not left.exists() or not list(left.iterdir())


def test_another_threshold_makes_the_selection_step_3_its_evaluation_and_the_report_again_and_nothing_else(done):
    pending = done.pending({"settings": {"pseudo": {"threshold": 0.5}}})
    own = {rule: paths for rule, paths in pending.items() if rule not in REPORT}
    assert own == {
        "select_pseudo_points": {f"{RUN}/pseudo/selected.parquet"},
        "score_pseudo_points": {f"{RUN}/pseudo/selection.json"},
        "retrain_res": {f"{RUN}/retrain/{name}" for name in ("model.safetensors", "metrics.csv", "provenance.json")},
        "evaluate_res": {f"{RUN}/retrain/{split}/{name}" for split in ("val", "testA") for name in SCORED},
    }
    assert pending.keys() - own.keys() == REPORT


def test_another_ratio_adds_its_own_jobs_and_makes_the_report_again(done):
    pending = done.pending({"ratios": [5, 10, 100]})
    own = {rule: paths for rule, paths in pending.items() if rule not in REPORT}
    assert set(own) == {
        "split", "train_res", "predict_pseudo_points", "select_pseudo_points", "score_pseudo_points", "retrain_res",
        "evaluate_res",
    }  # fmt: skip
    assert all("/seed0/ratio5/" in path for paths in own.values() for path in paths)
    assert len(own["train_res"]) == 2 * 3 and len(own["evaluate_res"]) == 3 * 2 * 2
    assert pending.keys() - own.keys() == REPORT


def test_a_ratio_less_removes_nothing_and_runs_nothing_but_the_report(done):
    pending = done.pending({"ratios": [10]})
    assert pending.keys() <= REPORT


def test_another_seed_adds_everything_that_depends_on_it_and_no_data(done):
    pending = done.pending({"seeds": [0, 1]})
    own = {rule: paths for rule, paths in pending.items() if rule not in REPORT | {"table_rec"}}
    assert all("/seed1/" in path for paths in own.values() for path in paths)
    assert {"train_rec", "evaluate_rec", "split"} < set(own)


def test_an_experiment_shares_the_files_of_an_equal_one_as_far_as_they_are_equal(done):
    strict = {"ratios": "partial", "settings": {"pseudo": {"threshold": 0.05}}}
    pending = done.pending({"experiments": {"strict": strict}})
    own = {rule: paths for rule, paths in pending.items() if rule not in REPORT}
    assert set(own) == {"select_pseudo_points", "score_pseudo_points", "retrain_res", "evaluate_res"}
    assert all("/ratio10/strict/" in path and "/res/" not in path for paths in own.values() for path in paths)


@pytest.mark.parametrize(
    ("change", "first", "kept"),
    [
        ({"points": 8}, {"train_res"}, {"train_rec", "split", "cache_features"}),
        ({"res": {"epochs": 3}}, {"train_res"}, {"train_rec", "split", "cache_features"}),
        ({"retrain": {"epochs": 3}}, {"retrain_res"}, {"train_res", "select_pseudo_points", "train_rec"}),
        ({"rec": {"epochs": 3}}, {"train_rec"}, {"prepare", "split", "pretrain_backbone", "cache_features"}),
        ({"evaluate": {"batch": 7}}, {"evaluate_rec", "evaluate_res"}, {"train_rec", "train_res", "retrain_res"}),
        ({"pretraining": {"epochs": 2}}, {"pretrain_backbone"}, {"prepare", "cache_images", "split"}),
        ({"text": {"max_words": 9}}, {"prepare"}, {"refshapes"}),
    ],
)
def test_a_setting_makes_what_depends_on_it_again_and_nothing_before_it(done, change, first, kept):
    pending = done.pending({"settings": change})
    assert first <= pending.keys() and not kept & pending.keys()


@pytest.mark.parametrize(
    ("module", "first", "kept"),
    [
        ("report/figures", {"figure_training", "figure_ratio_curve", "figure_pseudo"}, {"table1", "evaluate_res"}),
        ("metrics", {"evaluate_rec", "evaluate_res"}, {"train_rec", "train_res", "predict_pseudo_points"}),
        ("model/pointer", {"train_rec", "train_res", "evaluate_res"}, {"prepare", "cache_images", "split"}),
        ("data/splits", {"split", "train_res"}, {"train_rec", "prepare"}),
    ],
)
def test_changed_code_makes_what_uses_it_again_and_nothing_before_it(done, module, first, kept):
    path = done.checkout / f"partialres/{module}.py"
    code, status = path.read_bytes(), path.stat()
    path.write_bytes(code + b"# changed\n")
    try:
        pending = done.pending()
    finally:
        path.write_bytes(code)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert first <= pending.keys() and not kept & pending.keys()


def test_training_and_evaluating_again_gives_the_same_bytes(copy):
    names = ["res/model.safetensors", *(f"res/val/{name}" for name in SCORED)]
    paths = ["results/refshapes/seed0/rec/model.safetensors", *(f"{RUN}/{name}" for name in names)]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in map(copy.folder.joinpath, paths)}
    copy(f"{RUN}/res/val/metrics.json", "--forcerun", "train_rec", "train_res", "evaluate_res")
    for path, (content, time) in before.items():
        assert path.stat().st_mtime_ns > time and path.read_bytes() == content, path


def test_lint_finds_nothing(empty):
    assert "your workflow is in a good condition" in empty("--lint")


def fails(workflow: Workflow, config: dict[str, Any]) -> str:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        workflow(config=config)
    assert not (workflow.folder / "results").exists()
    output: str = caught.value.output
    return output


REAL = {"raw": "$NO_SUCH_FOLDER", "images": "x", "split_by": "unc", "splits": ["val"]}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"experiments": {"ours": {"settings": {"model": {"ccft": True}}}}},
            ["refshapes, ours, 10 %: model: unknown key 'ccft'", "cctf"],
        ),
        ({"settings": {"res": {"epochs": "many"}}}, ["refshapes, baseline, 10 %: res.epochs: 'many'", "int"]),
        ({"settings": {"pseudo": {"threshold": 5}}}, ["pseudo: threshold"]),
        ({"settings": {"resolution": 3}}, ["resolution"]),
        ({"ratio": [1]}, ["ratio"]),
        ({"ratios": [0]}, ["ratios"]),
        ({"datasets": {"refshapes": {"ratios": [101]}}}, ["ratios"]),
        ({"settings": {"visual": "pretrian"}}, ["visual", "pretrian"]),
        ({"settings": {"visual": "yolov3.weights"}}, ["visual: yolov3.weights", "model.frozen: all"]),
        ({"settings": {"res": {"jitter": [0.3, 1.4]}}}, ["res.jitter", "model.frozen: all"]),
        ({"downloads": {"table": "$NO_SUCH_FOLDER/table.tsv"}}, ["downloads.table", "NO_SUCH_FOLDER"]),
        ({"datasets": {"refshapes": {"splits": "val"}}}, ["splits"]),
        ({"experiments": {"ours": {"settings": {"rec": {"epochs": 3}}}}}, ["ours", "'rec' is changed"]),
        ({"datasets": {"refshapes": None, "real": REAL}}, ["datasets.real.raw", "NO_SUCH_FOLDER"]),
    ],
)
def test_a_mistake_in_the_config_is_named_before_any_job_runs(empty, config, words):
    output = fails(empty, config)
    assert [word for word in words if word not in output] == [], output


shared = pytest.mark.skipif("PARTIALRES_SHARED" not in os.environ, reason="PARTIALRES_SHARED names no folder")


@shared
@pytest.mark.parametrize("name", ["refcoco-sample"])
def test_the_workflow_runs_on_real_files(empty, name):
    config = ROOT / f"config/{name}.yaml"
    if not config.exists():
        pytest.skip(f"there is no config/{name}.yaml")
    empty(base=config)
    results = empty.folder / yaml.safe_load(config.read_text()).get("results", "results")
    for files in ("tables/*.csv", "tables/*.md", "tables/*.html", "figures/*.png", "figures/*.pdf"):
        assert list(results.glob(files)), f"no {files}"
    (refs,) = results.glob("*/refs.parquet")
    table = read_table(refs)
    assert any(parts is not None and len(parts) > 1 for parts in table["parts"])  # masks of several parts
    for path in results.rglob("ratio*/**/metrics.json"):
        scores = json.loads(path.read_text())
        split = table[table["split"] == path.parent.name]
        assert (scores["expressions"], scores["refs"]) == (split["expressions"].map(len).sum(), len(split)) != (0, 0)
    assert "Nothing to be done" in empty(base=config)
