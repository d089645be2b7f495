from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from partialres.files import DataError
from partialres.report import curves, style
from partialres.report.evaluations import collect

Write = Callable[..., Path]


def data(line: Line2D) -> dict[float, float]:
    return dict(np.asarray(line.get_xydata()).tolist())


def line(axes: Axes, colour: str) -> dict[float, float]:
    """The points of the only solid line in a colour."""
    solid = [each for each in axes.lines if each.get_linestyle() == "-" and len(each.get_xydata()) > 1]
    (drawn,) = (each for each in solid if to_hex(str(each.get_color())) == colour)
    return data(drawn)


def test_the_ratio_curve_draws_means_shares_and_the_oracle(runs: list[Path]) -> None:
    val, test = curves.ratio_curve(collect(runs), "baseline").axes
    assert (val.get_title(loc="left"), test.get_title(loc="left")) == ("RefShapes val", "RefShapes test")
    assert line(val, style.BASELINE) == {1: 31, 10: 51, 100: 77}
    assert line(val, style.STEP_2) == {1: 34, 10: 54, 100: 80}
    assert line(test, style.FINAL) == {1: 36, 10: 56}
    assert [text.get_text() for text in val.texts] == ["40 %", "66 %", "53 %", "79 %"]
    assert [tick.get_text() for tick in val.get_xticklabels()] == ["1 %", "10 %", "100 %"]
    assert [list(data(each).values()) for each in val.lines if each.get_linestyle() == "--"] == [[77, 77]]
    assert [data(each) for each in val.lines if each.get_marker() == "*"] == [{100: 77}]


def test_panels_share_one_scale_and_shares_stand_below_every_line(runs: list[Path]) -> None:
    axes = curves.ratio_curve(collect(runs), "baseline").axes
    assert len({each.get_ylim() for each in axes}) == 1
    low, high = axes[0].get_ylim()
    lowest = min(
        float(np.min(each.get_ydata())) for panel in axes for each in panel.lines if each.get_linestyle() == "-"
    )
    tops = {low + (text.get_position()[1] + 0.07) * (high - low) for panel in axes for text in panel.texts}
    assert low < max(tops) < lowest - 1
    heights = [text.get_position() for text in axes[0].texts]
    assert len(set(heights)) == len(heights)


def test_the_ratio_curve_needs_what_it_draws(runs: list[Path]) -> None:
    with pytest.raises(DataError, match="'baseline'"):
        curves.ratio_curve(collect([path for path in runs if "baseline" not in path.parts]), "")


def test_the_ratio_curve_does_without_an_oracle(runs: list[Path]) -> None:
    for paths, oracle in (([path for path in runs if "ratio100" not in path.parts], "baseline"), (runs, "")):
        figure = curves.ratio_curve(collect(paths), oracle)
        assert not figure.axes[0].texts
        assert "Oracle" not in " ".join(text.get_text() for text in figure.legends[0].get_texts())


def test_data_sets_have_rows_and_no_empty_panels(runs: list[Path], scored: Write) -> None:
    more = [scored(f"refcoco/seed0/ratio1/{name}/res", "testA") for name in ("baseline", "ours")]
    axes = curves.ratio_curve(collect([*runs, *more]), "").axes
    assert [each.get_title(loc="left") for each in axes] == ["RefShapes val", "RefShapes test", "RefCOCO testA"]


def test_the_papers_figures_are_faint_points_on_its_data_sets_alone(runs: list[Path], scored: Write) -> None:
    more = [scored(f"refcocog/seed0/ratio50/{name}/res") for name in ("baseline", "ours")]
    drawn = {axes.get_title(loc="left"): axes for axes in curves.ratio_curve(collect([*runs, *more]), "").axes}
    points = {
        name: {
            tuple(point)
            for dots in axes.collections
            for point in np.asarray(dots.get_offsets()).tolist()
            if dots.get_alpha() == 0.35
        }
        for name, axes in drawn.items()
    }
    assert points["RefShapes val"] == set()
    assert {(1.0, 42.57), (50.0, 55.59), (10.0, 52.43)} <= points["RefCOCOg val"]
    assert "50 %" in [tick.get_text() for tick in drawn["RefCOCOg val"].get_xticklabels()]


