"""What a mask head learns from, and the way back to the image's own size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partialres.data.batches import epoch_batches
from partialres.data.mask_targets import centred, coverage, grown, make_mask_samples
from partialres.files import DataError
from partialres.geometry import boxes, contour


def disc(height, width, x, y, radius):
    rows, columns = np.mgrid[:height, :width] + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


def test_a_cell_holds_the_share_of_it_that_the_mask_covers():
    mask = np.zeros((8, 16), dtype=bool)
    mask[:4, 2:8] = True
    found = coverage(mask, (8, 16), 16, 4)
    assert found.tolist() == [[128, 255, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_outside_the_image_there_is_no_mask_and_a_whole_one_fills_it():
    assert coverage(np.ones((30, 60), dtype=bool), (8, 16), 16, 4).tolist() == [[255] * 4] * 2 + [[0] * 4] * 2
    assert not coverage(np.zeros((30, 60), dtype=bool), (8, 16), 16, 4).any()


@pytest.mark.parametrize(("height", "width", "shape"), [(120, 160, (72, 96)), (160, 120, (96, 72)), (60, 80, (72, 96))])
def test_a_mask_comes_back_at_the_images_own_size_with_its_edges(height, width, shape):
    mask = disc(height, width, 0.4 * width, 0.6 * height, 0.2 * min(height, width))
    cells = coverage(mask, shape, 96, 24).astype(np.float32) / 255
    back = grown(cells - 0.5, shape, 96, height, width)
    assert back.shape == mask.shape and overlap(back, mask) > 0.93
    hard = grown((cells > 0.5) - np.float32(0.5), shape, 96, height, width)
    assert overlap(back, mask) > overlap(hard, mask)


@given(st.integers(0, 15), st.integers(0, 15), st.integers(1, 16), st.integers(1, 16))
def test_what_is_covered_is_the_masks_area(x, y, width, height):
    mask = np.zeros((16, 16), dtype=bool)
    mask[y : y + height, x : x + width] = True
    assert coverage(mask, (16, 16), 16, 4).sum() / 255 * 16 == pytest.approx(mask.sum(), abs=0.6)


def test_no_logit_above_zero_is_no_mask_and_none_below_is_the_whole_image():
    assert not grown(np.full((4, 4), -1, dtype=np.float32), (8, 16), 16, 30, 60).any()
    assert grown(np.full((4, 4), 1, dtype=np.float32), (8, 16), 16, 30, 60).all()


@pytest.fixture
def train(data):
    return data.refs[data.refs["split"] == "train"].head(20).reset_index(drop=True)


def test_boxes_and_masks_are_where_the_refs_are_in_the_frame(data, train):
    samples = make_mask_samples(train, data.inputs, data.vocabulary, masks=True, upsampling=4)
    assert len(samples) == 20 and samples.boxes.shape == (20, 4) and samples.masks.shape == (20, 16, 16)
    assert samples.boxes.dtype == np.float32 and samples.masks.dtype == np.uint8
    for row, ref in train.iterrows():
        scale = data.inputs.scale(int(samples.rows[row]))
        corners = boxes.to_corners(np.array(ref["bbox"])) * scale / data.inputs.size
        np.testing.assert_allclose(samples.boxes[row], centred(corners), atol=1e-6)
        low, high = corners * 16
        y, x = np.nonzero(samples.masks[row] > 127)
        assert (x + 1 >= low[0]).all() and (x <= high[0]).all() and (y + 1 >= low[1]).all() and (y <= high[1]).all()
        mask = contour.decode(ref["mask"], ref["height"], ref["width"])
        share = samples.masks[row].sum() / 255 / 16**2 * data.inputs.size**2 / scale.prod()
        assert share == pytest.approx(mask.sum(), rel=0.05)


def test_in_step_1_no_mask_is_read(data, train):
    samples = make_mask_samples(
        train.drop(columns=["mask", "height", "width"]), data.inputs, data.vocabulary, masks=False, upsampling=4
    )
    assert samples.masks is None and samples.boxes.shape == (20, 4)


def test_a_batch_has_its_refs_targets_and_no_tokens(data, train):
    samples = make_mask_samples(train, data.inputs, data.vocabulary, masks=True, upsampling=4)
    seen = []
    for batch in epoch_batches(samples, data.inputs, 8, seed=0, epoch=0):
        assert batch.tokens is None and batch.boxes.shape[1:] == (4,) and batch.masks.shape[1:] == (16, 16)
        seen += [(box, mask) for box, mask in zip(batch.boxes.tolist(), batch.masks.tolist(), strict=True)]
    assert sorted(seen) == sorted(zip(samples.boxes.tolist(), samples.masks.tolist(), strict=True))


def test_no_ref_at_all_is_refused(data, train):
    with pytest.raises(DataError, match="no training refs"):
        make_mask_samples(train[:0], data.inputs, data.vocabulary, masks=True, upsampling=4)
