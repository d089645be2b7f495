"""Training targets: token sequences for whole images and for windows, and boxes and masks for a mask head."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from partialres.data.batches import epoch_batches
from partialres.data.samples import corners_of, coverage, known_boxes, mask_samples
from partialres.data.views import OVERLAPS, whole
from partialres.files import DataError
from partialres.geometry import contour, tokens
from tests.tiny import TINY, changed, masks_of, shown

MODEL = TINY.replace(bins=64)  # a bin is one pixel of the frame
SCALES = (0.3, 1.4)


def whole_batch(data, samples, epoch=0):
    """All refs in one batch."""
    (batch,) = epoch_batches(samples, data.inputs, len(samples.rows), seed=0, epoch=epoch)
    return batch


def same_batches(data, samples, first, second):
    pairs = zip(*(epoch_batches(samples, data.inputs, *each) for each in (first, second)), strict=True)
    return all(torch.equal(a.images, b.images) and torch.equal(a.tokens, b.tokens) for a, b in pairs)


def test_no_ref_at_all_is_refused(data):
    nothing = data.train.head(0)
    with pytest.raises(DataError, match="no refs to train on"):
        data.samples(nothing.assign(points=[]))
    with pytest.raises(DataError, match="no refs to train on"):
        mask_samples(nothing, data.inputs, data.vocabulary, masks=True, upsampling=4)


def test_contours_are_scaled_to_the_frame_and_quantised(data):
    refs = data.train.head(1)
    height, width = refs[["height", "width"]].iloc[0]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=float)
    right, bottom = min(width, 63), min(height, 63)  # the cached images' long side is 64 pixels already
    batch = whole_batch(data, data.samples(refs.assign(points=[corners]), MODEL))
    assert batch.tokens.tolist() == [[0, 0, right, 0, right, bottom, 0, bottom, 64]]


def test_bins_span_the_frame_or_as_released_the_images_padded_sides(data):
    refs = data.train[data.train["height"] <= 48].head(1)
    window = data.inputs.window(data.inputs.rows(refs["image_id"].tolist())[0])
    width, height = window.extent("image", data.inputs.stride)
    assert width == 64 and height == -(-refs["height"].item() // 16) * 16 < 64
    refs = refs.assign(points=[np.array([[width / 2, height / 2]])])

    def target(span):
        return whole_batch(data, data.samples(refs, changed(TINY, span=span))).tokens.tolist()

    assert target("frame") == [[16, height / 4, 32]] and target("image") == [[16, 16, 32]]


# -------------------------------------------------------------------------------------------------- large-scale jitter


@pytest.fixture(scope="module")
def shaken(data):
    """(sampling, span) -> all training refs with jitter, and their masks."""
    masks = masks_of(data.train)
    refs = data.train.assign(outline=[contour.largest_outline(mask) for mask in masks])

    def make(sampling="uniform", span="frame"):
        points = [contour.sample(mask, 8, sampling) for mask in masks]
        model = changed(MODEL, span=span)
        return data.samples(refs.assign(points=points), model, jitter=SCALES, sampling=sampling), masks

    return make


def seen(data, samples):
    """Draw a window for each ref; return the windows and the refs' tokens in them."""
    windows = enumerate(samples.windows(data.inputs, (0, 0)))
    drawn = [samples.view(member, window, data.inputs) for member, window in windows]
    how, bins = samples.model.upstream, samples.model.bins
    targets = [
        tokens.points_to_sequence(points, window.extent(how.span, data.inputs.stride), bins, how.rounding)
        for window, points in drawn
    ]
    return [window for window, _ in drawn], targets


def test_a_jittered_window_depends_on_seed_epoch_and_image_alone(data, shaken):
    samples, _ = shaken()
    assert same_batches(data, samples, (16, 0, 0), (16, 0, 0))
    assert same_batches(data, samples, (16, 0, 0), (16, 0, 0, 1))  # of a loader worker
    for other in ((16, 0, 1), (16, 1, 0)):
        assert not same_batches(data, samples, (16, 0, 0), other)
    at_once, parts = whole_batch(data, samples), list(epoch_batches(samples, data.inputs, 16, seed=0, epoch=0))

    def seen(batch):
        images = (image.numpy()[inside.numpy().repeat(16, 0).repeat(16, 1)[: len(image), : image.shape[1]]]
                  for image, inside in zip(batch.images, batch.valid, strict=True))  # fmt: skip
        images = [image.tobytes() for image in images]
        return [(tuple(t), images[i]) for t, i in zip(batch.tokens.tolist(), batch.image_index.tolist(), strict=True)]

    assert sorted(pair for part in parts for pair in seen(part)) == sorted(seen(at_once))


