"""config/released.yaml from checkpoints in downloads to Table 1, with the formula's weights on one generated ref."""

from __future__ import annotations

import pickle
import shutil

import pandas as pd
import pytest
import torch
import yaml

from partialres.checkpoints.released import to_released
from partialres.config import ModelConfig
from partialres.model.pointer import PointModel
from tests.tiny import RELEASED
from tests.workflow.running import ROOT
from tests.workflow.test_imported_step_1 import jobs
from tests.workflow.test_real_data import PAPER, snakemake
from tools import golden

__all__ = ["snakemake"]
CHECKPOINTS = {  # file -> its model and number of points; a third, SeqTR's segmentation, would take another 15 seconds
    "rec": (ModelConfig(cctf=False, pmca=False, upstream=RELEASED.step_1()), 2),
    "ours": (ModelConfig(upstream=RELEASED), 18),
}


@pytest.fixture
def run(data, tmp_path):
    """A folder with raw files of one ref in train and one in val, and checkpoints of 420 MB each, which are removed."""
    folder = tmp_path / "run/data"
    shutil.copytree(data.raw, folder / "annotations/refcoco", ignore=shutil.ignore_patterns("images"))
    shutil.copytree(data.pictures, folder / "images/train2014")
    refs = pickle.loads((data.raw / "refs(unc).p").read_bytes())
    kept = [next(ref for ref in refs if ref["split"] == split) for split in ("train", "val")]
    (folder / "annotations/refcoco/refs(unc).p").write_bytes(pickle.dumps(kept, protocol=2))
    checkpoints = folder / "downloads/released/refcoco"
    checkpoints.mkdir(parents=True)
    words = ["PAD", "UNK", "CLS", *data.vocabulary.words[2:]]
    tokens = {word: index for index, word in enumerate(words)}
    (checkpoints / "token_to_ix.pkl").write_bytes(pickle.dumps(tokens))
    for name, (config, points) in CHECKPOINTS.items():
        with torch.device("meta"):
            shapes = to_released(PointModel(config, len(words), points))
        state = {key: golden.weight(key, tuple(value.shape)) for key, value in shapes.items()}
        torch.save({"state_dict": state}, checkpoints / f"{name}.pth")
    golden.weight.cache_clear()
    yield folder.parent
    shutil.rmtree(folder)


def test_checkpoints_are_imported_and_scored_beside_the_published_rows_without_training(run, snakemake):
    config = yaml.safe_load((ROOT / "config/released.yaml").read_text())
    entry = config["datasets"]["refcoco"] | {"splits": ["val"], "experiments": ["ours"]}
    del entry["models"]["baseline"]  # as the file says: remove what you lack
    config["datasets"] = {"refcoco": entry, "refcoco+": None, "refcocog": None}
    plan = jobs(snakemake("results/released/tables/table1.csv", base=PAPER, config=config))
    assert plan["import_released"] == 2 and plan["evaluate_res"] == 1
    assert not [name for name in plan if "train" in name or "pseudo" in name]
    scored = pd.read_csv(run / "results/released/tables/table1.csv").set_index("metric")
    assert set(scored["experiment"]) == {"ours"} and scored["mean"].between(0, 100).all()
    assert {"mIoU", "oIoU", "mIoU_upstream"} == set(scored.index) and scored.loc["mIoU", "published"] == 57.41
