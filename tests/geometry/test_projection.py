"""The projection dice loss of a mask against a box (paper eq. 8)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from partialres.geometry.projection import dice, projection_dice_loss

SHAPE = (30, 40)
masks = hnp.arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8)))
blocks = st.tuples(st.integers(0, 39), st.integers(0, 29), st.integers(1, 40), st.integers(1, 30)).map(
    lambda block: (*block[:2], min(block[2], 40 - block[0]), min(block[3], 30 - block[1]))
)


def block(x, y, width, height, shape=(30, 40)):
    mask = np.zeros(shape, dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask


def test_it_is_0_where_the_shadows_are_equal_and_2_where_they_are_apart():
    ring = block(5, 6, 10, 8) & ~block(6, 7, 8, 6)
    assert projection_dice_loss(ring, np.array([5, 6, 10, 8])) == 0
    assert projection_dice_loss(ring, np.array([20, 20, 10, 8])) == 2
    assert projection_dice_loss(np.zeros((30, 40), dtype=bool), np.array([5, 6, 10, 8])) == 2


def test_each_axis_adds_one_minus_its_dice():
    # x: 10 against 20 pixels, 10 shared; y: equal
    assert projection_dice_loss(block(5, 6, 10, 8), np.array([5, 6, 20, 8])) == pytest.approx(1 - 2 * 10 / 30)


def test_the_released_code_truncates_corner_and_size_by_themselves():
    box = np.array([5.6, 6.0, 9.9, 8.0])  # 5.6 to 15.5 holds the centres of 6 to 15; the released code takes 5 to 13
    assert projection_dice_loss(block(6, 6, 10, 8), box) == pytest.approx(0)
    assert projection_dice_loss(block(5, 6, 9, 8), box, "truncate") == 0
    assert projection_dice_loss(block(6, 6, 10, 8), box, "truncate") == pytest.approx(1 - 2 * 8 / 19)


def test_a_box_outside_the_image_is_refused():
    with pytest.raises(ValueError, match="no area"):
        projection_dice_loss(block(5, 6, 10, 8), np.array([50, 6, 10, 8]))


@given(masks, st.data())
def test_it_lies_between_0_and_2_and_is_0_only_where_both_shadows_are_the_boxs(mask, data):
    height, width = mask.shape
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = [x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))]
    loss = projection_dice_loss(mask, np.array(box, dtype=float))
    filled = block(*box, shape=mask.shape)
    equal = all((mask.any(axis) == filled.any(axis)).all() for axis in (0, 1))
    assert 0 <= loss <= 2 and (loss == 0) == equal
    assert projection_dice_loss(mask.T, np.array(box, dtype=float)[[1, 0, 3, 2]]) == pytest.approx(loss)


@given(blocks, blocks)
def test_two_boxes_are_as_far_from_each_other_either_way(first, second):
    forth = projection_dice_loss(block(*first, shape=SHAPE), np.array(second, dtype=float))
    assert forth == pytest.approx(projection_dice_loss(block(*second, shape=SHAPE), np.array(first, dtype=float)))


def test_a_box_that_reaches_out_of_the_image_counts_inside_it_only():
    assert projection_dice_loss(block(0, 0, 10, 8), np.array([-3.0, -2.0, 13.0, 10.0])) == 0


def test_a_box_thinner_than_a_pixel_is_the_pixel_it_lies_in():
    assert projection_dice_loss(block(5, 6, 1, 8), np.array([5.1, 6.0, 0.3, 8.0])) == 0
    assert projection_dice_loss(block(39, 6, 1, 8), np.array([39.6, 6.0, 0.4, 8.0])) == 0


def test_two_empty_shadows_are_equal():
    nothing = np.zeros(4, dtype=bool)
    assert dice(nothing, nothing) == 1 and dice(nothing, ~nothing) == 0
