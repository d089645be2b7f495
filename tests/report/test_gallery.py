from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from partialres.files import DataError
from partialres.geometry import contour
from partialres.report import gallery, style

HEIGHT, WIDTH = 30, 40
REFS = 10
NOWHERE = Path("unused")
Inputs = tuple[Path, Path, list[tuple[str, Path]]]


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """Ten refs of two expressions, each a 20 x 20 square; 'weak' finds its left quarter, 'good' a share that
    grows with the ref (5 % a ref, from 50 %).
    """
    square = np.zeros((HEIGHT, WIDTH), dtype=bool)
    square[5:25, 10:30] = True
    refs: list[dict[str, Any]] = []
    weak: list[dict[str, Any]] = []
    good: list[dict[str, Any]] = []
    (tmp_path / "images").mkdir()
    for ref_id in range(REFS):
        name = f"{ref_id}.png"
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 20 * ref_id, dtype=np.uint8)).save(tmp_path / "images" / name)
        row = {"ref_id": ref_id, "file_name": name, "height": HEIGHT, "width": WIDTH}
        refs.append(row | {"bbox": [10.0, 5.0, 20.0, 20.0], "mask": contour.encode(square)})
        for expression in (f"square {ref_id}", f"it costs $5_{ref_id} & $6"):
            for table, found in ((weak, 5), (good, 10 + ref_id)):
                points = [[10.0, 5.0], [10.0 + found, 5.0], [10.0 + found, 25.0], [10.0, 25.0]]
                row = {"ref_id": ref_id, "expression": expression, "points": points}
                mask = contour.encode(contour.fill(np.array(points), HEIGHT, WIDTH))
                table.append(row | {"mask": mask, "intersection": 20 * found, "union": 400})
    for name, rows in (("refs", refs), ("weak", weak), ("good", good)):
        pd.DataFrame(rows).to_parquet(tmp_path / f"{name}.parquet")
    models = [(label, tmp_path / f"{label}.parquet") for label in ("good", "weak")]
    return tmp_path / "refs.parquet", tmp_path / "images", models


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    kept: list[Figure] = []
    monkeypatch.setattr(style, "save", lambda figure, png, pdf: kept.append(figure))
    return kept


def test_rows_are_spread_over_the_best_models_iou(inputs: Inputs, drawn: list[Figure]) -> None:
    gallery.qualitative(*inputs, NOWHERE, NOWHERE, 5)
    corners = [[text.get_text() for text in axes.texts] for axes in drawn[0].axes]
    assert corners[2::4] == [["90"], ["80"], ["70"], ["60"], ["50"]]
    assert corners[3::4] == [["25"]] * 5
    assert not any(corners[0::4] + corners[1::4])


def test_the_figure_says_how_its_rows_were_chosen(inputs: Inputs, drawn: list[Figure]) -> None:
    gallery.qualitative(*inputs, NOWHERE, NOWHERE, 3)
    texts = [text.get_text().replace("\n", " ") for text in drawn[0].texts]
    assert texts[:4] == ["image and box", "true mask", "good", "weak"]
    assert "3 of 20 expressions, at evenly spaced quantiles of the IoU of 'good'" in texts[-1]
    assert len(texts) == 4 + 3 + 1


def test_a_ref_has_one_row_at_most(inputs: Inputs, drawn: list[Figure]) -> None:
    gallery.qualitative(*inputs, NOWHERE, NOWHERE, 50)
    assert len(drawn[0].axes) == REFS * 4


def test_dots_stand_at_the_predicted_points_whatever_the_picture_is_enlarged_to(
    inputs: Inputs, drawn: list[Figure]
) -> None:
    gallery.qualitative(*inputs, NOWHERE, NOWHERE, 1)
    weak = drawn[0].axes[3]
    assert np.asarray(weak.collections[0].get_offsets()).tolist() == [[10, 5], [15, 5], [15, 25], [10, 25]]
    assert weak.get_images()[0].get_extent() == [0, WIDTH, HEIGHT, 0]
    assert max(weak.get_images()[0].get_size()) == 640


def test_the_same_predictions_give_the_same_bytes(inputs: Inputs, tmp_path: Path) -> None:
    files = []
    for name in ("first", "second"):
        png, pdf = tmp_path / f"{name}.png", tmp_path / f"{name}.pdf"
        gallery.qualitative(*inputs, png, pdf, 2)
        files.append((png.read_bytes(), pdf.read_bytes()))
    assert files[0] == files[1]


def test_what_cannot_be_drawn_is_refused_by_name(inputs: Inputs, tmp_path: Path) -> None:
    refs, images, models = inputs
    with pytest.raises(DataError, match="at least one model"):
        gallery.qualitative(refs, images, [], NOWHERE, NOWHERE)
    pd.read_parquet(models[1][1]).iloc[1:].to_parquet(tmp_path / "fewer.parquet")
    with pytest.raises(DataError, match=r"fewer\.parquet: scored on other expressions"):
        gallery.qualitative(refs, images, [models[0], ("fewer", tmp_path / "fewer.parquet")], NOWHERE, NOWHERE)
    pd.read_parquet(refs).assign(mask=None).to_parquet(tmp_path / "unlabelled.parquet")
    with pytest.raises(DataError, match="no true mask of ref 4"):
        gallery.qualitative(tmp_path / "unlabelled.parquet", images, models, NOWHERE, NOWHERE, count=1)
    with pytest.raises(DataError, match="folder of raw images"):
        gallery.qualitative(refs, tmp_path / "elsewhere", models, NOWHERE, NOWHERE)
    Image.new("RGB", (7, 7)).save(images / "4.png")
    with pytest.raises(DataError, match=r"4\.png: is 7 x 7"):
        gallery.qualitative(refs, images, models, NOWHERE, NOWHERE, count=1)
