"""The real data sets: the plan of paper.yaml, files downloaded or put in place by hand, and a user's own data, checked
by dry runs or with a small server on this machine."""

from __future__ import annotations

import functools
import hashlib
import json
import shlex
import shutil
import zipfile
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import yaml

from partialres.data.download import COLUMNS
from tests.server import serving
from tests.workflow.running import ROOT, TINY, Workflow
from tests.workflow.test_imported_step_1 import commands, jobs

PAPER = ROOT / "config/paper.yaml"
RAW = {
    "raw": "data/annotations/refcoco", "images": "data/images/train2014", "split_by": "unc", "splits": ["val"],
    "settings": {"init_backbone": "data/weights/small.weights", "model": {"frozen": "none"},
                 "text": {"vectors": "data/vectors/glove.6B.300d.txt"}},
}  # fmt: skip


@pytest.fixture
def snakemake(checkout: Path, tmp_path: Path) -> Callable[..., str]:
    """(options, base config, config that overrides it) -> Snakemake's output."""

    def run(*options: str | Path, base: Path, config: Path | dict | None = None) -> str:
        (tmp_path / "run").mkdir(exist_ok=True)
        override = yaml.safe_load(config.read_text()) if isinstance(config, Path) else config
        environment = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        return Workflow(checkout, tmp_path / "run")(*options, base=base, config=override, env=environment, cores=1)

    return run


def test_the_papers_plan_has_every_run_of_its_tables_and_its_curve(snakemake):
    text = snakemake("-n", "-p", base=PAPER)
    plan = jobs(text)
    assert plan["download"] == 6 and plan["unpack"] == 4 and plan["prepare"] == 3 and plan["train_rec"] == 4
    # below 100 %: 3 ratios of two data sets, 7 of RefCOCOg, for the baseline and ours; 3 for ours_plus and mask_head
    res = 2 * (3 + 3 + 7) + 3 * 3 + 3 + 1  # the last is cctf, which runs at 1 and 100 % of RefCOCOg, as Table 2 has it
    assert plan["train_res"] == res and plan["train_res_full"] == 2 * 3 + 1 + 1
    assert plan["retrain_res"] == 3 + 3 + 7 + 3 * 3 + 3  # the last three: without RPP, without selection, D < 0.05
    assert plan["table_comparison"] == 4 and plan["figure_heads"] == plan["table_claims"] == 1
    assert plan["evaluate_res"] + plan["evaluate_res_2"] == 63 and plan["total"] == 277
    rates, points = {}, {}
    for line in commands(text, "train-res"):
        words = shlex.split(line)
        _, _, dataset, _, ratio, _, step = words[words.index("--out") + 1].split("/")
        rates.setdefault((step, ratio), set()).add(json.loads(words[words.index("--training") + 1])["learning_rate"])
        points.setdefault(dataset, set()).add(words[words.index("--points") + 1])
    assert points == {"refcoco": {"18"}, "refcoco+": {"18"}, "refcocog": {"12"}}
    expected = {"1": 1e-4, "5": 3e-4} | dict.fromkeys(("10", "20", "30", "50", "80", "100"), 5e-4)
    assert rates == {("res", f"ratio{ratio}"): {rate} for ratio, rate in expected.items()} | {
        ("retrain", f"ratio{ratio}"): {5e-4} for ratio in expected if ratio != "100"
    }


def test_a_data_sets_own_ratios_are_planned_and_those_of_all_others_are_not(snakemake):
    entry = {"generate": {"flavour": "refcocog", "images": 40, "seed": 0, "side": 96}, "split_by": "umd",
             "splits": ["val"], "ratios": [5, 10, 50, 100]}  # fmt: skip
    text = snakemake("-n", "-p", base=TINY, config={"datasets": {"more": entry}})
    folders = {line.split("--out ")[1].split()[0] for line in commands(text, "split")}
    assert folders == {
        f"results/{name}/seed0/ratio{ratio}/split.parquet"
        for name, ratios in (("refshapes", (10, 100)), ("more", (5, 10, 50, 100)))
        for ratio in ratios
    }
    (gallery,) = [line for line in commands(text, "figures") if "qualitative_more" in line]
    assert "--label 'ours, step 3, 10 %' --label 'oracle, 100 %'" in gallery and ", 5 %" not in gallery


