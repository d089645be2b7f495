"""Coordinates as tokens."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from partialres.geometry import tokens


def back(numbers, extent, bins):
    """The coordinates of bins, each decoded as a point's x and y."""
    points = tokens.sequence_to_points(np.stack([numbers, numbers], axis=-1), extent, bins)
    assert (points[..., 0] == points[..., 1]).all()
    return points[..., 0].reshape(np.shape(numbers))


@given(st.integers(1, 2000), st.integers(2, 1000), st.floats(0, 1, exclude_max=True))
def test_a_coordinate_comes_back_within_half_a_bin(extent, bins, share):
    coordinate = share * extent
    token = tokens.quantise(np.array(coordinate), extent, bins)
    assert 0 <= token < bins
    half = extent / bins / 2 * (2 if coordinate > extent - extent / bins / 2 else 1)  # the last bin ends the frame
    assert abs(back(token, extent, bins) - coordinate) <= half * (1 + 1e-9)


@given(st.integers(1, 2000), st.integers(2, 1000), st.data())
def test_the_start_of_a_bin_is_in_that_bin_however_it_is_rounded(extent, bins, data):
    number = data.draw(st.integers(0, bins - 1))
    if number * extent % bins == 0:  # a bin that starts at a whole pixel
        for rounding in ("round", "truncate"):
            assert tokens.quantise(np.array(number * extent // bins), extent, bins, rounding) == number


def test_released_quantisation_truncates():
    assert tokens.quantise(np.array([1.4, 1.6, -0.2, 99.9]), 10, 10).tolist() == [1, 2, 0, 9]
    assert tokens.quantise(np.array([1.4, 1.6, -0.2, 99.9]), 10, 10, "truncate").tolist() == [1, 1, 0, 9]


def test_points_alternate_x_and_y_and_end_with_the_end():
    assert tokens.points_to_sequence(np.array([[1, 2], [3, 4]]), 10, 10).tolist() == [1, 2, 3, 4, 10]
    assert tokens.sequence_to_points(np.array([1, 2, 3, 4]), 10, 10).tolist() == [[1, 2], [3, 4]]


def test_missing_points_become_end_tokens_and_come_back_as_the_last_point():
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


@given(st.floats(-1e4, 1e4), st.integers(1, 2000), st.integers(2, 1000), st.sampled_from(["round", "truncate"]))
def test_a_coordinate_outside_the_frame_is_the_first_or_the_last_bin(coordinate, extent, bins, rounding):
    token = int(tokens.quantise(np.array(coordinate), extent, bins, rounding))
    assert 0 <= token <= bins - 1
    if coordinate <= 0:
        assert token == 0
    if coordinate >= extent:
        assert token == bins - 1


@given(st.integers(1, 2000), st.integers(2, 1000), st.data())
def test_every_bin_comes_back_from_its_coordinate(extent, bins, data):
    numbers = np.array(data.draw(st.lists(st.integers(0, bins - 1), min_size=1, max_size=9)))
    assert (tokens.quantise(back(numbers, extent, bins), extent, bins) == numbers).all()


@given(st.integers(1, 20), st.integers(2, 500), st.integers(0, 2**32))
def test_points_come_back_from_their_sequence_within_half_a_bin(number, bins, seed):
    points = np.random.default_rng(seed).uniform(0, 640 - 640 / bins / 2, (number, 2))
    sequence = tokens.points_to_sequence(points, 640, bins)
    assert sequence.shape == (2 * number + 1,) and sequence[-1] == bins and sequence.dtype == np.int64
    assert np.abs(tokens.sequence_to_points(sequence[:-1], 640, bins) - points).max() <= 320 / bins * (1 + 1e-9)


def test_bins_may_span_another_length_on_each_axis():
    points = np.array([[320, 240], [640, 480.0]])
    sequence = tokens.points_to_sequence(points, np.array([640, 480]), 1000, "truncate")
    assert sequence.tolist() == [500, 500, 999, 999, 1000]
    assert tokens.sequence_to_points(np.array([500, 500]), np.array([640, 480]), 1000).tolist() == [[320, 240]]
    both = tokens.sequence_to_points(np.array([[500, 500]] * 2), np.array([[640, 480], [320, 640]]), 1000)
    assert both.tolist() == [[[320, 240]], [[160, 320]]]
