"""Large-scale jitter: image, box, mask and contour change alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import Polygon, hausdorff_distance

from partialres.data.jitter import OVERLAPS, View, draw_view, whole_view
from partialres.geometry import contour

SIZE = 96
seeds = st.integers(0, 2**32 - 1)


def ellipse(height, width, seed):
    """A mask of one ellipse that reaches at least 24 pixels and may touch the image's edges."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0.2, 0.8, 2) * (width, height)
    radii = rng.uniform(12, 0.6 * min(height, width), 2)
    y, x = np.mgrid[:height, :width] + 0.5
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1


@st.composite
def scenes(draw):
    """An image's height and width, a mask of an ellipse in it, and a view, its long side SIZE times a factor."""
    long, short, upright = draw(st.integers(60, 200)), draw(st.floats(0.5, 1)), draw(st.booleans())
    height, width = (long, max(40, round(long * short)))[:: 1 if upright else -1]
    mask = ellipse(height, width, draw(seeds))
    tall, wide = max(1, round(height * SIZE / long)), max(1, round(width * SIZE / long))
    view = draw_view(np.random.default_rng(draw(seeds)), tall, wide, SIZE, (0.3, 1.4), corners(mask, tall, wide))
    return height, width, mask, view


def corners(mask, tall, wide):
    outline = contour.largest_outline(mask) * (wide / mask.shape[1], tall / mask.shape[0])
    return np.stack([outline.min(axis=0), outline.max(axis=0)])


@given(scenes())
def test_a_mask_transformed_then_traced_is_the_trace_transformed_within_a_pixel(scene):
    height, width, mask, view = scene
    seen = view.mask(mask)
    assert seen.shape == view.shape
    first = Polygon(contour.largest_outline(seen)).exterior
    moved = contour.cut(view.points(contour.largest_outline(mask), height, width), *view.shape)
    second = Polygon(moved).exterior
    # one pixel of the view or, where that is larger, of the original, whose steps the view shows enlarged
    grain = max(1.0, view.width / width, view.height / height)
    assert hausdorff_distance(first, second, densify=0.02) <= grain * 2**0.5  # one along x and one along y


@given(scenes())
def test_a_box_in_a_view_is_its_masks_box_there_within_a_pixel(scene):
    height, width, mask, view = scene
    outline = contour.largest_outline(mask)
    box = view.box(np.stack([outline.min(axis=0), outline.max(axis=0)]), height, width)
    rows, columns = np.nonzero(view.mask(mask))
    found = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]])
    assert np.abs(box - found).max() <= max(1.0, view.width / width, view.height / height) + 0.5


@given(scenes())
def test_an_image_moves_with_its_mask(scene):
    _, _, mask, view = scene
    image = view.image(np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2))
    assert image.shape == (*view.shape, 3) and image.dtype == np.uint8
    sure = (image[..., 0] < 20) | (image[..., 0] > 235)  # away from the object's edge
    assert (view.mask(mask) == (image[..., 0] > 127))[sure].all()


@given(scenes())
def test_a_view_fits_the_frame_and_lies_in_the_image(scene):
    height, width, _, view = scene
    assert max(view.shape) <= SIZE and min(view.shape) >= 1
    assert 0 <= view.x <= view.width - view.shape[1] and 0 <= view.y <= view.height - view.shape[0]
    assert 0.3 * SIZE - 1 <= max(view.height, view.width) <= 1.4 * SIZE + 1
    assert abs(view.height / view.width - height / width) <= 2 * max(view.height, view.width) / view.width**2 + 0.05
    if max(view.height, view.width) <= SIZE:
        assert (view.x, view.y) == (0, 0) and not view.crops


@given(st.integers(20, SIZE), st.floats(1.05, 1.4), seeds)
def test_a_crop_holds_at_least_half_of_the_object_wherever_that_is_possible(side, factor, seed):
    rng = np.random.default_rng(seed)
    start, end = np.sort(rng.uniform(0, 1, (2, 2)), axis=0) * (SIZE, side)
    start = np.minimum(start, (SIZE - 1, side - 1))
    corners = np.stack([start, np.maximum(end, start + 1)])  # in the image, at least a pixel large
    view = draw_view(rng, side, SIZE, SIZE, (factor, factor), corners)
    box, inside = view.points(corners, side, SIZE), view.box(corners, side, SIZE)
    share = np.prod(inside[1] - inside[0]) / np.prod(box[1] - box[0])
    assert share >= min(OVERLAPS) - 1e-6


def test_scales_and_crops_are_spread_over_their_ranges():
    corners = np.array([[40.0, 40.0], [50.0, 50.0]])
    views = [draw_view(np.random.default_rng([0, n]), 96, 96, SIZE, (0.3, 1.4), corners) for n in range(400)]
    factors = np.array([view.width for view in views]) / SIZE
    assert factors.min() < 0.33 and factors.max() > 1.37 and abs(factors.mean() - 0.85) < 0.06
    large = [view for view in views if view.width > 1.3 * SIZE]
    assert len({view.x for view in large}) > 10 and len({view.y for view in large}) > 10


def test_the_same_generator_draws_the_same_view():
    box = np.array([[10.0, 10.0], [60.0, 40.0]])
    first, second = (draw_view(np.random.default_rng([1, 2, 3]), 64, 96, SIZE, (1.2, 1.4), box) for _ in range(2))
    assert first == second and first.crops


def test_without_a_change_of_size_nothing_changes():
    image = np.random.default_rng(0).integers(0, 256, (60, 96, 3), dtype=np.uint8)
    view = whole_view(60, 96, SIZE)
    assert view == View(60, 96, SIZE, 0, 0) and (view.image(image) == image).all()
    assert (view.mask(image[..., 0] > 99) == (image[..., 0] > 99)).all()
    assert view.points(np.array([[3.5, 7.25]]), 60, 96).tolist() == [[3.5, 7.25]]


@pytest.mark.parametrize(
    ("outline", "area"),
    [
        ([[1, 1], [5, 1], [5, 5], [1, 5]], 16),  # inside
        ([[-5, 2], [5, 2], [5, 4], [-5, 4]], 10),  # half of it
        ([[-9, -9], [30, -9], [30, 30], [-9, 30]], 80),  # around all of the window
        ([[-2, 1], [3, 1], [3, 6], [7, 6], [7, 9], [-2, 9], [-2, 8], [-1, 8], [-1, 2], [-2, 2]], None),
        ([[0, 0], [6, 6], [6, 0], [0, 6]], 9),  # crosses itself: the larger lobe
    ],
)
def test_a_cut_outline_is_the_largest_part_in_the_window_clockwise_from_its_top(outline, area):
    inside = contour.cut(np.array(outline, dtype=float), height=8, width=10)
    assert (inside >= 0).all() and (inside <= (10, 8)).all()
    found = contour.signed_area(inside)
    assert found > 0 and (area is None or found == pytest.approx(area))
    top = inside[inside[:, 1] == inside[:, 1].min()]
    assert inside[0].tolist() == top[top[:, 0].argmin()].tolist()


def test_of_an_outline_beside_the_window_nothing_is_left():
    beside = np.array([[12.0, 1], [15, 1], [15, 5]])
    assert contour.cut(beside, height=8, width=10) is None
    touching = np.array([[10.0, 1], [15, 1], [15, 5], [10, 5]])
    assert contour.cut(touching, height=8, width=10) is None
