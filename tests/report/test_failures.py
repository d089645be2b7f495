from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

from partialres.files import DataError
from partialres.geometry import contour
from partialres.report import failures, style

SIDE = 40


@pytest.mark.parametrize(
    ("kind", "expressions"),
    [
        ("attribute", ["red shirt", "The tall man.", "woman with umbrella", "bunch of bananas", "slice of pizza"]),
        ("location", ["left guy", "Man on the LEFT side", "left side of the picture", "second from top"]),
        ("relation", ["man next to the car", "left of the lamp", "cup behind plate", "in front of the bus"]),
    ],
)  # fmt: skip
def test_words_decide_of_what_kind_an_expression_is(kind: str, expressions: list[str]) -> None:
    assert {expression: failures.kind_of(expression) for expression in expressions} == dict.fromkeys(expressions, kind)


def masks() -> list[np.ndarray]:
    """A 20 x 20 square; two 5 x 10 blocks, apart; an L of 300 pixels; a disc."""
    square, blocks, ell = (np.zeros((SIDE, SIDE), dtype=bool) for _ in range(3))
    square[5:25, 5:25] = True
    blocks[5:15, 5:10] = blocks[5:15, 20:25] = True
    ell[5:25, 5:15] = ell[15:25, 5:25] = True
    disc = cv2.circle(np.zeros((SIDE, SIDE), dtype=np.uint8), (20, 20), 12, 1, -1).astype(bool)
    return [square, blocks, ell, disc]


@pytest.fixture
def refs(tmp_path: Path) -> Path:
    rows = [
        {"ref_id": place, "height": SIDE, "width": SIDE, "mask": contour.encode(mask)}
        for place, mask in enumerate(masks())
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "refs.parquet")
    return tmp_path / "refs.parquet"


TEXTS = ["red one", "left thing", "the shape next to the lamp", "the left one of all the shapes that there are"]


def predictions(folder: Path, run: str, iou: list[float], box_iou: list[float], split: str = "val") -> Path:
    path = folder / run / split / "predictions.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"ref_id": range(4), "expression": TEXTS, "iou": iou, "box_iou": box_iou}).to_parquet(path)
    return path.with_name("metrics.json")


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """The baseline with two seeds and ours with one, at 1 %."""
    boxes = [0.9, 0.4, 0.6, 0.9]
    return [
        predictions(tmp_path, "refshapes/seed0/ratio1/baseline/res", [0.2, 0.1, 0.3, 0.6], boxes),
        predictions(tmp_path, "refshapes/seed1/ratio1/baseline/res", [0.4, 0.1, 0.3, 0.4], boxes),
        predictions(tmp_path, "refshapes/seed0/ratio1/ours/retrain", [0.8, 0.7, 0.5, 0.9], boxes),
    ]


def test_objects_are_described_by_size_parts_and_convexity(refs: Path) -> None:
    expressions = pd.DataFrame({"ref_id": [2, 0, 1, 3], "expression": [TEXTS[2], TEXTS[0], TEXTS[1], TEXTS[3]]})
    described = failures.describe(refs, expressions)
    assert described["size"].tolist()[:3] == [300 / 1600, 400 / 1600, 100 / 1600]
    assert described["parts"].tolist() == [1, 1, 2, 1]
    assert described["solidity"].tolist()[1:3] == [1, 0.5]  # the blocks' hull is 10 x 20
    assert 300 / 400 < described["solidity"].iloc[0] < 0.95  # its hull leaves out a corner of the square around it
    assert described["solidity"].iloc[3] == pytest.approx(1, abs=0.05)
    assert described["length"].tolist() == [6, 2, 2, 10]


def test_quantiles_have_equal_counts_and_equal_values_one_bin() -> None:
    described = pd.DataFrame({
        "size": np.linspace(0.01, 0.4, 40), "parts": [1, 2, 3, 7] * 10, "solidity": [1.0] * 40,
        "kind": ["relation"] * 40, "length": [1, 3, 5, 80] * 10,
    })  # fmt: skip
    bins = failures.binned(described)
    assert bins["size"].value_counts().tolist() == [10] * 4
    assert bins["parts"].value_counts().to_dict() == {"1": 10, "2": 10, "3+": 20}
    assert bins["solidity"].cat.categories.tolist() == ["1"]
    assert bins["length"].value_counts().to_dict() == {"1-2": 10, "3-4": 10, "5-7": 10, "8+": 10}
    assert not bins.isna().any().any()


def test_an_answer_is_right_or_of_the_wrong_object_or_outline() -> None:
    table = pd.DataFrame({"iou": [0.5, 0.49, 0.49, 0.6], "box_iou": [0.9, 0.5, 0.49, 0.1]})
    assert failures.outcome(table).tolist() == ["right", "wrong outline", "wrong object", "right"]


def figure_of(data: pd.DataFrame, label: str, attribute: str, name: str) -> Any:
    (row,) = data[(data["label"] == label) & (data["attribute"] == attribute) & (data["bin"] == name)].to_dict(
        "records"
    )
    return row


