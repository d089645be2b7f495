"""config/released.yaml and modern.yaml over paper.yaml, and images one by one: what is planned. Dry runs only."""

from __future__ import annotations

import shlex

from tests.backbones import needs_timm
from tests.workflow.running import ROOT, TINY
from tests.workflow.test_imported_step_1 import commands, jobs
from tests.workflow.test_real_data import PAPER, RAW, snakemake

__all__ = ["snakemake"]


def test_released_checkpoints_are_imported_and_scored_on_every_split_and_nothing_trains(snakemake, tmp_path):
    for name in ("refcoco", "refcoco+", "refcocog"):
        folder = tmp_path / f"run/data/downloads/released/{name}"
        folder.mkdir(parents=True)
        for file in ("rec.pth", "seqtr.pth", "ours.pth", "token_to_ix.pkl", "word_emb.npz"):
            (folder / file).touch()
    text = snakemake("-n", "-p", base=PAPER, config=ROOT / "config/released.yaml")
    plan = jobs(text)
    assert not {"train_rec", "train_res", "train_res_full", "retrain_res", "predict_pseudo_points"} & plan.keys()
    assert plan["import_released"] == 9 and (plan["evaluate_rec"], plan["evaluate_rec_2"]) == (2, 1)
    assert (plan["evaluate_res"], plan["evaluate_res_2"]) == (4, 2)
    assert plan["table1"] == plan["table_rec"] == 1 and "table_pseudo" not in plan and "figure_training" not in plan
    scored = [shlex.split(line) for line in commands(text, "evaluate")]
    of = {words[words.index("--out") + 1]: words[words.index("--model") + 1] for words in scored if "testA" in words}
    start = "results/released/refcoco/seed0"
    assert of[f"{start}/ratio100/baseline/res"] == "data/released/refcoco/seqtr/model.safetensors"
    assert of[f"{start}/ratio1/ours/retrain"] == "data/released/refcoco/ours/model.safetensors"
    (words,) = [line for line in commands(text, "import-weights") if "refcocog/ours.pth" in line]
    assert "--max-words 20" in words


@needs_timm
def test_the_modern_plan_fetches_its_backbone_and_needs_no_login(snakemake):
    text = snakemake("-n", "-p", base=PAPER, config=ROOT / "config/modern.yaml")
    plan = jobs(text)
    assert plan["download_backbone"] == 1 and "place_weights" not in plan and plan["train_rec"] == 4
    (fetch,) = commands(text, "download-backbone")
    out = "data/weights/timm/convnext_small.in12k_ft_in1k.safetensors"
    assert "timm/convnext_small.in12k_ft_in1k" in fetch and f"--out {out}" in fetch
    assert all(f"--init-backbone {out} " in line for line in commands(text, "train-rec"))


def test_by_default_the_images_are_fetched_that_refs_name(snakemake, tmp_path):
    for name in ("instances.json", "refs(unc).p"):
        path = tmp_path / "run/data/annotations/refcoco" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    entry = RAW | {"settings": {"init_backbone": "random", "model": {"frozen": "none"}}}
    text = snakemake("-n", "-p", base=TINY, config={"datasets": {"refshapes": None, "refcoco": entry}})
    (fetch,) = commands(text, "download-images")
    assert "--split-by unc" in fetch and "--row train2014 --image-folder data/images/train2014 " in fetch
    assert "--list data/images/train2014-refcoco.txt" in fetch and "train2014.zip" not in text
