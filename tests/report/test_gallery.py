from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from partialres.files import DataError
from partialres.geometry import contour
from partialres.report import gallery

HEIGHT, WIDTH = 30, 40
REFS = 10
Inputs = tuple[Path, Path, list[tuple[str, Path]]]


def made(folder: Path, height: int, width: int) -> Inputs:
    """Ten refs of two expressions, each a 20 x 20 square; 'weak' predicts its left quarter, 'good' a share that
    grows with the ref (5 % a ref, from 50 %).
    """
    square = np.zeros((height, width), dtype=bool)
    square[5:25, 10:30] = True
    refs: list[dict[str, Any]] = []
    weak: list[dict[str, Any]] = []
    good: list[dict[str, Any]] = []
    (folder / "images").mkdir()
    for ref_id in range(REFS):
        name = f"{ref_id}.png"
        Image.fromarray(np.full((height, width, 3), 20 * ref_id, dtype=np.uint8)).save(folder / "images" / name)
        row = {"ref_id": ref_id, "file_name": name, "height": height, "width": width}
        refs.append(row | {"bbox": [10.0, 5.0, 20.0, 20.0], "mask": contour.encode(square)})
        for expression in (f"square {ref_id}", f"it costs $5_{ref_id} & $6"):
            for table, wide in ((weak, 5), (good, 10 + ref_id)):
                points = [[10.0, 5.0], [10.0 + wide, 5.0], [10.0 + wide, 25.0], [10.0, 25.0]]
                mask = contour.encode(contour.fill(np.array(points), height, width))
                row = {"ref_id": ref_id, "expression": expression, "points": points}
                table.append(row | {"mask": mask, "iou": wide / 20})
    for name, rows in (("refs", refs), ("weak", weak), ("good", good)):
        pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet")
    models = [(label, folder / f"{label}.parquet") for label in ("good", "weak")]
    return folder / "refs.parquet", folder / "images", models


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return made(tmp_path, HEIGHT, WIDTH)


def test_rows_are_spread_over_the_best_models_iou(inputs: Inputs) -> None:
    corners = [[text.get_text() for text in axes.texts] for axes in gallery.qualitative(*inputs).axes]
    assert corners[0] == ["“square 8”"]
    assert corners[3::5] == [["90"], ["80"], ["65"], ["55"]]
    assert corners[4::5] == [["25"]] * 4
    assert not any(corners[1::5] + corners[2::5])


def test_the_figure_says_how_its_rows_were_chosen(inputs: Inputs) -> None:
    figure = gallery.qualitative(*inputs)
    assert [axes.get_title() for axes in figure.axes[1:5]] == ["image and box", "true mask", "good", "weak"]
    (note,) = (text.get_text().replace("\n", " ") for text in figure.texts)
    assert "4 of 20 expressions, at evenly spaced quantiles of the IoU of 'good'" in note


def test_a_ref_has_one_row_at_most(inputs: Inputs) -> None:
    for _, path in inputs[2]:
        table = pd.read_parquet(path)
        table[table["ref_id"] < 3].to_parquet(path)
    assert len(gallery.qualitative(*inputs).axes) == 3 * 5


def test_dots_stand_at_the_predicted_points(inputs: Inputs) -> None:
    weak = gallery.qualitative(*inputs).axes[4]
    assert np.asarray(weak.collections[0].get_offsets()).tolist() == [[10, 5], [15, 5], [15, 25], [10, 25]]
    assert weak.get_images()[0].get_extent() == [0, WIDTH, HEIGHT, 0]
    assert (weak.get_xlim(), weak.get_ylim()) == ((0, WIDTH), (HEIGHT, 0))


@pytest.mark.parametrize("shape", [(30, 40), (40, 40), (60, 40)])
@pytest.mark.parametrize("models", [1, 4])
def test_the_figure_fits_a_screen(tmp_path: Path, shape: tuple[int, int], models: int) -> None:
    refs, images, paths = made(tmp_path, *shape)
    width, height = gallery.qualitative(refs, images, (paths * 2)[:models]).get_size_inches()
    assert height <= 0.75 * width + 1e-6


def test_what_cannot_be_drawn_is_refused_by_name(inputs: Inputs, tmp_path: Path) -> None:
    refs, images, models = inputs
    pd.read_parquet(models[1][1]).iloc[1:].to_parquet(tmp_path / "fewer.parquet")
    with pytest.raises(DataError, match=r"fewer\.parquet: row 0 of 19 is \(0, .*good\.parquet, of 20"):
        gallery.qualitative(refs, images, [models[0], ("fewer", tmp_path / "fewer.parquet")])
    pd.read_parquet(refs).assign(mask=None).to_parquet(tmp_path / "unlabelled.parquet")
    with pytest.raises(DataError, match="no true mask of ref 8"):
        gallery.qualitative(tmp_path / "unlabelled.parquet", images, models)
    with pytest.raises(DataError, match=r"8\.png: missing or cannot be decoded"):
        gallery.qualitative(refs, tmp_path / "elsewhere", models)
    Image.new("RGB", (7, 7)).save(images / "3.png")
    with pytest.raises(DataError, match=r"3\.png: is 7 x 7"):
        gallery.qualitative(refs, images, models)
