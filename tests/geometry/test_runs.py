"""A mask's shadows read off its run lengths."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from partialres.geometry import contour
from partialres.geometry.projection import projection_dice_loss, runs_dice_loss
from partialres.geometry.runs import shadows, unpack_window

masks = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(masks)
def test_shadows_are_those_of_the_unpacked_mask(mask):
    columns, rows = shadows(coco.encode(np.asfortranarray(mask, dtype=np.uint8)))
    assert columns.tolist() == mask.any(axis=0).tolist()
    assert rows.tolist() == mask.any(axis=1).tolist()


@given(masks)
def test_a_window_has_all_of_a_mask_and_nothing_around_it(mask):
    window, (x, y) = unpack_window(coco.encode(np.asfortranarray(mask, dtype=np.uint8)))
    whole = np.zeros_like(mask)
    whole[y : y + window.shape[0], x : x + window.shape[1]] = window
    assert (whole == mask).all()
    if mask.any():
        assert window[0].any() and window[-1].any() and window[:, 0].any() and window[:, -1].any()


def test_runs_over_several_columns_cover_what_they_pass():
    for height, width, start, length in ((4, 6, 6, 3), (4, 6, 6, 4), (4, 6, 6, 13), (4, 6, 0, 24), (1, 5, 1, 3)):
        flat = np.zeros(height * width, dtype=bool)
        flat[start : start + length] = True
        mask = flat.reshape(width, height).T
        columns, rows = shadows(coco.encode(np.asfortranarray(mask, dtype=np.uint8)))
        assert (columns == mask.any(axis=0)).all() and (rows == mask.any(axis=1)).all()


@given(
    hnp.arrays(float, (7, 2), elements=st.floats(-5, 60)),
    st.tuples(st.integers(0, 39), st.integers(0, 29), st.integers(1, 40), st.integers(1, 30)),
    st.sampled_from(["round", "truncate"]),
)
def test_the_loss_from_runs_is_the_loss_from_the_mask(points, box, rounding):
    rle = contour.polygon_rle(points, 30, 40)
    box = np.array(box, dtype=float)
    assert runs_dice_loss(rle, box, rounding) == projection_dice_loss(contour.fill(points, 30, 40), box, rounding)
