"""Coordinates as tokens."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from partialres.geometry import tokens


@given(st.integers(1, 2000), st.integers(2, 1000), st.floats(0, 1, exclude_max=True))
def test_a_coordinate_comes_back_within_half_a_bin(extent, bins, share):
    coordinate = share * extent
    there = tokens.quantise(np.array(coordinate), extent, bins)
    assert 0 <= there < bins
    half = extent / bins / 2 * (2 if coordinate > extent - extent / bins / 2 else 1)  # the last bin ends the frame
    assert abs(tokens.dequantise(there, extent, bins) - coordinate) <= half * (1 + 1e-9)


@given(st.integers(1, 2000), st.integers(2, 1000), st.data())
def test_the_start_of_a_bin_is_in_that_bin_however_it_is_rounded(extent, bins, data):
    number = data.draw(st.integers(0, bins - 1))
    if number * extent % bins == 0:  # a start that is a whole pixel
        for rounding in ("round", "truncate"):
            assert tokens.quantise(np.array(number * extent // bins), extent, bins, rounding) == number


def test_released_quantisation_truncates():
    assert tokens.quantise(np.array([1.4, 1.6, -0.2, 99.9]), 10, 10).tolist() == [1, 2, 0, 9]
    assert tokens.quantise(np.array([1.4, 1.6, -0.2, 99.9]), 10, 10, "truncate").tolist() == [1, 1, 0, 9]


def test_points_alternate_x_and_y_and_end_with_the_end():
    assert tokens.points_to_sequence(np.array([[1, 2], [3, 4]]), 10, 10).tolist() == [1, 2, 3, 4, 10]
    assert tokens.sequence_to_points(np.array([1, 2, 3, 4]), 10, 10).tolist() == [[1, 2], [3, 4]]


def test_points_that_are_not_there_become_end_tokens_and_are_the_last_point_again_on_the_way_back():
    points = np.array([[1, 2], [3, 4], [5, 6], [np.nan, np.nan]])
    sequence = tokens.points_to_sequence(points, 10, 10)
    assert sequence.tolist() == [1, 2, 3, 4, 5, 6, 10, 10, 10]
    assert tokens.sequence_to_points(sequence[:-1], 10, 10).tolist() == [[1, 2], [3, 4], [5, 6], [5, 6]]


def test_what_follows_an_early_end_does_not_count():
    sequences = np.array([[1, 2, 3, 10, 5, 6], [1, 2, 3, 4, 5, 6], [10, 2, 3, 4, 5, 6]])
    points = tokens.sequence_to_points(sequences, 10, 10)
    assert points[0].tolist() == [[1, 2]] * 3
    assert points[1].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert len(np.unique(points[2], axis=0)) == 1
