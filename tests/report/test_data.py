from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from partialres.files import DataError
from partialres.report import data


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
    table = data.table([refs], files)
    counts, labelled = table.grids
    assert [(row.label, row.cells) for row in counts.rows] == [
        ("train", ("2", "3", "4", "1.8", "1")), ("val", ("1", "1", "1", "1.0", "0")),
    ]  # fmt: skip
    assert [column.name for column in labelled.columns] == ["5 %", "50 %"]
    assert labelled.rows[0].cells == ("1", "2")
    assert table.data.query("split == 'train' and figure == 'expressions'")["value"].tolist() == [4]


def test_a_split_whose_path_tells_no_ratio_is_refused(refs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split\.parquet: must end in"):
        data.table([refs], [tmp_path / "split.parquet"])
