"""Which pseudo points are kept, and that nothing of the truth gets into them."""

import numpy as np
import pandas as pd
import pytest

from partialres import pseudo
from partialres.config import PseudoConfig
from partialres.evaluation import Prediction
from partialres.geometry import contour
from tests.tiny import noisy

SIZES = pd.DataFrame({"ref_id": [3, 1, 2], "height": [60, 60, 60], "width": [80, 80, 80]})
SQUARE = [[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]]
NOTHING = [[10.2, 10.2], [10.3, 10.2], [10.3, 10.3], [10.2, 10.3]]


def points(*rows):
    return pd.DataFrame(rows, columns=["ref_id", "points", "d"])


def test_a_mask_is_kept_where_d_is_below_the_threshold_and_not_at_it():
    table = points((1, SQUARE, 0.05), (2, SQUARE, 0.1), (3, SQUARE, 0.0999))
    kept = pseudo.select(table, SIZES, PseudoConfig(threshold=0.1), 4)
    assert kept["ref_id"].tolist() == [1, 3] and kept["d"].tolist() == [0.05, 0.0999]
    assert list(kept.columns) == ["ref_id", "points", "d", "weight"]


def test_kept_points_are_spaced_evenly_from_the_top_left_of_the_filled_mask():
    uneven = [[30.0, 30.0], [29.0, 30.0], [10.0, 30.0], [10.0, 10.0], [30.0, 10.0]]
    (row,) = pseudo.select(points((1, uneven, 0.0)), SIZES, PseudoConfig(), 8)["points"]
    assert row == [[10, 10], [20, 10], [30, 10], [30, 20], [30, 30], [20, 30], [10, 30], [10, 20]]


def test_without_resampling_the_points_stay_as_they_were_predicted():
    (row,) = pseudo.select(points((1, SQUARE[::-1], 0.0)), SIZES, PseudoConfig(resample=False), 4)["points"]
    assert row == SQUARE[::-1]


def test_a_mask_that_vanishes_is_dropped_and_not_replaced_by_another():
    table = points((1, SQUARE, 0.0), (2, NOTHING, 2.0), (3, SQUARE, 0.0))
    kept = pseudo.select(table, SIZES, PseudoConfig(threshold=2.01), 4)
    assert kept["ref_id"].tolist() == [1, 3]
    assert pseudo.select(points((2, NOTHING, 2.0)), SIZES, PseudoConfig(threshold=2.01), 4).empty


def test_as_released_kept_points_are_every_so_many_pixels_and_may_be_too_few():
    (row,) = pseudo.select(points((1, SQUARE, 0.0)), SIZES, PseudoConfig(), 7, "released")["points"]
    assert row[:2] == [[10, 10], [10, 21]] and np.array(row).shape == (7, 2)  # a contour of 76 pixels, every eleventh
    (row,) = pseudo.select(points((1, SQUARE, 0.0)), SIZES, PseudoConfig(), 12, "released")["points"]
    assert np.isnan(np.array(row)[-1]).all() and np.isfinite(np.array(row)[:-1]).all()  # every seventh: 11 points
    line = [[10.0, 10.0], [30.0, 10.0], [30.0, 11.0], [10.0, 11.0]]
    assert pseudo.select(points((1, line, 0.0)), SIZES, PseudoConfig(), 7, "released").empty
    assert len(pseudo.select(points((1, line, 0.0)), SIZES, PseudoConfig(), 7)) == 1


def test_none_kept_is_an_empty_table_with_its_columns():
    kept = pseudo.select(points((1, SQUARE, 0.5)), SIZES, PseudoConfig(threshold=0.1), 4)
    assert kept.empty and list(kept.columns) == ["ref_id", "points", "d", "weight"]
    assert pseudo.select(pseudo.points_table(SIZES.assign(bbox=None), []), SIZES, PseudoConfig(), 4).empty


def test_candidates_are_the_unlabelled_refs_with_one_expression_and_no_mask(data):
    table = data.split
    refs = pseudo.candidates(noisy(table))
    unlabelled = table[~table["labelled"]]
    assert refs["ref_id"].tolist() == unlabelled["ref_id"].tolist() and len(refs) > 5
    assert refs["expressions"].tolist() == [[many[0]] for many in unlabelled["expressions"]]
    assert not {"mask", "parts"} & set(refs.columns)


