from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from partialres.files import DataError
from partialres.report import gains, style
from partialres.report.evaluations import collect
from partialres.report.intervals import read_scores

Write = Callable[..., Path]
NOWHERE = Path("unused")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    kept: list[Figure] = []
    monkeypatch.setattr(style, "save", lambda figure, png, pdf: kept.append(figure))
    return kept


@pytest.fixture
def val(runs: list[Path], scored: Write) -> list[Path]:
    """The runs on val, and a box_guided that is 4 points above ours after step 3, at 1 %."""
    guided = [scored(f"refshapes/seed{seed}/ratio1/box_guided/retrain", mIoU=44.0 + 2 * seed) for seed in (0, 1)]
    return [path for path in runs if path.parent.name == "val"] + guided


def rows(axes: Axes) -> dict[float, str]:
    """Where a panel's figures stand, and what they say."""
    return {text.get_position()[1]: text.get_text() for text in axes.texts}


def test_the_forest_has_a_row_a_model_under_its_ratio(val: list[Path], drawn: list[Figure]) -> None:
    gains.forest(read_scores(val), NOWHERE, NOWHERE)
    left, right = drawn[0].axes
    names = [tick.get_text() for tick in left.get_yticklabels()]
    assert names == [
        "1 % of the masks", "Ours, step 2", "Ours, step 3", "box_guided, step 3",
        "10 % of the masks", "Ours, step 2", "Ours, step 3", "100 % of the masks", "Ours, step 2",
    ]  # fmt: skip
    assert len(set(left.get_yticks())) == len(names)
    told = list(rows(left).values())
    assert [text.split(" [")[0] for text in told] == ["+3.00", "+10.00", "+14.00", "+3.00", "+10.00", "+3.00"]
    assert [text.split(" [")[0] for text in rows(right).values()] == ["+4.00"]
    places = dict(zip(names, left.get_yticks(), strict=True))
    assert list(rows(right)) == [places["box_guided, step 3"]]


def test_bars_are_the_intervals_in_brackets_and_ticks_the_seeds(
    val: list[Path], scored: Write, drawn: list[Figure]
) -> None:
    more = [path for path in val if "box_guided" not in path.parts]
    more += [scored(f"refshapes/seed{seed}/ratio1/box_guided/retrain", mIoU=44.0 + 5 * seed) for seed in (0, 1)]
    gains.forest(read_scores(more), NOWHERE, NOWHERE)
    right = drawn[0].axes[1]
    bar, seeds, mark = (line for line in right.lines if len(set(line.get_ydata())) == 1)
    low, high = np.asarray(bar.get_xdata(), dtype=float)
    assert f"[{low:.2f}, {high:.2f}]" in right.texts[0].get_text()
    assert sorted(np.asarray(seeds.get_xdata(), dtype=float)) == pytest.approx([4, 7])
    assert low < np.asarray(mark.get_xdata(), dtype=float)[0] < high


def test_without_other_experiments_of_step_3_there_is_one_panel(val: list[Path], drawn: list[Figure]) -> None:
    gains.forest(read_scores([path for path in val if "box_guided" not in path.parts]), NOWHERE, NOWHERE)
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == ["gain over the baseline"]


def test_a_ratio_without_a_baseline_has_no_row(val: list[Path], drawn: list[Figure]) -> None:
    gains.forest(read_scores([path for path in val if not path.match("ratio100/baseline/*/*/*")]), NOWHERE, NOWHERE)
    assert "100 % of the masks" not in [tick.get_text() for tick in drawn[0].axes[0].get_yticklabels()]


def test_the_forest_is_of_one_split_and_needs_a_baseline(runs: list[Path], val: list[Path]) -> None:
    with pytest.raises(DataError, match="one data set and split, not 2"):
        gains.forest(read_scores(runs), NOWHERE, NOWHERE)
    with pytest.raises(DataError, match="nothing to compare"):
        alone = [path for path in val if "ours" in path.parts]
        gains.forest(read_scores(alone), NOWHERE, NOWHERE)


@pytest.fixture
def heads(val: list[Path], scored: Write) -> list[Path]:
    """Without box_guided, with an oracle at 80 and a mask head at 20 and 40 with 1 and 100 %."""
    kept = [path for path in val if "box_guided" not in path.parts and not path.match("ratio100/ours/*/*/*")]
    kept += [scored("refshapes/seed0/ratio100/oracle/res", mIoU=80.0)]
    return kept + [
        scored(f"refshapes/seed0/ratio{ratio}/mask_head/res", mIoU=figure) for ratio, figure in ((1, 20.0), (100, 40.0))
    ]


def line(axes: Axes, colour: str) -> dict[float, float]:
    (found,) = (line for line in axes.lines if to_hex(str(line.get_color())) == colour)
    return dict(np.asarray(found.get_xydata()).tolist())


def test_the_peer_is_told_by_miou_and_by_the_share_of_its_own_with_every_mask(
    heads: list[Path], drawn: list[Figure]
) -> None:
    gains.peer(collect(heads), ["mask_head"], NOWHERE, NOWHERE)
    left, right = drawn[0].axes
    head = style.extra_colours(["mask_head"])["mask_head"]
    assert line(left, style.FINAL) == {1: 41, 10: 61, 100: 80}
    assert line(left, head) == {1: 20, 100: 40}
    assert line(right, head) == {1: 50, 100: 100}
    assert line(right, style.FINAL) == pytest.approx({1: 51.25, 10: 76.25, 100: 100})
    assert {text.get_text() for text in right.texts} == {"50 %", "51 %", "76 %"}


def test_a_peer_without_a_model_of_every_mask_has_no_share(heads: list[Path], drawn: list[Figure]) -> None:
    gains.peer(
        collect([path for path in heads if not path.match("ratio100/mask_head/*/*/*")]), ["mask_head"], NOWHERE, NOWHERE
    )
    head = style.extra_colours(["mask_head"])["mask_head"]
    assert head not in {to_hex(str(line.get_color())) for line in drawn[0].axes[1].lines}


def test_the_peer_figure_needs_its_experiments_and_one_split(
    heads: list[Path], runs: list[Path], scored: Write
) -> None:
    with pytest.raises(DataError, match="'other_head'"):
        gains.peer(collect(heads), ["other_head"], NOWHERE, NOWHERE)
    with pytest.raises(DataError, match="one split a data set"):
        gains.peer(collect([*runs, scored("refshapes/seed0/ratio1/mask_head/res")]), ["mask_head"], NOWHERE, NOWHERE)


def test_both_figures_are_the_same_bytes_each_time(val: list[Path], heads: list[Path], tmp_path: Path) -> None:
    def draw(name: str, turned: int) -> list[bytes]:
        files = [(tmp_path / f"{name}{place}.png", tmp_path / f"{name}{place}.pdf") for place in (0, 1)]
        gains.forest(read_scores(val[::turned]), *files[0])
        gains.peer(collect(heads[::turned]), ["mask_head"], *files[1])
        return [path.read_bytes() for pair in files for path in pair]

    assert draw("first", 1) == draw("second", -1)