def test_with_jitter_a_window_serves_all_refs_of_the_image_that_it_shows_well(data, shaken):
    samples, _ = shaken()
    windows, several = samples.windows(data.inputs, (0, 0)), 0
    for row in np.unique(samples.rows):
        served = {}
        for ref in np.flatnonzero(samples.rows == row).tolist():
            box = corners_of(samples.points[ref], windows[ref])
            assert windows[ref].share(box) >= min(OVERLAPS) - 1e-6
            served.setdefault(windows[ref], []).append(box)
        for (window, own), (other, theirs) in combinations(served.items(), 2):  # whichever was drawn first
            several += 1
            assert max(map(window.share, theirs)) < 0.9 or max(map(other.share, own)) < 0.9
    assert several > 3


def test_with_jitter_each_view_is_in_a_batch_once_with_its_valid_cells(data, shaken):
    samples, _ = shaken()
    batch, images = whole_batch(data, samples), len(np.unique(samples.rows))
    assert images < len(batch.images) == len(batch.valid) < 1.3 * images < len(samples.rows)
    assert batch.images.shape[1:3] == (64, 64)
    pixels = batch.images.any(-1).reshape(len(batch.images), 4, 16, 4, 16).any(4).any(2)
    assert not (pixels & ~batch.valid).any()
    assert len({valid.sum().item() for valid in batch.valid}) > 3


@pytest.mark.parametrize("sampling", ["uniform", "released"])
@pytest.mark.parametrize("span", ["frame", "image"])
def test_a_jittered_target_outlines_the_object_in_its_window(data, shaken, sampling, span):
    samples, masks = shaken(sampling, span)
    scores, cut = [], 0
    for mask, window, target in zip(masks, *seen(data, samples), strict=True):
        points = tokens.sequence_to_points(target[:-1], window.extent(span, data.inputs.stride), MODEL.bins)
        filled, truth = contour.fill(points, *window.shape), shown(window, mask)
        scores.append((filled & truth).sum() / max((filled | truth).sum(), 1))
        outline = window.to_frame(contour.largest_outline(mask))
        cut += window.cuts and ((outline < 0) | (outline > window.shape[::-1])).any()
    assert np.mean(scores) > (0.75 if sampling == "uniform" else 0.6) and cut > 3


def test_a_jittered_box_is_cut_to_its_window(data):
    boxes = known_boxes(data.train)
    samples = data.samples(data.train.assign(points=list(boxes)), MODEL, jitter=(1.3, 1.4))
    for corners, window, target in zip(boxes, *seen(data, samples), strict=True):
        height, width = window.shape
        x1, y1, x2, y2, _ = target.tolist()
        assert x1 < x2 <= width and y1 < y2 <= height and window.cuts
        box = np.clip(window.to_frame(corners), 0, (width, height))
        assert np.abs(box.reshape(-1) - target[:-1]).max() <= 1  # the last bin is pixel 63's


# ---------------------------------------------------------------------------------------------------------- view: box


@pytest.fixture(scope="module")
def around_boxes(data):
    """The training refs, each seen in a window around its box."""
    points = [contour.trace(mask, 8) for mask in masks_of(data.train)]
    return data.samples(data.train.assign(points=points), MODEL.replace(view="box"))


def test_the_surroundings_of_a_known_box_are_drawn_anew_each_epoch_and_the_same_each_time(data, around_boxes):
    assert same_batches(data, around_boxes, (16, 0, 0), (16, 0, 0))
    assert not same_batches(data, around_boxes, (16, 0, 0), (16, 0, 1))


def test_a_target_around_a_known_box_outlines_the_object_there(data, around_boxes):
    scores = []
    for mask, window, target in zip(masks_of(data.train), *seen(data, around_boxes), strict=True):
        points = tokens.sequence_to_points(target[:-1], window.extent("frame", data.inputs.stride), MODEL.bins)
        filled = contour.fill(window.to_file(points), *mask.shape)
        scores.append((filled & mask).sum() / (filled | mask).sum())
    assert np.mean(scores) > 0.75


