"""CCTF (eq. 3-5) against plain loops."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from partialres.config import UpstreamConfig
from partialres.model.cctf import AxisMeans, axis_means, pointed_features


def test_means_are_those_of_a_plain_loop_over_the_positions_that_count():
    torch.manual_seed(0)
    features, valid = torch.randn(2, 3, 5, 4), torch.rand(2, 3, 5) < 0.6
    valid[1, :, 2] = valid[1, 0] = False
    means = axis_means(features, valid)
    for image in range(2):
        for x in range(5):
            counted = [features[image, y, x] for y in range(3) if valid[image, y, x]]
            expected = sum(counted) / len(counted) if counted else torch.zeros(4)
            torch.testing.assert_close(means.columns[image, x], expected)
        for y in range(3):
            counted = [features[image, y, x] for x in range(5) if valid[image, y, x]]
            expected = sum(counted) / len(counted) if counted else torch.zeros(4)
            torch.testing.assert_close(means.rows[image, y], expected)


# 50 bins over 5 columns and 3 rows: 10 bins per column, 16.7 per row. Column x has the feature x, row y 100 + y.
@pytest.mark.parametrize(
    ("settings", "tokens", "pointed"),
    [
        ({}, [0, 0], [0, 100]),
        ({}, [9, 16], [0, 100]),
        ({}, [10, 17], [1, 101]),
        ({}, [49, 49], [4, 102]),
        ({}, [50, 50], [4, 102]),
        ({"cctf_axes": "transposed"}, [10, 17], [100, 1]),
        ({"cctf_axes": "transposed"}, [49, 49], [102, 4]),
        ({"cctf_cells": "spread"}, [12, 24], [0, 100]),
        ({"cctf_cells": "spread"}, [13, 25], [1, 101]),
        ({"cctf_cells": "spread"}, [49, 50], [3, 102]),
    ],
)
def test_x_looks_up_its_column_and_y_its_row(settings, tokens, pointed):
    means = AxisMeans(columns=torch.arange(5.0)[None, :, None], rows=100 + torch.arange(3.0)[None, :, None])
    sequence, upstream = torch.tensor([tokens * 2]), UpstreamConfig(**settings)
    assert pointed_features(sequence, 0, means, 50, upstream)[0, :, 0].tolist() == pointed * 2
    assert pointed_features(sequence[:, 1:], 1, means, 50, upstream)[0, :, 0].tolist() == (pointed * 2)[1:]


@given(st.data(), st.integers(2, 40), st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.booleans())
def test_a_token_points_at_the_cell_that_contains_its_coordinate(data, bins, width, height, first, transposed):
    rows = data.draw(st.lists(st.lists(st.integers(0, bins), min_size=3, max_size=3), min_size=1, max_size=3))
    generator = torch.Generator().manual_seed(0)
    means = AxisMeans(*(torch.randn(len(rows), cells, 2, generator=generator) for cells in (width, height)))
    upstream = UpstreamConfig(cctf_axes="transposed" if transposed else "paper")
    pointed = pointed_features(torch.tensor(rows), first, means, bins, upstream)
    for row, tokens in enumerate(rows):
        for place, token in enumerate(tokens):
            is_x = (first + place) % 2 == 0
            axis = (means.columns if is_x != transposed else means.rows)[row]
            edges = [Fraction(cell, len(axis)) for cell in range(len(axis))]
            cell = max(cell for cell, edge in enumerate(edges) if edge <= Fraction(token, bins))
            assert torch.equal(pointed[row, place], axis[cell])
