"""Masks to contour points and back."""

import numpy as np
import pytest

from partialres.geometry import contour


def disc(size=60, radius=20):
    y, x = np.mgrid[:size, :size]
    return (x - 31) ** 2 + (y - 27) ** 2 <= radius**2


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def test_points_are_evenly_spaced_clockwise_from_the_top_and_span_the_mask():
    points = contour.trace(disc(), 18)
    steps = np.hypot(*(np.roll(points, -1, axis=0) - points).T)
    assert points.shape == (18, 2) and contour.signed_area(points) > 0
    assert points[0, 1] == points[:, 1].min() and steps.std() < 0.1 * steps.mean()
    assert iou(contour.fill(points, 60, 60), disc()) > 0.93


def test_of_two_parts_the_larger_is_traced():
    mask = disc()
    mask[:3, :3] = True
    assert contour.trace(mask, 12).tolist() == contour.trace(disc(), 12).tolist()
    assert contour.trace_released(mask, 12).tolist() == contour.trace_released(disc(), 12).tolist()


def test_the_released_sampling_takes_every_nth_pixel_and_often_too_few():
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:12, 3:14] = True  # a contour of 32 pixels: every third gives 11 points
    points = contour.trace_released(mask, 12)
    assert points[:4].tolist() == [[3, 5], [3, 8], [3, 11], [6, 11]]
    assert np.isnan(points[11:]).all() and np.isfinite(points[:11]).all()
    assert contour.signed_area(points[:11]) < 0  # anticlockwise
    assert len(contour.trace(mask, 12)) == 12


def test_the_released_sampling_gives_nothing_for_a_line():
    mask = np.zeros((20, 20), dtype=bool)
    mask[5, 3:14] = True
    assert np.isnan(contour.trace_released(mask, 12)).all()
    assert contour.fill(contour.trace(mask, 12), 20, 20).any()


@pytest.mark.parametrize("trace", [contour.trace, contour.trace_released])
def test_an_empty_mask_has_no_contour(trace):
    with pytest.raises(ValueError, match="empty"):
        trace(np.zeros((5, 5), dtype=bool), 12)
