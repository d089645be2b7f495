"""Scores against a second, plain implementation on pixels."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from partialres import metrics

pairs = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)


def rle(mask):
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))


def predictions(masks, refs=None, box_ious=None):
    """Make a table of predictions from pairs of predicted and true masks."""
    areas = np.array([metrics.areas(*map(rle, pair)) for pair in masks])
    overlap = [metrics.iou(*map(rle, pair)) for pair in masks]
    return pd.DataFrame(
        {
            "ref_id": range(len(masks)) if refs is None else refs,
            "iou": overlap,
            "iou_upstream": overlap,
            "box_iou": np.zeros(len(masks)) if box_ious is None else box_ious,
            "intersection": areas[:, 0],
            "union": areas[:, 1],
        }
    )


@given(pairs)
def test_areas_are_counts_of_pixels(pair):
    first, second = pair
    expected = int((first & second).sum()), int((first | second).sum())
    assert metrics.areas(rle(first), rle(second)) == expected
    assert metrics.iou(rle(first), rle(second)) == (expected[0] / expected[1] if expected[1] else 0)


def test_two_empty_masks_score_nothing():
    empty = np.zeros((3, 3), dtype=bool)
    scores = metrics.summarise(predictions([(empty, empty)]))
    assert (scores["mIoU"], scores["oIoU"], scores["Pr@0.5"]) == (0, 0, 0)


@given(st.lists(pairs, min_size=1, max_size=6))
def test_scores_are_those_of_counting_pixels_pair_by_pair(masks):
    both = [int((predicted & true).sum()) for predicted, true in masks]
    either = [int((predicted | true).sum()) for predicted, true in masks]
    shares = [a / b if b else 0.0 for a, b in zip(both, either, strict=True)]
    scores = metrics.summarise(predictions(masks))
    assert scores["mIoU"] == pytest.approx(100 * sum(shares) / len(shares))
    assert scores["oIoU"] == pytest.approx(100 * sum(both) / max(1, sum(either)))
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9):
        above = sum(share >= threshold for share in shares)
        assert scores[f"Pr@{threshold}"] == pytest.approx(100 * above / len(shares))


def test_the_mean_counts_expressions_alike_and_the_overall_figure_counts_pixels():
    small, large = np.zeros((20, 20), dtype=bool), np.ones((20, 20), dtype=bool)
    small[0, 0] = True
    half = large.copy()
    half[:10] = False
    scores = metrics.summarise(predictions([(small, small), (half, large)]))
    assert scores["mIoU"] == pytest.approx(75)
    assert scores["oIoU"] == pytest.approx(100 * 201 / 401)


def test_a_threshold_that_is_just_reached_counts():
    line = np.ones((1, 10), dtype=bool)
    parts = [(np.arange(10)[None] < number, line) for number in (5, 6, 7, 8, 9)]
    scores = metrics.summarise(predictions(parts))
    assert [scores[f"Pr@{x}"] for x in metrics.THRESHOLDS] == [100, 80, 60, 40, 20]


def test_refs_are_counted_once_and_expressions_all():
    mask = np.ones((2, 2), dtype=bool)
    table = predictions([(mask, mask)] * 3, refs=[7, 7, 9], box_ious=[0.5, 0.49, 1.0])
    table["iou_upstream"] = [1.0, 0.5, 0.0]
    scores = metrics.summarise(table)
    assert (scores["expressions"], scores["refs"]) == (3, 2)
    assert scores["box_accuracy"] == pytest.approx(200 / 3) and scores["mIoU_upstream"] == pytest.approx(50)
    assert metrics.summarise_boxes(table) == {
        "expressions": 3, "refs": 2, "box_accuracy": pytest.approx(200 / 3), "mean_box_iou": pytest.approx(199 / 3),
    }  # fmt: skip


def test_the_keys_are_the_promised_ones_in_order():
    mask = np.ones((2, 2), dtype=bool)
    assert list(metrics.summarise(predictions([(mask, mask)]))) == [
        "expressions", "refs", "mIoU", "oIoU", "Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9", "box_accuracy",
        "mIoU_upstream",
    ]  # fmt: skip