def test_figures_are_means_over_seeds_of_each_bins_miou(refs: Path, models: list[Path]) -> None:
    data = failures.analyse(refs, models, "baseline")
    two = figure_of(data, "Baseline, 1 %", "parts", "1")
    assert two["mean"] == pytest.approx(100 * (1.1 / 3 + 1.1 / 3) / 2)
    assert (two["expressions"], two["seeds"], two["sd"]) == (3, 2, pytest.approx(0))
    assert figure_of(data, "Baseline, 1 %", "parts", "2")["mean"] == pytest.approx(10)
    assert figure_of(data, "Ours, step 3, 1 %", "kind", "relation")["mean"] == pytest.approx(50)
    right = figure_of(data, "Baseline, 1 %", "outcome", "right")
    assert (right["mean"], right["sd"]) == (12.5, pytest.approx(np.std([25, 0], ddof=1)))
    assert figure_of(data, "Ours, step 3, 1 %", "outcome", "wrong object")["mean"] == 0
    shares = data[data["attribute"] == "outcome"].groupby("label")["mean"].sum()
    assert shares.tolist() == pytest.approx([100, 100])
    each = data[data["attribute"] != "outcome"].groupby(["label", "attribute"])["expressions"].sum()
    assert set(each) == {4}  # every expression is in one bin of each attribute


def test_the_table_has_a_column_a_model_and_a_grid_of_outcomes(refs: Path, models: list[Path]) -> None:
    table = failures.table(failures.analyse(refs, models, "baseline"))
    scores, outcomes = table.grids
    assert [name for _, name in scores.columns] == ["expressions", "Baseline, 1 %", "Ours, step 3, 1 %"]
    (cells,) = (cells for (_, label), cells in scores.rows.items() if label == "2")
    assert cells == ("1", "10.0 ± 0.0", "70.0")
    assert [(label, cells[1]) for (_, label), cells in outcomes.rows.items()] == [
        ("right", "12.5 ± 17.7"), ("wrong outline", "62.5 ± 17.7"), ("wrong object", "25.0 ± 0.0"),
    ]  # fmt: skip


def test_the_figure_draws_every_attribute_on_one_scale_from_0_and_the_outcomes(refs: Path, models: list[Path]) -> None:
    *panels, last = failures.draw(failures.analyse(refs, models, "baseline")).axes
    assert len(panels) == 5 and len({axes.get_ylim() for axes in panels}) == 1
    assert panels[0].get_ylim()[0] == 0 and panels[0].get_ylim()[1] > 90
    assert all(sum(isinstance(each, ErrorbarContainer) for each in axes.containers) == 2 for axes in panels)
    parts = panels[1]
    assert [tick.get_text() for tick in parts.get_xticklabels()] == ["1\nn = 3", "2\nn = 1"]
    ends = [bar.get_x() + bar.get_width() for bar in last.patches]
    assert max(ends) == pytest.approx(100)
    assert {text.get_text() for text in last.texts} - {""} == {"12", "62", "25", "100"}


def test_the_oracle_is_called_so_in_table_and_figure_and_drawn_in_its_colour(refs: Path, models: list[Path]) -> None:
    folder = refs.parent
    full = [
        predictions(folder, f"refshapes/seed0/ratio100/{name}/res", [0.9] * 4, [0.9] * 4)
        for name in ("baseline", "ours")
    ]
    data = failures.analyse(refs, [*models, *full], "baseline")
    labels = ["Baseline, 1 %", "Ours, step 3, 1 %", "Oracle, 100 %", "Ours, step 2, 100 %"]
    assert [name for _, name in failures.table(data).grids[0].columns] == ["expressions", *labels]
    figure = failures.draw(data)
    (legend,) = figure.legends
    colours = {
        text.get_text(): key.get_color() for text, key in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert set(colours) == set(labels)
    assert [label for label, colour in colours.items() if colour == style.ORACLE] == ["Oracle, 100 %"]
    assert "Oracle\n100 %" in [text.get_text() for text in figure.axes[-1].get_yticklabels()]
    assert "Baseline, 100 %" in set(failures.analyse(refs, [*models, *full], "")["label"])


def test_what_cannot_be_analysed_is_refused_by_name(refs: Path, models: list[Path], tmp_path: Path) -> None:
    other = predictions(tmp_path, "refshapes/seed0/ratio1/ours/res", [0.5] * 4, [0.5] * 4, split="testA")
    with pytest.raises(DataError, match="one data set and split"):
        failures.analyse(refs, [*models, other], "baseline")
    with pytest.raises(DataError, match="one data set and split"):
        failures.analyse(refs, [], "baseline")
    changed = models[2].with_name("predictions.parquet")
    pd.read_parquet(changed).assign(expression="x").to_parquet(changed)
    with pytest.raises(DataError, match=r"ours/retrain/val/predictions\.parquet: row 0 of \d+ is \(0, 'x'\)"):
        failures.analyse(refs, models, "baseline")
    pd.read_parquet(refs).iloc[:2].to_parquet(refs)
    with pytest.raises(DataError, match=r"refs\.parquet: no true mask of ref 2"):
        failures.analyse(refs, models[:2], "baseline")
