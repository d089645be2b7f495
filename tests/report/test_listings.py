from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from partialres.files import DataError
from partialres.report import listings, render
from partialres.report.evaluations import collect, collect_selections

Write = Callable[..., Path]


def cell(table: render.Table, heading: str, group: str, label: str, column: str) -> str:
    """The text that a reader sees in a grid."""
    grid = next(grid for grid in table.grids if grid.heading == heading)
    return grid.rows[group, label][grid.columns.index(("", column))]


def test_details_hold_every_metric(runs: list[Path]) -> None:
    table = listings.details(collect(runs), "baseline")
    names = [name for _, name in table.grids[0].columns]
    assert names[:2] == ["mIoU", "oIoU"]
    assert {"Pr@0.5", "Pr@0.9", "box_accuracy", "mIoU_upstream"} <= set(names)
    assert cell(table, "RefShapes val", "1 %", "Ours, step 3", "mIoU") == "41.00 ± 1.41"
    assert cell(table, "RefShapes test", "1 %", "Ours, step 2", "Pr@0.7") == "30.00 ± 0.00"
    assert cell(table, "RefShapes val", "100 %", "Oracle", "mIoU") == "77.00 ± 1.41"
    other = listings.details(collect(runs), "ours").grids[0].rows
    assert {label for group, label in other if group == "100 %"} == {"Baseline", "Oracle"}


def test_step_1_is_shown_by_its_boxes(scored: Write) -> None:
    paths = [scored(f"refcoco/seed{seed}/rec/points", box_accuracy=80.0 + seed) for seed in (0, 1)]
    table = listings.rec(collect([*paths, scored("refshapes/seed0/rec/points")]))
    assert cell(table, "Step 1", "RefCOCO", "val", "box accuracy") == "80.50 ± 0.71"
    assert cell(table, "Step 1", "RefCOCO", "val", "SeqTR") == "81.23"
    assert cell(table, "Step 1", "RefCOCO", "val", "expressions") == "200"
    assert cell(table, "Step 1", "RefShapes", "val", "SeqTR") == render.ABSENT
    with pytest.raises(DataError, match="nothing to show"):
        listings.rec(collect([scored("refshapes/seed0/ratio1/ours/res")]))


def test_the_mask_heads_boxes_have_a_row_of_their_own_without_a_published_figure(scored: Write) -> None:
    table = listings.rec(
        collect([scored("refcoco/seed0/rec/points"), scored("refcoco/seed0/rec/mask", box_accuracy=77.0)])
    )
    assert cell(table, "Step 1", "RefCOCO", "val", "box accuracy") == "80.00"
    assert cell(table, "Step 1", "RefCOCO", "val, mask head", "box accuracy") == "77.00"
    assert cell(table, "Step 1", "RefCOCO", "val, mask head", "SeqTR") == render.ABSENT
    assert table.data.loc[table.data["experiment"] == "mask head", "published"].isna().all()


def test_pseudo_masks_are_shown_by_share_and_true_iou(selected: Write) -> None:
    paths = [selected(f"refshapes/seed{seed}/ratio1/ours", kept_share=25.0 + seed) for seed in (0, 1)]
    none = selected("refshapes/seed0/ratio5/ours", kept=0, kept_share=0.0, true_iou_kept=0.0)
    table = listings.pseudo(collect_selections([*paths, none]))
    assert cell(table, "RefShapes", "1 %", "ours", "kept, %") == "25.5 ± 0.7"
    assert cell(table, "RefShapes", "1 %", "ours", "pseudo masks") == "1,000"
    assert cell(table, "RefShapes", "1 %", "ours", "true IoU of the kept") == "60.00 ± 0.00"
    assert cell(table, "RefShapes", "5 %", "ours", "true IoU of the kept") == render.ABSENT


@pytest.fixture
def refs(tmp_path: Path) -> Path:
    (tmp_path / "refshapes").mkdir()
    path = tmp_path / "refshapes/refs.parquet"
    pd.DataFrame({
        "image_id": [1, 1, 2, 3],
        "split": ["train", "train", "train", "val"],
        "expressions": [["a red one", "left"], ["b"], ["c d"], ["e"]],
        "parts": [[[0.0, 0.0, 1.0, 1.0]], [[0.0, 0.0], [2.0, 2.0]], [], None],
    }).to_parquet(path)  # fmt: skip
    return path


def split(folder: Path, ratio: str, labelled: list[bool]) -> Path:
    path = folder / f"refshapes/seed0/ratio{ratio}/split.parquet"
    path.parent.mkdir(parents=True)
    pd.DataFrame({"labelled": labelled}).to_parquet(path)
    return path


def test_splits_and_labelled_refs_are_counted(refs: Path, tmp_path: Path) -> None:
    files = [split(tmp_path, "50", [True, True, False]), split(tmp_path, "5", [True, False, False])]
    table = listings.data([refs], files)
    counts, labelled = table.grids
    assert counts.rows == {("", "train"): ("2", "3", "4", "1.8", "1"), ("", "val"): ("1", "1", "1", "1.0", "0")}
    assert [name for _, name in labelled.columns] == ["5 %", "50 %"]
    assert labelled.rows["", "refs"] == ("1", "2")
    assert table.data.query("split == 'train' and figure == 'expressions'")["value"].tolist() == [4]
    assert len(listings.data([refs], []).grids) == 1


def test_a_split_whose_path_names_no_ratio_is_refused(refs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split\.parquet: must end in"):
        listings.data([refs], [tmp_path / "split.parquet"])