@pytest.mark.parametrize("kind", ["jitter", "box"])
def test_a_batch_shows_the_windows_that_its_tokens_are_about(data, shaken, around_boxes, kind):
    samples = shaken()[0] if kind == "jitter" else around_boxes
    windows, targets = seen(data, samples)
    words = np.stack([each[0] for each in samples.words])
    batch = samples.batch(np.arange(len(words)), words, data.inputs, samples.windows(data.inputs, (0, 0)))
    assert (batch.tokens.numpy() == np.stack(targets)).all()
    assert batch.images.shape[1:3] == (64, 64)
    assert (batch.images[batch.image_index].numpy() == data.inputs.frames(samples.rows, windows)).all()
    assert len(batch.images) == len(set(zip(samples.rows.tolist(), windows, strict=True)))


# --------------------------------------------------------------------------------------- boxes and masks (a mask head)


@pytest.fixture
def train(data):
    return data.train.head(20)


def test_a_cell_holds_the_share_of_it_that_the_mask_covers():
    mask = np.zeros((8, 16), dtype=bool)
    mask[:4, 2:8] = True
    cells = coverage(mask, whole((8, 16), (8, 16), 16), 4)
    assert cells.tolist() == [[128, 255, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_outside_the_image_there_is_no_mask_and_a_whole_one_fills_it():
    window = whole((30, 60), (8, 16), 16)
    assert coverage(np.ones((30, 60), dtype=bool), window, 4).tolist() == [[255] * 4] * 2 + [[0] * 4] * 2
    assert not coverage(np.zeros((30, 60), dtype=bool), window, 4).any()


@given(st.integers(0, 15), st.integers(0, 15), st.integers(1, 16), st.integers(1, 16))
def test_the_covered_shares_add_up_to_the_masks_area(x, y, width, height):
    mask = np.zeros((16, 16), dtype=bool)
    mask[y : y + height, x : x + width] = True
    covered = coverage(mask, whole((16, 16), (16, 16), 16), 4)
    assert covered.sum() / 255 * 16 == pytest.approx(mask.sum(), abs=0.6)


def test_boxes_and_masks_are_where_the_refs_are_in_the_frame(data, train):
    samples = mask_samples(train, data.inputs, data.vocabulary, masks=True, upsampling=4)
    assert samples.boxes.shape == (20, 4) and samples.masks.shape == (20, 16, 16)
    assert samples.boxes.dtype == np.float32 and samples.masks.dtype == np.uint8
    columns = samples.rows.tolist(), known_boxes(train), samples.boxes, samples.masks, masks_of(train)
    for row, corners, box, cells, mask in zip(*columns, strict=True):
        window = data.inputs.window(row)
        low, high = window.to_frame(corners) / data.inputs.size
        np.testing.assert_allclose(box, [*(low + high) / 2, *(high - low)], atol=1e-6)
        y, x = np.nonzero(cells > 127)
        inside = np.stack([x, y], axis=1)
        assert (inside + 1 >= 16 * low).all() and (inside <= 16 * high).all()
        share = np.prod(window.cached_size) / np.prod(window.file_size)
        assert cells.sum() / 255 * (data.inputs.size / 16) ** 2 == pytest.approx(mask.sum() * share, rel=0.05)


def test_in_step_1_a_mask_head_reads_no_mask(data, train):
    bare = train.drop(columns=["mask", "height", "width"])
    samples = mask_samples(bare, data.inputs, data.vocabulary, masks=False, upsampling=4)
    assert samples.masks is None and samples.boxes.shape == (20, 4)


def test_a_batch_has_its_refs_boxes_and_masks_and_no_tokens(data, train):
    samples = mask_samples(train, data.inputs, data.vocabulary, masks=True, upsampling=4)
    pairs = []
    for batch in epoch_batches(samples, data.inputs, 8, seed=0, epoch=0):
        assert batch.tokens is None and batch.boxes.shape[1:] == (4,) and batch.masks.shape[1:] == (16, 16)
        pairs += zip(batch.boxes.tolist(), batch.masks.tolist(), strict=True)
    assert sorted(pairs) == sorted(zip(samples.boxes.tolist(), samples.masks.tolist(), strict=True))