@pytest.fixture
def peers(runs: list[Path], scored: Write) -> list[Path]:
    """The runs on val except ours with every mask, and a mask head with mIoU 20 at 1 % and 40 at 100 %."""
    kept = [path for path in runs if path.parent.name == "val" and not path.match("ratio100/ours/*/*/*")]
    masks = [scored(f"refshapes/seed0/ratio{r}/mask_head/res", mIoU=mean) for r, mean in ((1, 20.0), (100, 40.0))]
    return kept + masks


HEAD = style.experiment_colours(["mask_head"])["mask_head"]


@pytest.mark.parametrize("names", [["mask_head"], ["baseline", "ours", "mask_head"]])
def test_heads_are_compared_by_miou_and_by_their_share_with_every_mask(peers: list[Path], names: list[str]) -> None:
    left, right = curves.heads(collect(peers), names, "baseline").axes
    assert line(left, style.FINAL) == {1: 41, 10: 61}
    assert line(left, HEAD) == {1: 20, 100: 40}
    assert line(right, HEAD) == {1: 50, 100: 100}
    assert line(right, style.FINAL) == pytest.approx({1: 100 * 41 / 77, 10: 100 * 61 / 77})
    assert line(right, style.BASELINE)[100] == 100


def test_a_head_without_a_model_of_every_mask_has_no_share(peers: list[Path]) -> None:
    paths = [path for path in peers if not path.match("ratio100/mask_head/*/*/*")]
    right = curves.heads(collect(paths), ["mask_head"], "baseline").axes[1]
    assert HEAD not in {to_hex(str(each.get_color())) for each in right.lines}


def test_the_figure_of_heads_needs_its_experiments_and_one_split(peers: list[Path], runs: list[Path]) -> None:
    with pytest.raises(DataError, match="'other_head'"):
        curves.heads(collect(peers), ["other_head"], "baseline")
    with pytest.raises(DataError, match="one split of each data set"):
        curves.heads(collect(runs), ["ours"], "baseline")


@pytest.fixture
def logs(tmp_path: Path) -> list[Path]:
    runs = ("rec/points", "ratio1/ours/res", "ratio10/ours/res")
    paths = [tmp_path / f"refshapes/seed0/{run}/metrics.csv" for run in runs]
    for place, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        steps = np.arange(1, 4) * 10
        pd.DataFrame({"epoch": [0, 1, 2], "step": steps, "loss": 3.0 / steps + place}).to_csv(path, index=False)
    return paths


def test_training_curves_follow_the_logs(logs: list[Path]) -> None:
    boxes, masks = curves.training_curves(logs).axes
    assert data(boxes.lines[0]) == pytest.approx({10: 0.3, 20: 0.15, 30: 0.1})
    assert {to_hex(str(each.get_color())) for each in masks.lines} == set(style.ratio_colours([1, 10]).values())


def test_experiments_of_training_curves_differ_in_their_dashes(logs: list[Path]) -> None:
    others = [logs[1].parents[2] / f"{name}/res/metrics.csv" for name in ("baseline", "cctf")]
    others.append(logs[0].parents[1] / "mask/metrics.csv")
    for path in others:
        path.parent.mkdir(parents=True)
        path.write_text("epoch,step,loss\n0,10,2\n1,20,1\n")
    boxes, masks = curves.training_curves([*logs, *others]).axes
    assert data(boxes.lines[1]) == {10: 2, 20: 1}
    assert [each.get_linestyle() for each in boxes.lines] == ["-", ":"]
    assert [each.get_linestyle() for each in masks.lines] == ["--", ":", "-", "-"]


