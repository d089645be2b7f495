"""The examples of docs/extending.md, run from the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from partialres.data.refer import check_splits, read_refs
from partialres.model.visual import VisualNeck
from partialres.report import render

PAGE = (Path(__file__).parents[1] / "docs/extending.md").read_text()


def example(title: str) -> dict[str, Any]:
    """Run the block under a heading and return its names."""
    block = re.search(rf"## {title}\n.*?```python\n(.*?)```", PAGE, re.DOTALL)
    assert block and block[1].count("\n") < 60
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(block[1], title, "exec"), names)
    return names


def test_the_backbones_maps_fit_the_neck():
    backbone = example("A backbone")["Plain"]()
    maps = backbone(torch.rand(2, 3, 64, 96))
    assert [each.shape[1:] for each in maps] == [(64, 8, 12), (128, 4, 6), (256, 2, 3)]
    assert VisualNeck(backbone.channels, 32)(maps).shape == (2, 32, 64 // backbone.stride, 96 // backbone.stride)
    backbone.freeze("all")
    assert not any(each.requires_grad for each in backbone.parameters())


def test_the_rule_for_pseudo_labels_drops_contours_that_the_model_was_unsure_of():
    square = [[2.0, 2.0], [8.0, 2.0], [8.0, 8.0], [2.0, 8.0]]
    points = pd.DataFrame({
        "ref_id": [1, 2, 3], "points": [square] * 3, "d": [0.0, 0.0, 0.5],
        "probabilities": [[0.9] * 8, [0.1] * 8, [0.9] * 8],
    })  # fmt: skip
    sizes = pd.DataFrame({"height": 10, "width": 10}, index=[1, 2, 3])  # by ref_id
    kept = example("A rule for pseudo labels")["select_probable"](points, sizes, threshold=0.1, number=4, least=0.5)
    assert kept["ref_id"].tolist() == [1] and np.shape(kept["points"][0]) == (4, 2)


def test_the_reader_writes_what_prepare_reads(tmp_path):
    convert = example("A reader")["convert"]
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    table = tmp_path / "objects.csv"
    table.write_text("image,x,y,width,height,split,phrases\na.png,1,2,10,12,train,left cup|the cup\n")
    convert(table, tmp_path, tmp_path / "own")
    refs, problems = read_refs(tmp_path / "own", tmp_path, None, on_problem="refuse")
    check_splits(refs, [], tmp_path)
    assert not problems and list(refs["bbox"][0]) == [1, 2, 10, 12]
    assert refs["expressions"][0] == ["left cup", "the cup"]
    table.write_text(table.read_text().replace("a.png", "b.png"))
    with pytest.raises(SystemExit, match=r"b\.png: no picture; correct row 2"):
        convert(table, tmp_path, tmp_path / "own")


def test_the_table_has_a_row_for_each_model(tmp_path):
    files = []
    for name, share in (("baseline", 40.0), ("ours", 60.0)):
        path = tmp_path / f"refshapes/seed0/ratio1/{name}/res/val/metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"expressions": 9, "refs": 3, "mIoU": 50.0, "Pr@0.5": share, "Pr@0.9": 1.0}))
        files.append(path)
    made = example("A table")["precision"](files)
    render.write(made, tmp_path / "precision.csv")
    lines = (tmp_path / "precision.md").read_text().splitlines()
    assert [line.split("|")[2].strip() for line in lines if line.startswith("| 1 %")] == ["Baseline", "Ours, step 2"]
    assert made.data.query("metric == 'Pr@0.5'")["mean"].tolist() == [40.0, 60.0]
