"""Masks read off their run lengths, many at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from partialres.geometry import contour
from partialres.geometry.projection import projection_dice_loss, runs_dice_losses
from partialres.geometry.runs import paired_runs, run_lengths, shadows, unpack_windows

masks = st.lists(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))), max_size=5)
polygons = st.lists(hnp.arrays(float, (7, 2), elements=st.floats(-8, 60)), max_size=4)


def encoded(mask):
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))


def check_shadows(many):
    columns, rows = shadows([encoded(mask) for mask in many])
    assert columns.tolist() == [each for mask in many for each in mask.any(axis=0)]
    assert rows.tolist() == [each for mask in many for each in mask.any(axis=1)]


def check_windows(many, rles):
    windows = list(unpack_windows(rles))
    for mask, (window, (x, y)) in zip(many, windows, strict=True):
        whole = np.zeros_like(mask)
        whole[y : y + window.shape[0], x : x + window.shape[1]] = window
        assert (whole == mask).all()
        if mask.any():
            assert window[0].any() and window[-1].any() and window[:, 0].any() and window[:, -1].any()
        else:
            assert window.tolist() == [[False]] and (x, y) == (0, 0)


@given(masks)
def test_shadows_are_those_of_the_unpacked_masks(many):
    check_shadows(many)


@given(masks)
def test_a_window_has_all_of_a_mask_and_nothing_around_it(many):
    check_windows(many, [encoded(mask) for mask in many])


def test_runs_over_several_columns_cover_what_they_pass():
    many = []
    for height, width, start, length in ((4, 6, 6, 3), (4, 6, 6, 4), (4, 6, 6, 13), (4, 6, 0, 24), (1, 5, 1, 3)):
        flat = np.zeros(height * width, dtype=bool)
        flat[start : start + length] = True
        many.append(flat.reshape(width, height).T)
    check_shadows(many)
    check_windows(many, [encoded(mask) for mask in many])


@given(polygons, st.booleans())
def test_a_window_holds_all_of_a_polygon_and_has_the_same_pixels(many, short):
    for points in many[:2]:
        points[2 if short else 5 :] = np.nan
    check_windows(
        [contour.fill(points, 30, 40) for points in many], [contour.polygon_rle(points, 30, 40) for points in many]
    )


@given(
    st.lists(
        st.tuples(
            hnp.arrays(float, (7, 2), elements=st.floats(-5, 60)),
            st.tuples(st.floats(-9, 20), st.floats(-9, 20), st.floats(11, 40), st.floats(11, 30)),
            st.tuples(st.integers(22, 40), st.integers(22, 40)),
        ),
        max_size=4,
    ),
    st.sampled_from(["round", "truncate"]),
)
def test_the_losses_from_runs_are_those_from_the_masks(cases, rounding):
    rles = [contour.polygon_rle(points, *size) for points, _, size in cases]
    boxes = np.array([box for _, box, _ in cases], dtype=float).reshape(-1, 4)
    expected = [
        projection_dice_loss(contour.fill(points, *size), np.array(box), rounding) for points, box, size in cases
    ]
    assert runs_dice_losses(rles, boxes, rounding).tolist() == expected


def test_one_box_outside_its_image_is_refused_among_others():
    rles = [encoded(np.ones((20, 30))), encoded(np.ones((10, 12)))]
    with pytest.raises(ValueError, match=r"15.*no area inside the 12 x 10 image"):
        runs_dice_losses(rles, np.array([[15.0, 2, 3, 3], [15.0, 2, 3, 3]]))


@given(masks)
def test_run_lengths_are_what_the_masks_columns_count(many):
    runs, numbers = paired_runs([encoded(mask)["counts"] for mask in many])
    expected = []
    for mask in many:
        flat = np.concatenate([[False], mask.T.reshape(-1)])
        changes = np.flatnonzero(np.diff(flat))
        expected.append(np.diff(np.concatenate([[0], changes, [mask.size]])).tolist())
    assert runs.tolist() == [run for one in expected for run in one + [0] * (len(one) % 2)]
    assert numbers.tolist() == [len(one) for one in expected]
    assert [run_lengths(encoded(mask)["counts"]).tolist() for mask in many] == expected


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (b"", "compressed text"),
        (b"0~", "compressed text"),
        (b"0\x20", "compressed text"),
        (b"4P", "compressed text"),  # says that more follows
        (b"PPPPPPPP0", "beyond any image"),
        (b"44", "of this size"),
        (b"0O=1", "of this size"),  # a run below 0
    ],
)
def test_text_that_is_no_mask_of_the_size_is_refused_wherever_it_stands(counts, reason):
    good, bad = encoded(np.ones((3, 4))), {"size": [3, 4], "counts": counts}
    for rles in ([bad], [good, bad], [bad, good]):
        with pytest.raises(ValueError, match=reason):
            list(unpack_windows(rles))
