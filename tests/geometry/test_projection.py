"""The projection dice loss of a mask against a box (paper eq. 8)."""

import numpy as np
import pytest

from partialres.geometry.projection import projection_dice_loss


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
    box = np.array([5.6, 6.0, 9.9, 8.0])  # 5.6 to 15.5: centres of pixels 6 to 15; as released 5 to 13
    assert projection_dice_loss(block(6, 6, 10, 8), box) == pytest.approx(0)
    assert projection_dice_loss(block(5, 6, 9, 8), box, "truncate") == 0
    assert projection_dice_loss(block(6, 6, 10, 8), box, "truncate") == pytest.approx(1 - 2 * 8 / 19)


def test_a_box_outside_the_image_is_refused():
    with pytest.raises(ValueError, match="no area"):
        projection_dice_loss(block(5, 6, 10, 8), np.array([50, 6, 10, 8]))