def test_own_data_enters_by_expressions_json(snakemake, tmp_path):
    (tmp_path / "run/mine/images").mkdir(parents=True)
    for name in ("instances.json", "expressions.json"):
        (tmp_path / "run/mine" / name).touch()
    entry = {"raw": "mine", "images": "mine/images", "split_by": None, "splits": ["val"],
             "settings": {"init_backbone": "random", "model": {"frozen": "none"}}}  # fmt: skip
    text = snakemake("-n", "-p", base=TINY, config={"datasets": {"refshapes": None, "mine": entry}})
    (prepare,) = commands(text, "prepare")
    assert (
        "prepare mine --image-folder mine/images  --max-words " in prepare
        and "--split-by" not in prepare
        and "download" not in jobs(text)
    )


@pytest.fixture
def public(tmp_path: Path) -> Iterator[dict]:
    """A config's `downloads`, whose table names small files on a server on this machine."""
    site = tmp_path / "site"
    site.mkdir()
    with zipfile.ZipFile(site / "refcoco.zip", "w") as content:
        content.writestr("refcoco/instances.json", "{}")
        content.writestr("refcoco/refs(unc).p", "refs")
    with zipfile.ZipFile(site / "train2014.zip", "w") as content:
        content.writestr("train2014/one.jpg", "pixels")
    with zipfile.ZipFile(site / "glove.6B.zip", "w") as content:
        content.writestr("glove.6B.50d.txt", "the 1")
        content.writestr("glove.6B.300d.txt", "the 1 2")
    (site / "small.weights").write_bytes(b"weights")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments) -> None:
            pass

    with serving(functools.partial(Quiet, directory=str(site))) as address:
        rows = [
            (path.name, f"{address}/{path.name}", str(path.stat().st_size),
             hashlib.sha256(path.read_bytes()).hexdigest(), "made up")
            for path in sorted(site.iterdir())
        ]  # fmt: skip
        table = tmp_path / "table.tsv"
        table.write_text("".join("\t".join(row) + "\n" for row in [COLUMNS, *rows]))
        yield {"folder": "data", "table": str(table), "images": "all"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_what_the_config_names_below_the_downloads_folder_is_fetched_checked_and_unpacked_once(
    snakemake, public, tmp_path
):
    configs = {"base": TINY, "config": {"downloads": public, "datasets": {"refshapes": None, "refcoco": RAW}}}
    wanted = ["data/annotations/refcoco.txt", "data/images/train2014.txt", "data/vectors/glove.6B.300d.txt",
              "data/weights/small.weights"]  # fmt: skip
    snakemake(*wanted, **configs)
    data = tmp_path / "run/data"
    assert (data / "annotations/refcoco/refs(unc).p").read_text() == "refs"
    assert (data / "images/train2014/one.jpg").read_text() == "pixels"
    assert (data / "vectors/glove.6B.300d.txt").read_text() == "the 1 2"
    assert (data / "weights/small.weights").read_bytes() == b"weights"
    assert len(list((data / "downloads").glob("*.sha256"))) == 4
    again = snakemake("-n", "--forceall", *wanted, **configs)  # Snakemake does not remove a downloaded file
    assert jobs(again)["download"] == 4 and (data / "downloads/refcoco.zip").exists()
    plan = jobs(snakemake("-n", **configs))
    assert plan["prepare"] == 1 and not {"download", "unpack"} & plan.keys()


def test_what_was_put_there_by_hand_is_not_fetched(snakemake, public, tmp_path):
    data = tmp_path / "run/data"
    for path in ("annotations/refcoco/instances.json", "annotations/refcoco/refs(unc).p", "images/train2014/one.jpg",
                 "vectors/glove.6B.300d.txt", "weights/small.weights"):  # fmt: skip
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).touch()
    configs = {"base": TINY, "config": {"downloads": public, "datasets": {"refshapes": None, "refcoco": RAW}}}
    text = snakemake("-n", "-p", **configs)
    assert not {"download", "unpack", "unpack_vectors", "place_weights"} & jobs(text).keys()
    (training,) = commands(text, "train-rec")
    assert "--init-backbone data/weights/small.weights --vectors data/vectors/glove.6B.300d.txt" in training
