"""From refs to batches: order, expressions, images and words."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from partialres.data.batches import epoch_batches, expression_batches, in_batches, places_by_image, steps_per_epoch
from partialres.data.inputs import Inputs
from partialres.data.samples import known_boxes
from partialres.data.views import around
from partialres.files import DataError

POINTS = 4


@pytest.fixture(scope="module")
def samples(data):
    """All training refs; the first two tokens of each encode its position."""
    rows = data.inputs.rows(data.train["image_id"].tolist()).tolist()
    marks = [np.full((POINTS, 2), [place % 16, place // 16]) * 2 for place in range(len(rows))]
    points = [data.inputs.window(row).to_file(mark) for row, mark in zip(rows, marks, strict=True)]
    return data.samples(data.train.assign(points=points))


def places(batch):
    """The positions of the samples in a batch."""
    return (batch.tokens[:, 0] + 16 * batch.tokens[:, 1]).tolist()


def equal(first, second):
    names = ("images", "valid", "image_index", "words", "tokens")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def frame(inputs, row):
    """The whole image in a row of the cache, as the model sees it."""
    return torch.from_numpy(inputs.frames(np.array([row]), [inputs.window(row)])[0])


def framed(images):
    """Images with the padding that a batch left out."""
    return F.pad(images, (0, 0, 0, 64 - images.shape[2], 0, 64 - images.shape[1]))


def valid(inputs, row):
    return inputs.batch(np.array([row]), np.ones((1, 1), dtype=np.int64)).valid[0]


def test_an_epoch_has_every_ref_once_with_one_of_its_own_expressions(data, samples):
    number = len(samples.rows)
    for epoch in range(3):
        batches = list(epoch_batches(samples, data.inputs, 7, seed=0, epoch=epoch))
        assert len(batches) == steps_per_epoch(samples, 7) == -(-number // 7)
        assert sorted(place for batch in batches for place in places(batch)) == list(range(number))
        assert max(len(batch.words) for batch in batches) <= 7
        for batch in batches:
            for place, words in zip(places(batch), batch.words.numpy(), strict=True):
                assert any(
                    (own[: len(words)] == words).all() and not own[len(words) :].any() for own in samples.words[place]
                )


def test_over_some_epochs_every_expression_has_its_turn(data, samples):
    seen = set()
    for epoch in range(30):
        for batch in epoch_batches(samples, data.inputs, 64, seed=0, epoch=epoch):
            for place, words in zip(places(batch), batch.words.tolist(), strict=True):
                seen.add((place, *filter(None, words)))
    assert seen == {(place, *own[own > 0]) for place, words in enumerate(samples.words) for own in words}


def test_the_order_and_the_expressions_depend_on_seed_and_epoch_alone(data, samples):
    def epoch(seed, number, workers=0):
        torch.manual_seed(np.random.randint(1000))
        return list(epoch_batches(samples, data.inputs, 16, seed, number, workers))

    first = epoch(0, 0)
    assert all(map(equal, first, epoch(0, 0)))
    assert all(map(equal, first, epoch(0, 0, workers=1)))
    for other in (epoch(0, 1), epoch(1, 0), epoch(1, 1)):
        assert [places(batch) for batch in first] != [places(batch) for batch in other]


def test_each_distinct_image_is_in_a_batch_once_and_every_expression_is_about_its_own(data, samples):
    for batch in epoch_batches(samples, data.inputs, 64, seed=0, epoch=0):
        rows = samples.rows[places(batch)]
        assert len(batch.images) == len(batch.valid) == len(set(rows)) < len(rows)
        for index, row in zip(batch.image_index, rows.tolist(), strict=True):
            assert torch.equal(framed(batch.images)[index], frame(data.inputs, row))
            assert torch.equal(batch.valid[index], valid(data.inputs, row))


def test_words_are_as_long_as_the_longest_expression_of_the_batch(data, samples):
    for batch in epoch_batches(samples, data.inputs, 3, seed=0, epoch=0):
        assert (batch.words[:, -1] > 0).any() and batch.words.shape[1] <= data.vocabulary.max_words


def test_batches_hold_each_ref_once_and_the_refs_of_an_image_together(data, samples):
    seen, images = [], []
    for epoch in (0, 1):
        batches = list(epoch_batches(samples, data.inputs, 7, seed=0, epoch=epoch))
        seen.append([place for batch in batches for place in places(batch)])
        images.append(sum(len(batch.images) for batch in batches))
        assert images[-1] <= len(np.unique(samples.rows)) + len(batches) - 1  # one image per border counts twice
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(len(samples.rows))) and seen[0] != seen[1]


def batches_of(refs, data, size, window=None, inputs=None):
    inputs = inputs or data.inputs
    return expression_batches(refs, inputs, data.vocabulary, places_by_image(refs, inputs, size, window), window)


def test_all_expressions_are_covered_once_image_by_image_whatever_the_tables_index(data):
    refs = data.refs.sample(frac=1, random_state=0)
    asked = [(place, text) for place, texts in enumerate(refs["expressions"]) for text in texts]
    for size in (1, 10, 1000):
        seen, images = [], []
        for positions, texts, batch in batches_of(refs, data, size):
            seen += zip(positions.tolist(), texts, strict=True)
            encoded = np.stack([data.vocabulary.encode(text) for text in texts])[:, : batch.words.shape[1]]
            assert (batch.words.numpy() == encoded).all() and batch.tokens is None
            rows = data.inputs.rows(refs["image_id"].iloc[positions].tolist())
            for index, row in zip(batch.image_index, rows.tolist(), strict=True):
                assert torch.equal(framed(batch.images)[index], frame(data.inputs, row))
            images += np.unique(rows).tolist()
            assert len(batch.images) == len(np.unique(rows))
        assert sorted(seen) == sorted(asked)
        assert len(images) == len(set(images)) == refs["image_id"].nunique()  # each image's features are computed once
    assert not list(batches_of(refs.head(0), data, 4))


def test_each_ref_is_seen_in_its_own_window_where_windows_are_given(data):
    refs = data.train
    rows = data.inputs.rows(refs["image_id"].tolist())
    pairs = zip(rows.tolist(), known_boxes(refs), strict=True)
    windows = [around(data.inputs.window(row), box) for row, box in pairs]
    frames = torch.from_numpy(data.inputs.frames(rows, windows))
    for positions, _, batch in batches_of(refs, data, 20, windows.__getitem__):
        assert len(batch.images) == len(set(positions))
        assert torch.equal(framed(batch.images)[batch.image_index], frames[positions])


def test_an_image_lies_at_the_top_left_of_a_black_frame_and_valid_says_where(data):
    shapes = set()
    for row in range(len(data.inputs.cache)):
        image, seen = data.inputs.cache.image(row), frame(data.inputs, row).numpy()
        height, width = image.shape[:2]
        shapes.add((height, width))
        assert seen.shape == (64, 64, 3) and (seen[:height, :width] == image).all()
        assert not seen[height:].any() and not seen[:, width:].any()
        inside = np.zeros((64, 64), dtype=bool)
        inside[:height, :width] = True
        assert (valid(data.inputs, row).numpy() == inside.reshape(4, 16, 4, 16).any((1, 3))).all()
    assert any(h < w for h, w in shapes) and any(h > w for h, w in shapes)


def test_an_image_that_is_not_in_the_cache_is_named(data):
    with pytest.raises(DataError, match="image 999 "):
        data.inputs.rows([1, 999])


def test_images_that_do_not_divide_by_the_stride_are_refused(data):
    with pytest.raises(DataError, match=r"size 64.*stride 48"):
        Inputs(data.folder / "images", stride=48)


def test_cached_features_take_the_pixels_place_image_for_image(data, samples, tmp_path):
    number = len(data.inputs.cache)
    features = np.arange(number, dtype=np.float16)[:, None, None, None] * np.ones((2, 4, 4), dtype=np.float16)
    np.save(tmp_path / "features.npy", features)
    (tmp_path / "features.json").write_text('{"visual": "abc"}')
    inputs = Inputs(data.folder / "images", 16, tmp_path)
    assert inputs.visual_digest == "abc"
    batch = next(epoch_batches(samples, inputs, 16, seed=0, epoch=0))
    assert batch.images.dtype == torch.float16
    assert batch.images[batch.image_index, 0, 0, 0].tolist() == samples.rows[places(batch)].tolist()


# -------------------------------------------------------------------------------------------------- batches by shape


def test_a_batch_keeps_the_positions_of_its_largest_image_and_no_more(data, samples):
    sizes = set()
    for batch in epoch_batches(samples, data.inputs, 7, seed=0, epoch=0):
        down, across = (int(batch.valid.any(axis).sum(1).max()) for axis in (2, 1))
        assert batch.images.shape[1:3] == (16 * down, 16 * across)
        sizes.add((down, across, batch.padded))
        assert batch.padded == (not batch.valid[:, :down, :across].all())
    assert {(3, 4), (4, 3), (4, 4)} <= {size[:2] for size in sizes} and {size[2] for size in sizes} == {True, False}


def test_a_process_keeps_the_positions_of_the_whole_batch(data, samples):
    whole = [batch.images.shape[1:3] for batch in epoch_batches(samples, data.inputs, 7, seed=0, epoch=0)]
    shares = epoch_batches(samples, data.inputs, 7, seed=0, epoch=0, share=lambda members: members[:1])
    seen = [(batch.images.shape[1:3], batch.padded) for batch in shares]
    assert [shape for shape, _ in seen] == whole and any(padded for _, padded in seen)


def test_where_whole_frames_every_batch_has_the_whole_frame(data, samples):
    inputs = Inputs(data.folder / "images", 16, whole_frames=True)
    for batch in epoch_batches(samples, inputs, 7, seed=0, epoch=0):
        assert batch.images.shape[1:3] == (64, 64)
    for _, _, batch in batches_of(data.refs, data, 7, inputs=inputs):
        assert batch.images.shape[1:3] == (64, 64)


def test_images_of_an_evaluated_batch_have_one_shape(data):
    shapes = []
    for _, _, batch in batches_of(data.refs, data, 10):
        shapes.append(tuple(side // 16 for side in batch.images.shape[1:3]))
        assert batch.valid[:, : shapes[-1][0], : shapes[-1][1]].all() and not batch.padded
    assert shapes == sorted(shapes) and len(set(shapes)) >= 3


def sizes_of(number, batch):
    return [len(part) for part in np.array_split(np.arange(number), -(-number // batch))]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 99))
def test_images_of_equal_shapes_stay_in_their_random_order(number, batch, seed):
    order = np.random.default_rng(seed).permutation(number)
    batches = in_batches(order, np.full((number, 2), 3), sizes_of(number, batch), np.random.default_rng(seed))
    expected = np.array_split(order, -(-number // batch))
    assert [part.tolist() for part in batches] == [part.tolist() for part in expected]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 99))
def test_batches_of_any_shapes_hold_each_ref_once_and_have_the_sizes_asked_for(number, batch, seed):
    rng = np.random.default_rng(seed)
    order, shapes, sizes = rng.permutation(number), rng.integers(1, 5, (number, 2)), sizes_of(number, batch)
    batches = in_batches(order, shapes, sizes, rng)
    assert [len(part) for part in batches] == sizes
    assert sorted(np.concatenate(batches).tolist()) == list(range(number))


def test_of_pictures_as_mixed_as_refcocos_at_most_a_twentieth_of_the_positions_is_padding():
    rng, number = np.random.default_rng(0), 2000
    short = rng.choice([15, 14, 20, 16, 13, 12, 10, 18], number, p=[0.4, 0.38, 0.06, 0.05, 0.03, 0.03, 0.03, 0.02])
    shapes = np.stack([short, np.full(number, 20)], 1)
    turned = rng.random(number) < 0.25
    shapes[turned] = shapes[turned, ::-1]
    batches = in_batches(rng.permutation(number), shapes, sizes_of(number, 50), rng)
    inside, kept = shapes.prod(1).sum(), sum(len(part) * shapes[part].max(0).prod() for part in batches)
    assert 1 - inside / (number * 20 * 20) > 0.2 and 1 - inside / kept <= 0.05
    narrow = [bool(shapes[part, 0].max() > shapes[part, 1].max()) for part in batches]
    assert sum(first != second for first, second in pairwise(narrow)) > 10  # not first all of one kind
