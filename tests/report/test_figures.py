from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from partialres.files import DataError
from partialres.report import figures, style
from partialres.report.evaluations import collect

Write = Callable[..., Path]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures are put in this list instead of on disk."""
    kept: list[Figure] = []
    monkeypatch.setattr(style, "save", lambda figure, png, pdf: kept.append(figure))
    return kept


def data(line: Line2D) -> dict[float, float]:
    return dict(np.asarray(line.get_xydata()).tolist())


def line(axes: Axes, colour: str) -> dict[float, float]:
    """The points of the one solid line of a colour."""
    solid = [line for line in axes.lines if line.get_linestyle() == "-"]
    (found,) = (line for line in solid if to_hex(str(line.get_color())) == colour)
    return data(found)


NOWHERE = Path("unused")


def test_the_ratio_curve_draws_means_shares_and_the_oracle(runs: list[Path], drawn: list[Figure]) -> None:
    figures.ratio_curve(collect(runs), NOWHERE, NOWHERE)
    val, test = drawn[0].axes
    assert (val.get_title(loc="left"), test.get_title(loc="left")) == ("RefShapes val", "RefShapes test")
    assert line(val, style.BASELINE) == {1: 31, 10: 51, 100: 77}
    assert line(val, style.STEP_2) == {1: 34, 10: 54, 100: 80}
    assert line(test, style.FINAL) == {1: 36, 10: 56, 100: 75}
    assert [text.get_text() for text in val.texts] == ["39 %", "64 %", "51 %", "76 %"]
    assert [tick.get_text() for tick in val.get_xticklabels()] == ["1 %", "10 %", "100 %"]
    dashed = [line for line in val.lines if line.get_linestyle() == "--"]
    assert [list(data(line).values()) for line in dashed] == [[80, 80]]


def test_the_ratio_curve_needs_what_it_draws(runs: list[Path]) -> None:
    with pytest.raises(DataError, match="'baseline'"):
        figures.ratio_curve(collect([path for path in runs if "baseline" not in path.parts]), NOWHERE, NOWHERE)
    with pytest.raises(DataError, match="'box_guided'"):
        figures.ratio_curve(collect(runs), NOWHERE, NOWHERE, extra=["box_guided"])


def test_the_ratio_curve_does_without_an_oracle(runs: list[Path], drawn: list[Figure]) -> None:
    figures.ratio_curve(collect([path for path in runs if "ratio100" not in path.parts]), NOWHERE, NOWHERE)
    assert not drawn[0].axes[0].texts


def test_data_sets_have_rows_and_unused_panels_stay_hidden(
    runs: list[Path], scored: Write, drawn: list[Figure]
) -> None:
    more = [scored(f"refcoco/seed0/ratio1/{name}/res", "testA") for name in ("baseline", "ours")]
    figures.ratio_curve(collect([*runs, *more]), NOWHERE, NOWHERE)
    shown = [axes.get_title(loc="left") for axes in drawn[0].axes if axes.get_visible()]
    assert shown == ["RefShapes val", "RefShapes test", "RefCOCO testA"]


def test_the_papers_figures_are_faint_points_on_its_data_sets_alone(
    runs: list[Path], scored: Write, drawn: list[Figure]
) -> None:
    more = [scored(f"refcocog/seed0/ratio50/{name}/res") for name in ("baseline", "ours")]
    figures.ratio_curve(collect([*runs, *more]), NOWHERE, NOWHERE)
    shown = {axes.get_title(loc="left"): axes for axes in drawn[0].axes if axes.get_visible()}
    points = {
        name: [
            tuple(point)
            for dots in axes.collections
            for point in np.asarray(dots.get_offsets()).tolist()
            if dots.get_alpha() == 0.35
        ]
        for name, axes in shown.items()
    }
    assert points["RefShapes val"] == []
    assert {(1.0, 42.57), (50.0, 55.59), (10.0, 52.43)} <= set(points["RefCOCOg val"])
    assert "50 %" in [tick.get_text() for tick in shown["RefCOCOg val"].get_xticklabels()]


@pytest.fixture
def logs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"refshapes/seed0/{run}/metrics.csv" for run in ("rec", "ratio1/ours/res", "ratio10/ours/res")]
    for place, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        steps = np.arange(1, 4) * 10
        pd.DataFrame({"epoch": [0, 1, 2], "step": steps, "loss": 3.0 / steps + place}).to_csv(path, index=False)
    return paths


def test_training_curves_follow_the_logs(logs: list[Path], drawn: list[Figure]) -> None:
    figures.training_curves(logs, NOWHERE, NOWHERE)
    boxes, masks = drawn[0].axes
    assert data(boxes.lines[0]) == pytest.approx({10: 0.3, 20: 0.15, 30: 0.1})
    assert {to_hex(str(line.get_color())) for line in masks.lines} == set(style.ratio_colours([1, 10]).values())


def test_the_mask_heads_step_1_has_a_curve_of_its_own(logs: list[Path], drawn: list[Figure]) -> None:
    other = logs[0].parents[1] / "rec_mask/metrics.csv"
    other.parent.mkdir()
    other.write_text("epoch,step,loss\n0,10,2\n1,20,1\n")
    figures.training_curves([*logs, other], NOWHERE, NOWHERE)
    first, second = drawn[0].axes[0].lines
    assert data(second) == {10: 2, 20: 1} and first.get_linestyle() != second.get_linestyle()


def test_a_log_without_loss_is_named(logs: list[Path]) -> None:
    logs[0].write_text("epoch,step\n0,10\n")
    with pytest.raises(DataError, match=r"rec/metrics\.csv: lacks the column 'loss'"):
        figures.training_curves(logs, NOWHERE, NOWHERE)
    with pytest.raises(DataError, match="at least one"):
        figures.training_curves([], NOWHERE, NOWHERE)


@pytest.fixture
def points(tmp_path: Path) -> list[Path]:
    """Two seeds at 1 %: 8 pseudo masks, 3 with D below 0.1, one without a mask."""
    paths = [tmp_path / f"refshapes/seed{seed}/ratio1/ours/pseudo/points.parquet" for seed in (0, 1)]
    for path, distances in zip(paths, ([0.02, 0.05, 0.1, 0.4], [0.099, 0.7, 1.9, np.nan]), strict=True):
        path.parent.mkdir(parents=True)
        pd.DataFrame({"d": distances}).to_parquet(path)
    return paths


def test_the_histogram_tells_what_is_kept_over_all_seeds(points: list[Path], drawn: list[Figure]) -> None:
    figures.pseudo_histogram(points, [0.1, 0.1], NOWHERE, NOWHERE)
    (axes,) = drawn[0].axes
    assert axes.texts[0].get_text() == "kept 37.5 %\nD < 0.1\nno mask 12.5 %"
    bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
    kept = [bar for bar in bars if to_hex(bar.get_facecolor()) == style.FINAL]
    assert sum(bar.get_height() for bar in kept) == pytest.approx(37.5)
    assert sum(bar.get_height() for bar in bars) == pytest.approx(87.5)
    assert max(bar.get_x() + bar.get_width() for bar in kept if bar.get_height()) == pytest.approx(0.1)


def test_each_panel_of_the_histogram_has_its_own_threshold(
    points: list[Path], tmp_path: Path, drawn: list[Figure]
) -> None:
    other = tmp_path / "refshapes/seed0/ratio1/ours_plus/pseudo/points.parquet"
    other.parent.mkdir(parents=True)
    pd.DataFrame({"d": [0.02, 0.2, 0.29, 0.4]}).to_parquet(other)
    figures.pseudo_histogram([*points, other], [0.1, 0.1, 0.3], NOWHERE, NOWHERE)
    texts = [axes.texts[0].get_text() for axes in drawn[0].axes]
    assert texts == ["kept 37.5 %\nD < 0.1\nno mask 12.5 %", "kept 75.0 %\nD < 0.3"]
    with pytest.raises(DataError, match="2 thresholds for 3 files"):
        figures.pseudo_histogram([*points, other], [0.1, 0.3], NOWHERE, NOWHERE)


def test_the_histogram_takes_pseudo_points_only(points: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pseudo"):
        figures.pseudo_histogram([tmp_path / "refshapes/seed0/ratio1/ours/res/points.parquet"], [0.1], NOWHERE, NOWHERE)
    with pytest.raises(DataError, match="at least one"):
        figures.pseudo_histogram([], [], NOWHERE, NOWHERE)


def test_figures_are_the_same_bytes_each_time_and_leave_no_style_behind(
    runs: list[Path], logs: list[Path], points: list[Path], tmp_path: Path
) -> None:
    before = dict(matplotlib.rcParams)

    def draw(name: str, turned: int) -> list[bytes]:
        places = [(tmp_path / f"{name}{place}.png", tmp_path / f"{name}{place}.pdf") for place in range(3)]
        figures.ratio_curve(collect(runs[::turned]), *places[0])
        figures.training_curves(logs[::turned], *places[1])
        figures.pseudo_histogram(points[::turned], [0.1, 0.1], *places[2])
        return [path.read_bytes() for pair in places for path in pair]

    first = draw("first", 1)
    assert first == draw("second", -1)
    assert not any(b"CreationDate" in content or b"Matplotlib" in content for content in first)
    assert dict(matplotlib.rcParams) == before
