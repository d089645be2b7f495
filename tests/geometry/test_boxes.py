"""Boxes: corners, overlap and the image's edge."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from partialres.geometry import boxes

places = st.tuples(*[st.integers(-20, 60)] * 2, *[st.integers(0, 50)] * 2).map(lambda box: np.array(box) / 4)


@given(places)
def test_a_box_comes_back_from_its_corners_in_whatever_order(box):
    corners = boxes.to_corners(box)
    assert corners.tolist() == [[box[0], box[1]], [box[0] + box[2], box[1] + box[3]]]
    assert boxes.from_points(corners).tolist() == box.tolist()
    assert boxes.from_points(corners[::-1]).tolist() == box.tolist()
    other_diagonal = np.stack([corners[[0, 1], [0, 1]], corners[[1, 0], [0, 1]]])
    assert boxes.from_points(other_diagonal).tolist() == box.tolist()


@given(hnp.arrays(np.float64, (3, 7, 2), elements=st.integers(-50, 50)))
def test_the_box_of_points_is_the_smallest_that_holds_them(points):
    around = boxes.from_points(points)
    assert around.shape == (3, 4)
    for box, inside in zip(around, points, strict=True):
        assert box[:2].tolist() == inside.min(0).tolist() and (box[:2] + box[2:]).tolist() == inside.max(0).tolist()


@given(places, places)
def test_overlap_is_the_share_of_the_area_that_both_cover(first, second):
    left, right = (shapely.box(*boxes.to_corners(box).ravel()) for box in (first, second))
    union = left.union(right).area
    expected = left.intersection(right).area / union if union else 0
    assert boxes.iou(first, second) == pytest.approx(expected)
    assert boxes.iou(second, first) == boxes.iou(first, second)
    assert boxes.iou(first, first) == (1 if first[2] * first[3] else 0)


def test_overlap_is_taken_pair_by_pair():
    first = np.array([[0, 0, 2, 2], [0, 0, 2, 2], [5, 5, 0, 0]])
    second = np.array([[1, 0, 2, 2], [2, 0, 2, 2], [5, 5, 0, 0]])
    assert boxes.iou(first, second).tolist() == [pytest.approx(1 / 3), 0, 0]


@given(places, st.integers(1, 10), st.integers(1, 10))
def test_a_box_from_a_file_is_cut_to_its_part_inside_the_image(box, width, height):
    inside = shapely.box(*boxes.to_corners(box).ravel()).intersection(shapely.box(0, 0, width, height))
    cut = boxes.within(box.tolist(), height, width)
    if cut is None:
        assert inside.area == 0
        return
    assert cut[2] * cut[3] == pytest.approx(inside.area) and inside.area > 0
    corners = boxes.to_corners(np.array(cut))
    assert (corners >= 0).all() and (corners <= [width, height]).all()
    assert boxes.within(cut, height, width) == cut
