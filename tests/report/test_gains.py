from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from partialres.files import DataError
from partialres.report import gains
from partialres.report.intervals import read_scores

Write = Callable[..., Path]


@pytest.fixture
def val(runs: list[Path], scored: Write) -> list[Path]:
    """The runs on val, and a box_guided that is 4 points above ours after step 3, at 1 %."""
    guided = [scored(f"refshapes/seed{seed}/ratio1/box_guided/retrain", mIoU=44.0 + 2 * seed) for seed in (0, 1)]
    return [path for path in runs if path.parent.name == "val"] + guided


def rows(axes: Axes) -> dict[str, str]:
    """What the figures beside each row of a panel say, by the row's name in the first panel beside it."""
    first = next(each for each in axes.figure.axes if each.get_subplotspec().rowspan == axes.get_subplotspec().rowspan)
    names = dict(zip(first.get_yticks(), [tick.get_text() for tick in first.get_yticklabels()], strict=True))
    return {names[text.get_position()[1]]: text.get_text().split(" [")[0] for text in axes.texts}


def panels(figure: Figure) -> dict[tuple[str, str], Axes]:
    """The panels by what they compare with and their ratio."""
    return {
        (axes.get_xlabel().split(" over ")[1], axes.get_title(loc="left").split(" of")[0]): axes for axes in figure.axes
    }


def test_the_forest_has_a_row_a_model_and_a_column_a_ratio(val: list[Path]) -> None:
    drawn = {place: rows(axes) for place, axes in panels(gains.forest(read_scores(val))).items()}
    assert drawn == {
        ("the baseline", "1 %"): {"Ours, step 2": "+3.00", "Ours, step 3": "+10.00", "box_guided, step 3": "+14.00"},
        ("the baseline", "10 %"): {"Ours, step 2": "+3.00", "Ours, step 3": "+10.00"},
        ("the baseline", "100 %"): {"Ours, step 2": "+3.00"},
        ("ours, step 3", "1 %"): {"box_guided, step 3": "+4.00"},
    }


def test_bars_are_the_intervals_in_brackets_and_ticks_the_seeds(val: list[Path], scored: Write) -> None:
    more = [path for path in val if "box_guided" not in path.parts]
    more += [scored(f"refshapes/seed{seed}/ratio1/box_guided/retrain", mIoU=44.0 + 5 * seed) for seed in (0, 1)]
    axes = panels(gains.forest(read_scores(more)))["ours, step 3", "1 %"]
    bar, seeds, mark = (line for line in axes.lines if len(set(line.get_ydata())) == 1)
    low, high = np.asarray(bar.get_xdata(), dtype=float)
    assert f"[{low:.2f}, {high:.2f}]" in axes.texts[0].get_text()
    assert sorted(np.asarray(seeds.get_xdata(), dtype=float)) == pytest.approx([4, 7])
    assert low < np.asarray(mark.get_xdata(), dtype=float)[0] < high


def test_single_seeds_are_in_the_legend_only_where_there_are_several(val: list[Path]) -> None:
    for paths, several in ((val, True), ([path for path in val if "seed0" in path.parts], False)):
        texts = [text.get_text() for text in gains.forest(read_scores(paths)).legends[0].get_texts()]
        assert ("single seeds" in texts) == several and "step 3" in texts


def test_without_other_experiments_of_step_3_there_is_one_row_of_panels(val: list[Path]) -> None:
    figure = gains.forest(read_scores([path for path in val if "box_guided" not in path.parts]))
    assert {reference for reference, _ in panels(figure)} == {"the baseline"}


def test_a_ratio_without_a_baseline_has_no_panel(val: list[Path]) -> None:
    figure = gains.forest(read_scores([path for path in val if not path.match("ratio100/baseline/*/*/*")]))
    assert {ratio for _, ratio in panels(figure)} == {"1 %", "10 %"}


def test_the_forest_is_of_one_split_and_needs_a_baseline(runs: list[Path], val: list[Path]) -> None:
    with pytest.raises(DataError, match="one data set and split, not 2"):
        gains.forest(read_scores(runs))
    with pytest.raises(DataError, match="nothing to compare"):
        gains.forest(read_scores([path for path in val if "ours" in path.parts]))


def test_a_forest_of_many_models_is_wider_than_tall(val: list[Path], scored: Write) -> None:
    more = [scored(f"refshapes/seed0/ratio{r}/variant{i}/retrain") for i in range(8) for r in (1, 10)]
    width, height = gains.forest(read_scores([*val, *more])).get_size_inches()
    assert width > 1.2 * height
