"""From training rows to batches."""

import numpy as np
import pandas as pd
import pytest
import torch

from partialres.data.batches import epoch_batches, expression_batches, steps_per_epoch
from partialres.data.images import ImageCache
from partialres.data.inputs import Inputs
from partialres.data.samples import Jitter, jittered, make_samples
from partialres.files import DataError
from partialres.geometry import boxes, contour, tokens

POINTS = 4


@pytest.fixture(scope="module")
def samples(data):
    """All training refs; each one's first two tokens are told apart by its place."""
    rows = data.refs[data.refs["split"] == "train"]
    places = [np.full((POINTS, 2), [place % 16, place // 16], dtype=float) * 2 for place in range(len(rows))]
    scales = [data.inputs.scale(row) for row in data.inputs.rows(rows["image_id"].tolist())]
    points = [place / scale for place, scale in zip(places, scales, strict=True)]
    return make_samples(rows, points, data.inputs, data.vocabulary, bins=32, rounding="round")


def places(batch):
    """Which samples are in a batch."""
    return (batch.tokens[:, 0] + 16 * batch.tokens[:, 1]).tolist()


def equal(first, second):
    names = ("images", "valid", "image_index", "words", "tokens")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def test_every_ref_is_there_once_an_epoch_with_one_of_its_own_expressions(data, samples):
    for epoch in range(3):
        batches = list(epoch_batches(samples, data.inputs, 7, seed=0, epoch=epoch))
        assert len(batches) == steps_per_epoch(samples, 7) == -(-len(samples) // 7)
        assert sorted(place for batch in batches for place in places(batch)) == list(range(len(samples)))
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
            seen |= {(place, *words) for place, words in zip(places(batch), batch.words.tolist(), strict=True)}
    distinct = {place: {tuple(one[one > 0]) for one in many} for place, many in enumerate(samples.words)}
    assert {(place, *filter(None, words)) for place, *words in seen} == {
        (place, *words) for place, many in distinct.items() for words in many
    }


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
        for index, row in zip(batch.image_index, rows, strict=True):
            assert torch.equal(batch.images[index], torch.from_numpy(data.inputs.pixels(np.array([row]))[0]))
            assert torch.equal(batch.valid[index], torch.from_numpy(data.inputs.valid(np.array([row]))[0]))


def test_words_are_as_long_as_the_longest_expression_of_the_batch(data, samples):
    for batch in epoch_batches(samples, data.inputs, 3, seed=0, epoch=0):
        assert (batch.words[:, -1] > 0).any() and batch.words.shape[1] <= data.vocabulary.max_words


def test_all_expressions_are_covered_once_image_by_image(data):
    refs = data.refs.sample(frac=1, random_state=0).reset_index(drop=True)
    asked = [(place, text) for place, texts in enumerate(refs["expressions"]) for text in texts]
    for size in (1, 10, 1000):
        seen, images = [], []
        for positions, texts, batch in expression_batches(refs, data.inputs, data.vocabulary, size):
            seen += list(zip(positions.tolist(), texts, strict=True))
            encoded = np.stack([data.vocabulary.encode(text) for text in texts])[:, : batch.words.shape[1]]
            assert (batch.words.numpy() == encoded).all() and batch.tokens is None
            rows = data.inputs.rows(refs["image_id"].iloc[positions].tolist())
            for index, row in zip(batch.image_index, rows, strict=True):
                assert torch.equal(batch.images[index], torch.from_numpy(data.inputs.pixels(np.array([row]))[0]))
            images += np.unique(rows).tolist()
            assert len(batch.images) == len(np.unique(rows))
        assert sorted(seen) == sorted(asked)
        assert len(images) == len(set(images)) == refs["image_id"].nunique()  # each image's features are made once


def test_without_refs_there_are_no_batches(data):
    assert not list(expression_batches(data.refs.head(0), data.inputs, data.vocabulary, 4))
    with pytest.raises(DataError, match="no training refs"):
        make_samples(data.refs.head(0), [], data.inputs, data.vocabulary, 32, "round")


def test_pixels_are_the_image_at_the_top_left_of_a_black_frame_and_valid_says_where(data):
    shapes = set()
    for row in range(len(data.inputs.cache)):
        image = data.inputs.cache.image(row)
        height, width = image.shape[:2]
        shapes.add((height, width))
        frame = data.inputs.pixels(np.array([row]))[0]
        assert frame.shape == (64, 64, 3) and (frame[:height, :width] == image).all()
        assert not frame[height:].any() and not frame[:, width:].any()
        inside = np.zeros((64, 64), dtype=bool)
        inside[:height, :width] = True
        cells = inside.reshape(4, 16, 4, 16).any((1, 3))
        assert (data.inputs.valid(np.array([row]))[0] == cells).all()
    assert any(h < w for h, w in shapes) and any(h > w for h, w in shapes)


def test_contours_are_scaled_to_the_frame_and_quantised(data):
    rows = data.refs.head(1)
    height, width = rows[["height", "width"]].iloc[0]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=float)
    made = make_samples(rows, [corners], data.inputs, data.vocabulary, bins=64, rounding="round")
    right, bottom = min(width, 63), min(height, 63)  # the cache's images are 64 pixels as they are
    assert made.targets.tolist() == [[0, 0, right, 0, right, bottom, 0, bottom, 64]]


def test_an_image_that_is_not_in_the_cache_is_named(data):
    with pytest.raises(DataError, match="image 999 "):
        data.inputs.rows([1, 999])


def test_images_that_do_not_divide_by_the_stride_are_refused(data):
    with pytest.raises(DataError, match=r"64 pixels.*stride 48"):
        Inputs(data.folder / "images", stride=48)


def test_cached_features_take_the_pixels_place_image_for_image(data, samples, tmp_path):
    cache = ImageCache(data.folder / "images")
    features = np.arange(len(cache), dtype=np.float16)[:, None, None, None] * np.ones((2, 4, 4), dtype=np.float16)
    np.save(tmp_path / "features.npy", features)
    (tmp_path / "features.json").write_text('{"visual": "abc"}')
    inputs = Inputs(data.folder / "images", 16, tmp_path)
    assert inputs.visual_digest == "abc"
    batch = next(epoch_batches(samples, inputs, 16, seed=0, epoch=0))
    assert batch.images.dtype == torch.float16
    assert batch.images[batch.image_index, 0, 0, 0].tolist() == samples.rows[places(batch)].tolist()


def test_refs_in_a_table_of_any_index_are_taken_by_their_place(data):
    shuffled = data.refs.sample(frac=1, random_state=1)
    assert isinstance(shuffled, pd.DataFrame) and shuffled.index[0] != 0
    texts = [t for _, some, _ in expression_batches(shuffled, data.inputs, data.vocabulary, 50) for t in some]
    assert sorted(texts) == sorted(text for many in data.refs["expressions"] for text in many)


def test_bins_span_the_frame_or_as_released_the_images_padded_sides(data):
    refs = data.refs.drop_duplicates("image_id")
    refs = refs[refs["height"] <= 48].head(1)
    (row,) = data.inputs.rows(refs["image_id"].tolist()).tolist()
    height, width = data.inputs.padded(row)
    assert width == 64 and height == -(-refs["height"].item() // 16) * 16 < 64
    assert data.inputs.valid(np.array([row]))[0].sum() == height * width / 16**2
    corner = [np.array([[width / 2, height / 2]])]

    def target(**span):
        return make_samples(refs, corner, data.inputs, data.vocabulary, 32, "round", **span).targets.tolist()

    assert target() == [[16, height / 4, 32]] and target(span="image") == [[16, 16, 32]]


@pytest.fixture(scope="module")
def shaken(data):
    """(sampling, span) -> all training refs with jitter, and their masks."""
    rows = data.refs[data.refs["split"] == "train"].reset_index(drop=True)
    masks = [contour.decode(*row) for row in rows[["mask", "height", "width"]].itertuples(index=False, name=None)]

    def make(sampling="uniform", span="frame"):
        points = [contour.sample(mask, 8, sampling) for mask in masks]
        jitter = Jitter((0.3, 1.4), [contour.largest_outline(mask) for mask in masks], sampling)
        return make_samples(rows, points, data.inputs, data.vocabulary, 64, "round", span, jitter), masks

    return make


def same_batches(samples, inputs, first, second):
    return all(map(equal, epoch_batches(samples, inputs, *first), epoch_batches(samples, inputs, *second)))


def test_a_jittered_view_depends_on_seed_epoch_and_ref_alone(data, shaken):
    samples, _ = shaken()
    assert same_batches(samples, data.inputs, (16, 0, 0), (16, 0, 0))
    assert same_batches(samples, data.inputs, (16, 0, 0), (16, 0, 0, 1))  # of a loader worker
    for other in ((16, 0, 1), (16, 1, 0)):
        assert not same_batches(samples, data.inputs, (16, 0, 0), other)
    whole, *_ = epoch_batches(samples, data.inputs, len(samples), seed=0, epoch=0)
    parts = list(epoch_batches(samples, data.inputs, 16, seed=0, epoch=0))
    assert torch.equal(torch.cat([part.tokens for part in parts]), whole.tokens)
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)


def test_with_jitter_every_ref_has_its_own_view_and_its_valid_cells(data, shaken):
    samples, _ = shaken()
    (batch,) = epoch_batches(samples, data.inputs, len(samples), seed=0, epoch=0)
    assert len(batch.images) == len(batch.valid) == len(samples) > len(np.unique(samples.rows))
    assert batch.image_index.tolist() == list(range(len(samples)))
    shown = batch.images.any(-1).reshape(len(samples), 4, 16, 4, 16).any(4).any(2)
    assert not (shown & ~batch.valid).any()
    assert len({valid.sum().item() for valid in batch.valid}) > 3


@pytest.mark.parametrize("sampling", ["uniform", "released"])
@pytest.mark.parametrize("span", ["frame", "image"])
def test_a_jittered_target_outlines_the_object_in_its_view(data, shaken, sampling, span):
    samples, masks = shaken(sampling, span)
    scores, cropped = [], 0
    for member in range(len(samples)):
        view, target = jittered(samples, data.inputs, member, np.random.default_rng([0, member]))
        extent = data.inputs.extent(int(samples.rows[member]), span, view)
        truth = view.mask(masks[member])
        found = contour.fill(tokens.sequence_to_points(target[:-1], extent, 64), *view.shape)
        scores.append((found & truth).sum() / max((found | truth).sum(), 1))
        cropped += view.crops
    assert np.mean(scores) > (0.75 if sampling == "uniform" else 0.6) and cropped > len(samples) / 8


def test_a_jittered_box_is_cut_to_its_view(data):
    rows = data.refs[data.refs["split"] == "train"].reset_index(drop=True)
    points = [boxes.to_corners(np.asarray(box, dtype=float)) for box in rows["bbox"]]
    jitter = Jitter((1.3, 1.4), points)
    samples = make_samples(rows, points, data.inputs, data.vocabulary, 64, "round", jitter=jitter)
    for member in range(len(samples)):
        view, target = jittered(samples, data.inputs, member, np.random.default_rng([0, member]))
        height, width = view.shape
        x1, y1, x2, y2, _ = target.tolist()
        assert x1 < x2 <= width and y1 < y2 <= height and view.crops
        expected = view.box(points[member], *data.inputs.cache.original(int(samples.rows[member])))
        assert np.abs(expected.reshape(-1) - target[:-1]).max() <= 1  # a bin is a pixel here, the last one's at 63


def test_without_jitter_batches_are_those_of_whole_images(data, shaken):
    samples, _ = shaken()
    plain = make_samples(
        data.refs[data.refs["split"] == "train"], samples.points, data.inputs, data.vocabulary, 64, "round"
    )
    (batch,) = epoch_batches(plain, data.inputs, len(plain), seed=0, epoch=0)
    assert len(batch.images) == len(np.unique(plain.rows))
    assert (plain.targets == samples.targets).all()


def test_grouped_batches_hold_each_ref_once_and_the_refs_of_an_image_together(data, samples):
    seen, images = [], []
    for epoch in (0, 1):
        batches = list(epoch_batches(samples, data.inputs, 7, seed=0, epoch=epoch, grouped=True))
        seen.append(torch.cat([batch.tokens for batch in batches]))
        images.append(sum(len(batch.images) for batch in batches))
        assert images[-1] <= len(np.unique(samples.rows)) + len(batches) - 1  # only one at each border is seen twice
    key = [sorted(map(tuple, tokens.tolist())) for tokens in (*seen, torch.from_numpy(samples.targets))]
    assert key[0] == key[1] == key[2] and not torch.equal(seen[0], seen[1])
    plain = list(epoch_batches(samples, data.inputs, 7, seed=0, epoch=0))
    assert sum(len(batch.images) for batch in plain) > images[0]


def test_blocks_of_images_are_all_expressions_once_in_the_order_of_the_whole(data):
    def texts(block):
        batches = expression_batches(data.refs, data.inputs, data.vocabulary, 8, block)
        return [(int(place), text) for places, texts, _ in batches for place, text in zip(places, texts, strict=True)]

    for parts in (2, 3, 100):
        assert [item for part in range(parts) for item in texts((part, parts))] == texts((0, 1))
