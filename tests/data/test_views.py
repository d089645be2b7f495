"""Windows (the whole image, a box's surroundings, large-scale jitter): pixels, boxes, masks and contours agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import Polygon, hausdorff_distance

from partialres.data.images import resize
from partialres.data.views import OVERLAPS, around, jittered, whole
from partialres.geometry import contour
from tests.tiny import shown

SIZE = 96
seeds = st.integers(0, 2**32 - 1)
sides, shares = st.integers(8, 90), st.floats(0.05, 1)


def cut_box(window, corners):
    """The part of a box (corners [2, 2] in the file's pixels) that a window shows, in pixels of the frame."""
    return np.clip(window.to_frame(corners), 0, window.shape[::-1])


def corners_of(mask):
    outline = contour.largest_outline(mask)
    return np.stack([outline.min(axis=0), outline.max(axis=0)])


def test_the_whole_image_is_seen_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (60, 96, 3), dtype=np.uint8)
    view = whole((60, 96), (60, 96), SIZE)
    assert view.shape == (60, 96) and not view.cuts and (view.image(image) == image).all()
    assert view.to_frame(np.array([[3.5, 7.25]])).tolist() == [[3.5, 7.25]]
    smaller = whole((120, 192), (60, 96), SIZE)
    assert smaller.to_frame(np.array([[3.5, 7.25]])).tolist() == [[1.75, 3.625]]
    assert smaller.to_file(np.array([[1.75, 3.625]])).tolist() == [[3.5, 7.25]]


def test_an_axis_is_divided_over_the_frame_or_as_released_over_what_is_seen_in_whole_strides():
    view = whole((50, 96), (50, 96), SIZE)
    assert view.extent("frame", 16).tolist() == [96, 96] and view.extent("image", 16).tolist() == [96, 64]


# ------------------------------------------------------------------------------------------- the surroundings of a box


@given(sides, sides, sides, sides, st.floats(0, 0.8), st.floats(0, 0.8), shares, shares, st.none() | seeds)
def test_the_surroundings_hold_the_box_and_points_come_back_from_them(
    file_height, file_width, height, width, x, y, w, h, seed
):
    corners = np.array([[x, y], [min(1, x + w), min(1, y + h)]]) * (file_width, file_height)
    rng = None if seed is None else np.random.default_rng(seed)
    window = around(whole((file_height, file_width), (height, width), SIZE), corners, rng)
    left, top, right, bottom = window.region
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert max(window.shape) == SIZE and not window.cuts
    inside = window.to_frame(corners)
    assert (inside >= -1e-6).all() and (inside <= np.array(window.shape[::-1]) + 1e-6).all()
    np.testing.assert_allclose(window.to_file(inside), corners, atol=1e-6)


def test_margins_are_shares_of_the_longer_side():
    window = around(whole((100, 100), (100, 100), 64), np.array([[40.0, 40.0], [60.0, 50.0]]))
    assert window.region == (34, 34, 66, 56) and window.shape == (44, 64)
    np.testing.assert_allclose(window.to_frame(np.array([[34.0, 34.0], [66.0, 56.0]])), [[0, 0], [64, 44]])


def test_the_pixels_of_the_surroundings_are_the_regions():
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[10:20, 10:20] = 255
    window = around(whole((40, 40), (40, 40), 64), np.array([[10.0, 10.0], [20.0, 20.0]]))
    left, top, right, bottom = window.region
    seen = window.image(image)
    assert seen.shape == (*window.shape, 3)
    assert (seen > 127).mean() == pytest.approx(100 / (right - left) / (bottom - top), rel=0.1)


# -------------------------------------------------------------------------------------------------- large-scale jitter


