"""Windows around boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialres.data.crop import around, whole

sides = st.integers(8, 90)


@given(
    sides,
    sides,
    st.floats(0, 0.8),
    st.floats(0, 0.8),
    st.floats(0.05, 1),
    st.floats(0.05, 1),
    st.none() | st.integers(0, 9),
)
def test_a_window_holds_its_box_and_points_come_back_from_it(height, width, x, y, w, h, seed):
    scale = (0.5, 0.75)
    corners = np.array([[x * width, y * height], [min(1, x + w) * width, min(1, y + h) * height]]) / scale
    rng = None if seed is None else np.random.default_rng(seed)
    crop = around(corners, (height, width), 96, scale, rng)
    assert 0 <= crop.left < crop.right <= width and 0 <= crop.top < crop.bottom <= height
    assert max(crop.shape) == 96
    inside = crop.points(corners)
    assert (inside >= -1e-6).all() and (inside <= np.array(crop.shape[::-1]) + 1e-6).all()
    np.testing.assert_allclose(crop.original(inside), corners, atol=1e-6)


def test_margins_are_shares_of_the_longer_side():
    crop = around(np.array([[40.0, 40.0], [60.0, 50.0]]), (100, 100), 64, (1.0, 1.0))
    assert (crop.left, crop.top, crop.right, crop.bottom) == (34, 34, 66, 56)
    assert crop.shape == (44, 64)
    np.testing.assert_allclose(crop.points(np.array([[34.0, 34.0], [66.0, 56.0]])), [[0, 0], [64, 44]])


def test_the_pixels_are_the_windows():
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[10:20, 10:20] = 255
    crop = around(np.array([[10.0, 10.0], [20.0, 20.0]]), (40, 40), 64, (1.0, 1.0))
    seen = crop.image(image)
    assert seen.shape == (*crop.shape, 3)
    share = (10 / (crop.right - crop.left)) * (10 / (crop.bottom - crop.top))
    assert (seen > 127).mean() == pytest.approx(share, rel=0.1)
    assert (whole((40, 40), 40, (1.0, 1.0)).image(image) == image).all()
