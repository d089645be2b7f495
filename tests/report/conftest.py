"""Made-up results, laid out as a workflow leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import pytest

EXPRESSIONS = {"val": 200, "test": 300, "testA": 120, "testB": 110}
Write = Callable[..., Path]


@pytest.fixture
def scored(tmp_path: Path) -> Write:
    """Write the metrics.json of one evaluation; keyword arguments replace its figures. Returns its path.

    For steps 2 and 3, predictions.parquet is written beside it: every expression's IoU, scattered by 0.02 around mIoU.
    """

    def write(run: str, split: str = "val", **figures: Any) -> Path:
        path = tmp_path / "results" / run / split / "metrics.json"
        metrics: dict[str, Any] = {"expressions": EXPRESSIONS[split], "refs": EXPRESSIONS[split] // 2}
        if "/rec/" in run:
            metrics |= {"box_accuracy": 80.0, "mean_box_iou": 70.0}
        else:
            metrics |= {"mIoU": 50.0, "oIoU": 45.0, "box_accuracy": 60.0, "mIoU_upstream": 52.0}
            metrics |= {f"Pr@0.{tenths}": 100.0 - 10 * tenths for tenths in range(5, 10)}
            write_predictions(path.with_name("predictions.parquet"), run, (figures.get("mIoU") or 50) / 100)
        return put(path, metrics | figures)

    return write


def write_predictions(path: Path, run: str, mean: float) -> None:
    """Two expressions a ref, of equal IoU; refs are scattered by 0.02 or so about the mean, which is exact."""
    refs = EXPRESSIONS[path.parent.name] // 2
    scatter = np.random.default_rng(crc32(run.encode())).normal(0, 0.02, refs).clip(-0.05, 0.05)
    values = np.repeat(mean + scatter - scatter.mean(), 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"ref_id": np.repeat(np.arange(refs), 2), "iou": values})
    table.assign(expression=[f"thing {row}" for row in range(2 * refs)]).to_parquet(path)


@pytest.fixture
def runs(scored: Write) -> list[Path]:
    """refshapes on two splits over seeds 0 and 1: baseline and ours at 1, 10 and 100 %. Seed 1 is 2 points
    above seed 0; the test split is 5 below val; oIoU is 7 below mIoU.
    """
    levels = {
        ("baseline", "res"): {1: 30.0, 10: 50.0, 100: 76.0},
        ("ours", "res"): {1: 33.0, 10: 53.0, 100: 79.0},
        ("ours", "retrain"): {1: 40.0, 10: 60.0},
    }
    return [
        scored(f"refshapes/seed{seed}/ratio{ratio}/{experiment}/{step}", split, mIoU=figure, oIoU=figure - 7)
        for (experiment, step), by_ratio in levels.items()
        for ratio, level in by_ratio.items()
        for seed in (0, 1)
        for split, shift in (("val", 0.0), ("test", -5.0))
        for figure in [level + 2 * seed + shift]
    ]


@pytest.fixture
def selected(tmp_path: Path) -> Write:
    """Write one selection.json and return its path."""

    def write(run: str, **figures: Any) -> Path:
        summary = {
            "candidates": 1000,
            "kept": 250,
            "kept_share": 25.0,
            "true_iou_kept": 60.0,
            "true_iou_all": 40.0,
        }
        return put(tmp_path / "results" / run / "pseudo/selection.json", summary | {"mean_d": 0.3} | figures)

    return write


def put(path: Path, content: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path
