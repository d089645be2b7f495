"""Masks to contour points and back."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from partialres.geometry import contour

masks = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(np.any)
polygons = hnp.arrays(np.float64, st.tuples(st.integers(2, 9), st.just(2)), elements=st.integers(0, 50))


def disc(size=60, radius=20):
    y, x = np.mgrid[:size, :size]
    return (x - 31) ** 2 + (y - 27) ** 2 <= radius**2


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def test_points_are_evenly_spaced_clockwise_from_the_top_and_span_the_mask():
    points = contour.trace(disc(), 18)
    steps = np.hypot(*(np.roll(points, -1, axis=0) - points).T)
    assert points.shape == (18, 2) and contour.signed_area(points) > 0
    assert points[0].tolist() == [31.5, 7] and steps.std() < 0.1 * steps.mean()
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


def test_the_sampling_chooses_between_the_two():
    for sampling, trace in (("uniform", contour.trace), ("released", contour.trace_released)):
        assert contour.sample(disc(), 12, sampling).tolist() == trace(disc(), 12).tolist()


def test_missing_points_do_not_change_the_polygon():
    square = np.array([[3.0, 3], [9, 3], [9, 9], [3, 9]])
    gone = np.full((3, 2), np.nan)
    assert (contour.fill(np.vstack([square, gone]), 20, 20) == contour.fill(square, 20, 20)).all()
    assert not contour.fill(np.vstack([square[:2], gone]), 20, 20).any()
    assert not contour.fill(gone, 20, 20).any()


@pytest.mark.parametrize("trace", [contour.trace, contour.trace_released, lambda mask, _: contour.window(mask)])
def test_an_empty_mask_has_no_contour(trace):
    with pytest.raises(ValueError, match="empty"):
        trace(np.zeros((5, 5), dtype=bool), 12)


@given(masks)
def test_a_window_holds_the_whole_mask_and_no_empty_row_or_column_around_it(mask):
    part, (x, y) = contour.window(mask)
    whole = np.zeros_like(mask)
    whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    assert (whole == mask).all() and all(part[edge].any() for edge in (0, -1, np.s_[:, 0], np.s_[:, -1]))
    assert contour.trace(part, 9) == pytest.approx(contour.trace(mask, 9) - (x, y))


def parts(mask):
    """Every part of a mask (8-connected), with its holes filled."""
    number, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    for part in range(1, number):
        _, outside = cv2.connectedComponents((np.pad(labels, 1) != part).astype(np.uint8), connectivity=4)
        yield (outside != outside[0, 0])[1:-1, 1:-1]


@given(masks)
def test_the_outline_filled_is_the_largest_part_to_the_pixel(mask):
    filled = contour.fill(contour.largest_outline(mask), *mask.shape)
    assert any((filled == part).all() for part in parts(mask))
    assert filled.sum() == max(part.sum() for part in parts(mask))


@given(masks)
def test_the_outline_is_clockwise_and_stays_in_the_image(mask):
    outline = contour.largest_outline(mask)
    assert contour.signed_area(outline) > 0
    assert (outline >= 0).all() and (outline <= mask.shape[::-1]).all()


@given(masks)
def test_points_start_at_the_topmost_point_of_the_outline_above_the_middle_of_its_box(mask):
    outline = contour.largest_outline(mask)
    x, y = contour.trace(mask, 5)[0]
    left, top, right, bottom = shapely.Polygon(outline).bounds
    vertical = shapely.LineString([((left + right) / 2, top - 1), ((left + right) / 2, bottom + 1)])
    assert x == (left + right) / 2
    assert y == pytest.approx(vertical.intersection(shapely.Polygon(outline)).bounds[1])


@given(masks)
def test_a_contour_with_another_start_is_the_same_line_with_at_most_the_start_more(mask):
    outline = contour.largest_outline(mask)
    turned = contour.from_above(outline)
    corners = list(map(tuple, turned))
    rest = corners if len(turned) == len(outline) else corners[1:]
    first = list(map(tuple, outline)).index(rest[0])
    assert rest == list(map(tuple, np.roll(outline, -first, axis=0)))
    assert shapely.LineString([*outline, outline[0]]).distance(shapely.Point(turned[0])) < 1e-9


def test_the_start_moves_a_little_when_an_object_turns_a_little():
    square = np.array([[-10.0, -10], [10, -10], [10, 10], [-10, 10]])
    starts = []
    for angle in np.linspace(0, np.pi / 2, 91):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        starts.append(contour.from_above(square @ turn)[0])
    assert np.hypot(*np.diff(starts, axis=0).T).max() < 0.5


def grown(mask):
    """The outline, by growing polygons: a quarter of a pixel outwards, through the quarters of the outermost pixels."""
    doubled = np.kron(mask, np.ones((2, 2))).astype(np.uint8)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = [shapely.Polygon((part[:, 0] + 0.5) / 2).buffer(0.25, join_style="mitre") for part in contours]
    return max(parts, key=lambda part: (round(part.area, 6), part.bounds[1], part.bounds[0]))


@given(st.one_of(masks, hnp.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))).filter(np.any)))
def test_the_outline_is_that_of_quarter_pixels_grown_by_a_quarter(mask):
    expected = np.array(grown(mask).exterior.coords)[:-1]
    outline = contour.largest_outline(mask)
    assert len(outline) == len(expected)
    turned = expected if contour.signed_area(expected) > 0 else expected[::-1]
    start = np.argmin(np.abs(turned - outline[0]).sum(axis=1))
    np.testing.assert_allclose(np.roll(turned, -start, axis=0), outline, rtol=0, atol=1e-9)


def test_of_parts_of_one_size_the_lowest_is_traced():
    mask = np.zeros((12, 20), dtype=bool)
    mask[1:3, 15:18] = mask[6:8, 9:12] = mask[6:8, 3:6] = True
    assert contour.largest_outline(mask).min(axis=0).tolist() == [9, 6]
    assert contour.largest_outline(mask[:6]).min(axis=0).tolist() == [15, 1]


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1), (7, 9)])
def test_a_mask_that_fills_the_image_has_the_images_edge_as_its_outline(shape):
    height, width = shape
    outline = contour.largest_outline(np.ones(shape, dtype=bool))
    assert sorted(outline.tolist()) == sorted([[0, 0], [width, 0], [width, height], [0, height]])
    assert contour.fill(contour.trace(np.ones(shape, dtype=bool), 40), height, width).all()


def test_a_long_thin_part_of_more_pixels_beats_a_compact_one_of_fewer():
    mask = np.zeros((9, 12), dtype=bool)
    mask[1, 1:11] = True  # 10 pixels
    mask[4:7, 4:7] = True  # 9 pixels
    assert contour.fill(contour.largest_outline(mask), 9, 12).sum() == 10


@given(polygons, st.integers(1, 30))
def test_points_are_at_equal_distances_along_the_closed_line(polygon, number):
    ring = shapely.LineString([*polygon, polygon[0]])
    if ring.length == 0:
        with pytest.raises(ValueError, match="length"):
            contour.resample(polygon, number)
        return
    points = contour.resample(polygon, number)
    expected = [ring.interpolate(index / number, normalized=True).coords[0] for index in range(number)]
    assert points == pytest.approx(np.array(expected), abs=1e-6) and points[0].tolist() == polygon[0].tolist()


@given(polygons)
def test_the_area_is_the_polygons_and_turns_with_its_direction(polygon):
    turned = contour.signed_area(polygon[::-1])
    assert contour.signed_area(polygon) == pytest.approx(-turned)
    simple = shapely.Polygon(polygon) if len(polygon) > 2 else shapely.Polygon()
    if simple.is_valid:
        assert abs(turned) == pytest.approx(simple.area)


@given(st.integers(0, 2**32), st.integers(12, 60))
def test_tracing_with_more_points_than_pixels_loses_next_to_nothing(seed, size):
    random = np.random.default_rng(seed)
    blob = cv2.GaussianBlur(random.random((size, size)), (0, 0), 3) > 0.5
    if not blob.any():
        return
    part = contour.fill(contour.largest_outline(blob), size, size)
    assert iou(contour.fill(contour.trace(blob, 8 * size), size, size), part) > 0.9


@given(masks)
def test_a_mask_comes_back_from_its_run_lengths(mask):
    assert (contour.decode(contour.encode(mask), *mask.shape) == mask).all()
    assert (contour.decode(contour.encode(mask).encode(), *mask.shape) == mask).all()


def test_a_filled_square_counts_pixels_as_coco_does():
    square = np.array([[0, 0], [9, 0], [9, 9], [0, 9]])
    assert contour.fill(square, 20, 20).sum() == 81


@given(hnp.arrays(np.float64, (5, 2), elements=st.floats(-30, 60)))
def test_a_polygon_that_leaves_the_image_is_cut_to_it(points):
    mask = contour.fill(points, 20, 30)
    assert mask.shape == (20, 30) and mask.dtype == bool


@pytest.mark.parametrize(
    ("outline", "area"),
    [
        ([[1, 1], [5, 1], [5, 5], [1, 5]], 16),  # inside
        ([[-5, 2], [5, 2], [5, 4], [-5, 4]], 10),  # half of it
        ([[-9, -9], [30, -9], [30, 30], [-9, 30]], 80),  # around the whole window
        ([[-2, 1], [3, 1], [3, 6], [7, 6], [7, 9], [-2, 9], [-2, 8], [-1, 8], [-1, 2], [-2, 2]], None),
        ([[0, 0], [6, 6], [6, 0], [0, 6]], 9),  # crosses itself: the larger lobe
    ],
)
def test_a_cut_outline_is_the_largest_part_in_the_window_clockwise_from_its_top(outline, area):
    inside = contour.cut(np.array(outline, dtype=float), height=8, width=10)
    assert (inside >= 0).all() and (inside <= (10, 8)).all()
    assert contour.signed_area(inside) > 0
    assert area is None or contour.signed_area(inside) == pytest.approx(area)
    assert inside[0].tolist() == contour.from_above(inside)[0].tolist()


def test_nothing_is_left_of_an_outline_beside_the_window():
    beside = np.array([[12.0, 1], [15, 1], [15, 5]])
    assert contour.cut(beside, height=8, width=10) is None
    touching = np.array([[10.0, 1], [15, 1], [15, 5], [10, 5]])
    assert contour.cut(touching, height=8, width=10) is None