def test_a_log_without_loss_is_named(logs: list[Path]) -> None:
    logs[0].write_text("epoch,step\n0,10\n")
    with pytest.raises(DataError, match=r"rec/points/metrics\.csv: cannot be read .*'loss'"):
        curves.training_curves(logs)


@pytest.fixture
def points(tmp_path: Path) -> list[Path]:
    """Two seeds at 1 %: 8 pseudo masks, 3 with D below 0.1, one without a mask."""
    paths = [tmp_path / f"refshapes/seed{seed}/ratio1/ours/pseudo/points.parquet" for seed in (0, 1)]
    for path, distances in zip(paths, ([0.02, 0.05, 0.1, 0.4], [0.099, 0.7, 1.9, np.nan]), strict=True):
        path.parent.mkdir(parents=True)
        pd.DataFrame({"d": distances}).to_parquet(path)
    return paths


def test_the_histogram_shows_what_is_kept_over_all_seeds(points: list[Path]) -> None:
    (axes,) = curves.pseudo_histogram(points, [0.1, 0.1]).axes
    assert axes.texts[0].get_text() == "kept 37.5 %\nD < 0.1\nno mask 12.5 %"
    bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
    kept = [bar for bar in bars if to_hex(bar.get_facecolor()) == style.FINAL]
    assert sum(bar.get_height() for bar in kept) == pytest.approx(37.5)
    assert sum(bar.get_height() for bar in bars) == pytest.approx(87.5)
    assert max(bar.get_x() + bar.get_width() for bar in kept if bar.get_height()) == pytest.approx(0.1)


def test_each_panel_of_the_histogram_has_its_own_threshold(points: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "refshapes/seed0/ratio1/ours_plus/pseudo/points.parquet"
    other.parent.mkdir(parents=True)
    pd.DataFrame({"d": [0.02, 0.2, 0.29, 0.4]}).to_parquet(other)
    figure = curves.pseudo_histogram([*points, other], [0.1, 0.1, 0.3])
    texts = [axes.texts[0].get_text() for axes in figure.axes]
    assert texts == ["kept 37.5 %\nD < 0.1\nno mask 12.5 %", "kept 75.0 %\nD < 0.3"]
    with pytest.raises(DataError, match="2 thresholds for 3 files"):
        curves.pseudo_histogram([*points, other], [0.1, 0.3])


def test_masks_disjoint_from_their_boxes_are_inside_the_panel(points: list[Path]) -> None:
    pd.DataFrame({"d": [2.0, 2.0]}).to_parquet(points[0])
    (axes,) = curves.pseudo_histogram(points[:1], [0.1]).axes
    (bar,) = (each for each in axes.patches if isinstance(each, Rectangle) and each.get_height())
    assert bar.get_x() + bar.get_width() <= axes.get_xlim()[1]


def test_the_histogram_takes_pseudo_points_only(points: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pseudo"):
        curves.pseudo_histogram([tmp_path / "refshapes/seed0/ratio1/ours/res/points.parquet"], [0.1])
    for path in points:
        pd.DataFrame({"d": pd.Series([], dtype=float)}).to_parquet(path)
    with pytest.raises(DataError, match="no pseudo points"):
        curves.pseudo_histogram(points, [0.1, 0.1])


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (3, 3), (6, 3), (5, 1)])
def test_there_are_never_more_panels_down_than_across(rows: int, columns: int) -> None:
    _, panel = style.panels(rows, columns, 3.0, 2.5)
    corners = [panel(row, column) for row in (0, rows - 1) for column in (0, columns - 1)]
    grid = corners[0].get_subplotspec().get_gridspec()
    assert grid.nrows <= grid.ncols and grid.nrows * grid.ncols == rows * columns
    assert len({(each.get_subplotspec().num1) for each in corners}) == len(
        {(r, c) for r in (0, rows - 1) for c in (0, columns - 1)}
    )