def test_masks_of_unlabelled_refs_change_no_candidate_no_point_and_no_choice(data):
    def outcome(table):
        refs = pseudo.candidates(table)
        found = [
            Prediction(n, "x", np.array(SQUARE) * [width / 80, height / 60], np.ones(8))
            for n, (height, width) in enumerate(zip(refs["height"], refs["width"], strict=True))
        ]
        made = pseudo.points_table(refs, found)
        return made, pseudo.select(made, table[["ref_id", "height", "width"]], PseudoConfig(threshold=1.5), 6)

    for plain, garbled in zip(outcome(data.split), outcome(noisy(data.split)), strict=True):
        pd.testing.assert_frame_equal(plain, garbled)
        assert len(plain)


def test_d_compares_the_filled_points_with_the_refs_own_box():
    refs = SIZES.assign(bbox=[[10, 10, 20, 20], [10, 10, 20, 40], [50, 40, 5, 5]])
    found = [Prediction(place, "x", np.array(SQUARE), np.full(8, 0.5)) for place in (2, 0, 1)]
    table = pseudo.points_table(refs, found)
    assert table["ref_id"].tolist() == [2, 3, 1]
    assert table["d"].tolist() == [2.0, 0.0, pytest.approx(1 - 2 * 20 / 60)]
    assert table["probabilities"].tolist() == [[0.5] * 8] * 3


def test_points_that_span_nothing_are_as_far_as_can_be():
    refs = SIZES.assign(bbox=[[10, 10, 20, 20]] * 3)
    assert pseudo.points_table(refs, [Prediction(0, "x", np.array(NOTHING), np.ones(8))])["d"].tolist() == [2]


def test_the_report_tells_how_good_kept_and_all_candidates_truly_are():
    truth = SIZES.assign(mask=[contour.encode(contour.fill(np.array(SQUARE), 60, 80))] * 2 + [None])
    table = points((1, SQUARE, 0.0), (2, SQUARE, 0.3), (3, NOTHING, 2.0))
    report = pseudo.summarise(table, table.head(1), truth)
    assert (report["candidates"], report["kept"], report["kept_share"]) == (3, 1, pytest.approx(100 / 3))
    assert report["true_iou_kept"] == 100 and report["true_iou_all"] == 50  # ref 2 has no true mask
    assert report["mean_d"] == pytest.approx(2.3 / 3)
    nothing = pseudo.summarise(table.head(0), table.head(0), truth)
    assert (nothing["kept_share"], nothing["true_iou_all"], nothing["mean_d"]) == (0, 0, 0)


def test_of_a_refs_contours_the_one_nearest_to_the_box_is_taken():
    refs = pd.DataFrame({"ref_id": [7, 8], "bbox": [[10, 10, 20, 20]] * 2, "height": 60, "width": 80})
    far, near = np.array(SQUARE) + 5, np.array(SQUARE) + 1
    found = [Prediction(1, "a", far, np.ones(8)), Prediction(0, "b", near, np.ones(8)),
             Prediction(1, "c", near, np.ones(8)), Prediction(1, "d", near, np.ones(8))]  # fmt: skip
    table = pseudo.points_table(refs, found)
    assert table[["ref_id", "expression"]].to_numpy().tolist() == [[7, "b"], [8, "c"]]
    assert (
        len(pseudo.candidates(refs.assign(labelled=False, expressions=[["a", "b"]] * 2), "all")["expressions"][0]) == 2
    )


def test_kept_masks_weigh_alike_or_by_how_sure_their_tokens_were():
    table = points((1, SQUARE, 0.0), (2, SQUARE, 0.0), (3, SQUARE, 1.0))
    table["probabilities"] = [[0.25] * 8, [1.0, 0.25] * 4, [1.0] * 8]
    assert pseudo.select(table, SIZES, PseudoConfig(), 4)["weight"].tolist() == [1, 1]
    weights = pseudo.select(table, SIZES, PseudoConfig(weight="probability"), 4)["weight"]
    assert weights.tolist() == pytest.approx([0.25 / 0.375, 0.5 / 0.375])