def ellipse(height, width, seed):
    """A mask of one ellipse, at least 24 pixels long and wide, which the image's edges may cut."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0.2, 0.8, 2) * (width, height)
    radii = rng.uniform(12, 0.6 * min(height, width), 2)
    y, x = np.mgrid[:height, :width] + 0.5
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1


@st.composite
def scenes(draw):
    """The mask of an ellipse in an image, and a window on the image whose long side is SIZE times a factor."""
    long, short, upright = draw(st.integers(60, 200)), draw(st.floats(0.5, 1)), draw(st.booleans())
    height, width = (long, max(40, round(long * short)))[:: 1 if upright else -1]
    mask = ellipse(height, width, draw(seeds))
    cached = max(1, round(height * SIZE / long)), max(1, round(width * SIZE / long))
    view = whole((height, width), cached, SIZE)
    return mask, jittered(view, corners_of(mask), (0.3, 1.4), np.random.default_rng(draw(seeds)))


def grain(window):
    """The tolerance: a pixel of the frame or, if larger, one of the file, which an enlarging window makes a step."""
    return max(1.0, *(np.array(window.resized) / window.file_size))


@given(scenes())
def test_a_mask_transformed_then_traced_is_the_trace_transformed_within_a_pixel(scene):
    mask, window = scene
    seen = shown(window, mask)
    assert seen.shape == window.shape
    traced = Polygon(contour.largest_outline(seen)).exterior
    moved = Polygon(contour.cut(window.to_frame(contour.largest_outline(mask)), *window.shape)).exterior
    assert hausdorff_distance(traced, moved, densify=0.02) <= grain(window) * 2**0.5  # one along x and one along y


@given(scenes())
def test_a_box_in_a_window_is_its_masks_box_there_within_a_pixel(scene):
    mask, window = scene
    rows, columns = np.nonzero(shown(window, mask))
    expected = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]])
    assert np.abs(cut_box(window, corners_of(mask)) - expected).max() <= grain(window) + 0.5


@given(scenes())
def test_an_image_moves_with_its_mask(scene):
    mask, window = scene
    image = resize(np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2), *window.cached_size)
    seen = window.image(image)
    assert seen.shape == (*window.shape, 3) and seen.dtype == np.uint8
    clear = (seen[..., 0] < 20) | (seen[..., 0] > 235)  # away from the object's edge
    assert (shown(window, mask) == (seen[..., 0] > 127))[clear].all()


@given(scenes())
def test_a_jittered_window_fits_the_frame_and_lies_in_the_image(scene):
    mask, window = scene
    (tall, wide), (height, width), (x, y) = window.resized, window.shape, window.offset
    assert max(height, width) <= SIZE and min(height, width) >= 1
    assert 0 <= x <= wide - width and 0 <= y <= tall - height
    assert 0.3 * SIZE - 1 <= max(tall, wide) <= 1.4 * SIZE + 1
    assert abs(tall / wide - mask.shape[0] / mask.shape[1]) <= 2 * max(tall, wide) / wide**2 + 0.05
    if max(tall, wide) <= SIZE:
        assert (x, y) == (0, 0) and not window.cuts
    np.testing.assert_allclose(window.to_file(window.to_frame(corners_of(mask))), corners_of(mask), atol=1e-6)


@given(st.integers(20, SIZE), st.floats(1.05, 1.4), seeds)
def test_a_cut_window_holds_at_least_half_of_the_object_wherever_that_is_possible(side, factor, seed):
    rng = np.random.default_rng(seed)
    start, end = np.sort(rng.uniform(0, 1, (2, 2)), axis=0) * (SIZE, side)
    start = np.minimum(start, (SIZE - 1, side - 1))
    corners = np.stack([start, np.maximum(end, start + 1)])  # inside the image and at least a pixel large
    window = jittered(whole((side, SIZE), (side, SIZE), SIZE), corners, (factor, factor), rng)
    box, inside = window.to_frame(corners), cut_box(window, corners)
    assert np.prod(inside[1] - inside[0]) / np.prod(box[1] - box[0]) >= min(OVERLAPS) - 1e-6


def test_scales_and_offsets_are_spread_over_their_ranges_and_decided_by_the_generator():
    view, corners = whole((96, 96), (96, 96), SIZE), np.array([[40.0, 40.0], [50.0, 50.0]])
    windows = [jittered(view, corners, (0.3, 1.4), np.random.default_rng([0, n])) for n in range(400)]
    factors = np.array([window.resized[1] for window in windows]) / SIZE
    assert factors.min() < 0.33 and factors.max() > 1.37 and abs(factors.mean() - 0.85) < 0.06
    large = [window for window in windows if window.resized[1] > 1.3 * SIZE]
    assert all(len({window.offset[axis] for window in large}) > 10 for axis in (0, 1))
    assert windows[7] == jittered(view, corners, (0.3, 1.4), np.random.default_rng([0, 7]))


def test_nine_tenths_of_the_object_are_held_where_a_window_can():
    view, corners = whole((96, 96), (96, 96), SIZE), np.array([[0.0, 40.0], [20.0, 50.0]])
    for n in range(50):
        window = jittered(view, corners, (1.3, 1.4), np.random.default_rng([0, n]))
        box, inside = window.to_frame(corners), cut_box(window, corners)
        assert np.prod(inside[1] - inside[0]) >= 0.9 * np.prod(box[1] - box[0]) - 1e-6


@given(scenes())
def test_a_window_knows_the_share_of_a_box_that_it_shows(scene):
    mask, window = scene
    corners = corners_of(mask)
    box, inside = window.to_frame(corners), cut_box(window, corners)
    assert abs(window.share(corners) - np.prod(inside[1] - inside[0]) / np.prod(box[1] - box[0])) < 1e-6
    assert window.share(corners + 2 * max(mask.shape)) == 0
