"""Which pseudo points are kept, and that nothing of the true masks gets into them."""

import numpy as np
import pandas as pd
import pytest

from partialres.config import PseudoConfig
from partialres.evaluation import Prediction
from partialres.geometry import contour
from partialres.steps.predict import candidates, points_table
from partialres.steps.pseudo import select, summarise
from tests.tiny import noisy

SIZES = pd.DataFrame({"ref_id": [3, 1, 2], "height": [60, 60, 60], "width": [80, 80, 80]})
SHAPES = SIZES.set_index("ref_id")
SQUARE = [[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]]
NOTHING = [[10.2, 10.2], [10.3, 10.2], [10.3, 10.3], [10.2, 10.3]]


def points(*rows):
    return pd.DataFrame(rows, columns=["ref_id", "points", "d"])


def test_a_mask_is_kept_where_d_is_below_the_threshold_and_not_at_it():
    table = points((1, SQUARE, 0.05), (2, SQUARE, 0.1), (3, SQUARE, 0.0999))
    kept = select(table, SHAPES, PseudoConfig(threshold=0.1), 4)
    assert kept["ref_id"].tolist() == [1, 3] and kept["d"].tolist() == [0.05, 0.0999]
    assert list(kept.columns) == ["ref_id", "points", "d"]


def test_kept_points_are_spaced_evenly_from_the_top_of_the_filled_mask():
    uneven = [[30.0, 30.0], [29.0, 30.0], [10.0, 30.0], [10.0, 10.0], [30.0, 10.0]]
    (row,) = select(points((1, uneven, 0.0)), SHAPES, PseudoConfig(), 8)["points"]
    assert row == [[20, 10], [30, 10], [30, 20], [30, 30], [20, 30], [10, 30], [10, 20], [10, 10]]


def test_without_resampling_the_points_stay_as_they_were_predicted():
    (row,) = select(points((1, SQUARE[::-1], 0.0)), SHAPES, PseudoConfig(resample=False), 4)["points"]
    assert row == SQUARE[::-1]


def test_a_mask_that_vanishes_is_dropped_and_not_replaced_by_another():
    table = points((1, SQUARE, 0.0), (2, NOTHING, 2.0), (3, SQUARE, 0.0))
    kept = select(table, SHAPES, PseudoConfig(threshold=2.01), 4)
    assert kept["ref_id"].tolist() == [1, 3]
    assert select(points((2, NOTHING, 2.0)), SHAPES, PseudoConfig(threshold=2.01), 4).empty


def test_as_released_kept_points_are_every_so_many_pixels_and_may_be_too_few():
    (row,) = select(points((1, SQUARE, 0.0)), SHAPES, PseudoConfig(), 7, "released")["points"]
    assert row[:2] == [[10, 10], [10, 21]] and np.array(row).shape == (7, 2)  # every eleventh of the contour's 76
    (row,) = select(points((1, SQUARE, 0.0)), SHAPES, PseudoConfig(), 12, "released")["points"]
    assert np.isnan(np.array(row)[-1]).all() and np.isfinite(np.array(row)[:-1]).all()  # every seventh pixel: 11 points
    line = [[10.0, 10.0], [30.0, 10.0], [30.0, 11.0], [10.0, 11.0]]
    assert select(points((1, line, 0.0)), SHAPES, PseudoConfig(), 7, "released").empty
    assert len(select(points((1, line, 0.0)), SHAPES, PseudoConfig(), 7)) == 1


def test_none_kept_is_an_empty_table_with_its_columns():
    kept = select(points((1, SQUARE, 0.5)), SHAPES, PseudoConfig(threshold=0.1), 4)
    assert kept.empty and list(kept.columns) == ["ref_id", "points", "d"]
    assert select(points_table(SIZES.assign(bbox=None), []), SHAPES, PseudoConfig(), 4).empty


def test_candidates_are_the_unlabelled_refs_with_their_first_expression(data):
    table = data.split
    refs = candidates(table)
    unlabelled = table[~table["labelled"]]
    assert refs["ref_id"].tolist() == unlabelled["ref_id"].tolist() and len(refs) > 5
    assert refs["expressions"].tolist() == [[texts[0]] for texts in unlabelled["expressions"]]


def test_masks_of_unlabelled_refs_change_no_candidate_no_point_and_no_choice(data):
    def outcome(table):
        refs = candidates(table)
        predicted = [
            Prediction(n, "x", np.array(SQUARE) * [width / 80, height / 60], np.ones(8))
            for n, (height, width) in enumerate(zip(refs["height"], refs["width"], strict=True))
        ]
        made = points_table(refs, predicted)
        return made, select(made, table.set_index("ref_id")[["height", "width"]], PseudoConfig(threshold=1.5), 6)

    for plain, garbled in zip(outcome(data.split), outcome(noisy(data.split)), strict=True):
        pd.testing.assert_frame_equal(plain, garbled)
        assert len(plain)


def test_d_compares_the_filled_points_with_the_refs_own_box():
    refs = SIZES.assign(bbox=[[10, 10, 20, 20], [10, 10, 20, 40], [50, 40, 5, 5]])
    predicted = [Prediction(place, "x", np.array(SQUARE), np.full(8, 0.5)) for place in (2, 0, 1)]
    table = points_table(refs, predicted)
    assert table["ref_id"].tolist() == [2, 3, 1]
    assert table["d"].tolist() == [2.0, 0.0, pytest.approx(1 - 2 * 20 / 60)]
    assert table["probabilities"].tolist() == [[0.5] * 8] * 3


def test_points_that_span_nothing_are_as_far_as_can_be():
    refs = SIZES.assign(bbox=[[10, 10, 20, 20]] * 3)
    assert points_table(refs, [Prediction(0, "x", np.array(NOTHING), np.ones(8))])["d"].tolist() == [2]


def test_the_report_tells_how_good_kept_and_all_candidates_truly_are():
    truth = SIZES.assign(mask=[contour.encode(contour.fill(np.array(SQUARE), 60, 80))] * 2 + [None])
    table = points((1, SQUARE, 0.0), (2, SQUARE, 0.3), (3, NOTHING, 2.0))
    report = summarise([table.head(2), table.tail(1)], [table.head(1)], truth)
    assert (report["candidates"], report["kept"], report["kept_share"]) == (3, 1, pytest.approx(100 / 3))
    assert report["true_iou_kept"] == 100 and report["true_iou_all"] == 50  # ref 2 has no true mask
    assert report["mean_d"] == pytest.approx(2.3 / 3)
    nothing = summarise([table.head(0)], [], truth)
    assert (nothing["kept_share"], nothing["true_iou_all"], nothing["mean_d"]) == (0, None, 0)
