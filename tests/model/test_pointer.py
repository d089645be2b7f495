"""What the whole model promises, in the paper's setting, the released one, and without CCTF and PMCA."""

import dataclasses

import pytest
import torch

from partialres.model.pointer import Batch, sequence_loss


@torch.no_grad()
def test_cached_decoding_gives_the_tokens_and_logits_of_rerunning_the_prefix(model, batch_for):
    batch = batch_for(model)
    memory = model.encode(batch)
    seen = []
    hook = model.predictor.register_forward_hook(lambda module, inputs, output: seen.append(output[:, 0]))
    tokens, probabilities = model.decode(memory)
    hook.remove()
    choices = model.config.bins + (model.config.end == "anywhere")
    for place, logits in enumerate(seen):
        again = model.logits(memory, torch.cat([tokens[:, :place], tokens[:, :1]], 1))[:, -1]
        torch.testing.assert_close(logits, again, atol=1e-5, rtol=1e-5)
        assert again[:, :choices].argmax(-1).tolist() == tokens[:, place].tolist()
        chosen = again.softmax(-1).gather(1, tokens[:, place : place + 1])[:, 0]
        torch.testing.assert_close(probabilities[:, place], chosen, atol=1e-5, rtol=1e-5)
    assert len(seen) == tokens.shape[1] == 2 * model.points


@torch.no_grad()
def test_a_batch_gives_what_each_expression_gives_alone(model, batch_for):
    batch = batch_for(model)
    together = model(batch)
    decoded, _ = model.decode(model.encode(batch))
    for row, image in enumerate(batch.image_index.tolist()):
        length = int((batch.words[row] != 0).sum())
        alone = Batch(
            batch.images[image : image + 1], batch.valid[image : image + 1], torch.tensor([0]),
            batch.words[row : row + 1, :length], batch.tokens[row : row + 1],
        )  # fmt: skip
        torch.testing.assert_close(model(alone), together[row : row + 1], atol=1e-5, rtol=1e-5)
        assert model.decode(model.encode(alone))[0].tolist() == decoded[row : row + 1].tolist()


@torch.no_grad()
def test_padding_words_up_to_what_the_gru_reads_changes_nothing(model, batch_for):
    batch = batch_for(model)
    longer = dataclasses.replace(batch, words=torch.nn.functional.pad(batch.words, (0, 2)))
    torch.testing.assert_close(model(longer), model(batch), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_stands_in_the_padding_of_an_image_does_not_reach_the_logits(model_with, batch_for):
    for means in ("image", "frame"):
        model = model_with(cctf_means=means)
        batch = batch_for(model)
        visual = model.gate(batch.images[batch.image_index], model.language(batch.words, batch.lengths))
        valid = batch.valid[batch.image_index]
        positions = torch.zeros_like(visual)
        other = torch.where(valid.flatten(1)[..., None], visual, 9.0)
        first, second = (model.logits(model._memory(x, valid, positions), batch.tokens) for x in (visual, other))
        assert torch.allclose(first, second, atol=1e-5) == (means == "image")


@torch.no_grad()
def test_a_token_cannot_see_those_after_it(model, batch_for):
    batch = batch_for(model)
    memory = model.encode(batch)
    other = batch.tokens.clone()
    other[:, 4:] = 7
    first, second = model.logits(memory, batch.tokens), model.logits(memory, other)
    torch.testing.assert_close(first[:, :5], second[:, :5])
    assert not torch.allclose(first[:, 5:], second[:, 5:], atol=1e-3)


@torch.no_grad()
def test_pixels_and_their_cached_features_give_the_same(paper_model, batch_for):
    images = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8)
    batch = dataclasses.replace(batch_for(paper_model), images=images, valid=torch.ones(2, 3, 3, dtype=torch.bool))
    assert paper_model.visual.stride == 16
    cached = dataclasses.replace(batch, images=paper_model.visual(images).half())
    torch.testing.assert_close(paper_model(batch), paper_model(cached), atol=0.05, rtol=0.05)


def looked_up(model, memory, tokens, first=0):
    """The features that CCTF adds to tokens [B, T], [B, T, D]."""
    return model.embed(tokens, memory, first) - model.coordinates(tokens)


@torch.no_grad()
def hand_made(model, batch):
    """A memory whose column x has the feature x everywhere, and whose row y has 100 + y."""
    memory = model.encode(batch)
    rows, columns = memory.rows.shape[1], memory.columns.shape[1]
    number, width = memory.rows.shape[0], memory.rows.shape[2]
    memory.columns = torch.arange(columns)[None, :, None].expand(number, columns, width).float()
    memory.rows = 100 + torch.arange(rows)[None, :, None].expand(number, rows, width).float()
    return memory


# 50 bins over 5 columns and 3 rows: 10 bins a column, 16.7 a row
@pytest.mark.parametrize(
    ("settings", "tokens", "found"),
    [
        ({}, [0, 0], [0, 100]),
        ({}, [9, 16], [0, 100]),
        ({}, [10, 17], [1, 101]),
        ({}, [49, 49], [4, 102]),
        ({}, [50, 50], [4, 102]),
        ({"cctf_axes": "transposed"}, [10, 17], [100, 1]),
        ({"cctf_axes": "transposed"}, [49, 49], [102, 4]),
        ({"cctf_cells": "spread"}, [12, 24], [0, 100]),
        ({"cctf_cells": "spread"}, [13, 25], [1, 101]),
        ({"cctf_cells": "spread"}, [49, 50], [3, 102]),
    ],
)
@torch.no_grad()
def test_x_looks_up_its_column_and_y_its_row(model_with, batch_for, settings, tokens, found):
    model = model_with(**settings)
    memory = hand_made(model, batch_for(model))
    pairs = torch.tensor(tokens).repeat(4, 2)
    expected = torch.tensor(found).float().repeat(4, 2)[..., None].expand(-1, -1, model.config.width)
    torch.testing.assert_close(looked_up(model, memory, pairs), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(looked_up(model, memory, pairs[:, 1:], first=1), expected[:, 1:], atol=1e-4, rtol=0)


@torch.no_grad()
def test_columns_and_rows_are_means_over_the_image_without_its_padding(paper_model, batch_for):
    batch = batch_for(paper_model)
    memory = paper_model.encode(batch)
    features = memory.features.unflatten(1, (3, 5))
    torch.testing.assert_close(memory.columns[0], features[0].mean(0))
    torch.testing.assert_close(memory.columns[1], features[1, :2].mean(0))
    torch.testing.assert_close(memory.rows[1, :2], features[1, :2].mean(1))


@torch.no_grad()
def test_as_released_means_count_padding_and_not_the_language_token(released_model, batch_for):
    memory = released_model.encode(batch_for(released_model))
    assert memory.features.shape[1] == 3 * 5 + 1
    features = memory.features[:, :-1].unflatten(1, (3, 5))
    torch.testing.assert_close(memory.columns, features.mean(1))
    torch.testing.assert_close(memory.rows, features.mean(2))


@torch.no_grad()
def test_the_end_is_decoded_only_where_it_may_stand(model_with, batch_for):
    for end in ("last", "anywhere"):
        model = model_with(end=end)
        model.predictor[-1].bias[-1] += 100
        tokens, _ = model.decode(model.encode(batch_for(model)))
        assert (tokens == model.config.bins).all() == (end == "anywhere")


@torch.no_grad()
def test_decoding_stays_within_the_allowed_bins(model, batch_for):
    memory = model.encode(batch_for(model))
    allowed = torch.tensor([[[3, 9], [20, 20]], [[0, 49], [7, 8]], [[40, 49], [0, 0]], [[5, 5], [1, 30]]])
    tokens, _ = model.decode(memory, allowed)
    for axis in (0, 1):
        assert (tokens[:, axis::2] >= allowed[:, axis, :1]).all() and (tokens[:, axis::2] <= allowed[:, axis, 1:]).all()


@pytest.mark.parametrize(("end_weight", "first_weight"), [(0.1, 1.0), (1.0, 1.5)])
def test_the_loss_is_the_smoothed_weighted_cross_entropy_of_a_plain_loop(end_weight, first_weight):
    torch.manual_seed(0)
    logits, tokens = torch.randn(2, 5, 7), torch.tensor([[0, 3, 5, 6, 6], [1, 1, 2, 4, 6]])
    total = 0.0
    for row in range(2):
        for place in range(5):
            log = logits[row, place].log_softmax(-1)
            target = int(tokens[row, place])
            loss = -sum(float(log[kind]) * (0.9 if kind == target else 0.1 / 7) for kind in range(7))
            total += loss * (end_weight if target == 6 else 1) * (first_weight if place == 0 else 1)
    assert float(sequence_loss(logits, tokens, 0.1, end_weight, first_weight)) == pytest.approx(total / 10, rel=1e-5)


def test_training_moves_every_part_that_trains(model, batch_for):
    batch = batch_for(model)
    sequence_loss(model.train()(batch), batch.tokens, 0.1, 0.1, 1.0).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            assert name.endswith("key.bias") or parameter.grad.abs().max() > 0, name  # softmax cancels a key's bias


@pytest.mark.parametrize("cached", [False, True])
def test_a_step_and_decoding_make_no_tensor_on_another_device(released_model, batch_for, cached):
    """On the meta device a tensor made on the CPU by oversight would raise."""
    batch = batch_for(released_model)
    if not cached:
        batch = dataclasses.replace(batch, images=torch.zeros(2, 48, 80, 3, dtype=torch.uint8))
    batch, allowed = batch.to("meta"), torch.zeros(4, 2, 2, dtype=torch.int64, device="meta")
    model = released_model.to("meta").train()
    loss = sequence_loss(model(batch), batch.tokens, 0.1, 0.1, 1.0)
    loss.backward()
    tokens, probabilities = model.decode(model.encode(batch), allowed)
    assert {loss.device.type, tokens.device.type, probabilities.device.type} == {"meta"}


def on_meta(model, batch):
    """Model and batch on torch's meta device, where an operation on a tensor that stayed behind raises."""
    return model.to("meta"), batch.to("meta")


def test_a_training_step_leaves_no_tensor_behind_on_another_device(model, batch_for):
    model, batch = on_meta(model.train(), batch_for(model))
    loss = sequence_loss(model(batch), batch.tokens, 0.1, 0.1, 1.5)
    loss.backward()
    optimiser = torch.optim.Adam([one for one in model.parameters() if one.requires_grad])
    optimiser.step()
    assert loss.is_meta and all(one.grad.is_meta for one in model.parameters() if one.grad is not None)


def test_decoding_leaves_no_tensor_behind_on_another_device(model, batch_for):
    model, batch = on_meta(model, batch_for(model))
    limits = torch.zeros(len(batch.words), 2, 2, dtype=torch.int64, device="meta")
    tokens, probabilities = model.decode(model.encode(batch), limits)
    assert tokens.is_meta and probabilities.is_meta and tokens.shape == (len(batch.words), 2 * model.points)


def test_a_stray_tensor_is_noticed_on_the_meta_device(model, batch_for):
    batch = batch_for(model)
    model.to("meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        model(batch)


@torch.no_grad()
def test_a_contour_follows_its_box_given_or_said(model_with, batch_for):
    model = model_with(prompt="box")
    batch = batch_for(model)
    memory, points = model.encode(batch), 2 * model.points
    box = torch.tensor([[3, 4, 30, 40]] * len(batch.words))
    tokens, probabilities = model.decode(memory, box=box)
    assert tokens.shape == probabilities.shape == (len(box), points)
    for place in range(points):
        prefix = torch.cat([box, tokens[:, :place], box[:, :1]], 1)
        again = model.logits(memory, prefix)[:, -1]
        assert again[:, :-1].argmax(-1).tolist() == tokens[:, place].tolist()
    said, _ = model.decode(memory)
    own = []
    for _ in range(4):
        prefix = torch.stack([*own, box[:, 0]], 1)
        own.append(model.logits(memory, prefix)[:, -1, :-1].argmax(-1))
    assert model.decode(memory, box=torch.stack(own, 1))[0].tolist() == said.tolist()


@torch.no_grad()
def test_restricted_coordinates_lie_in_the_box(paper_model, batch_for):
    batch = batch_for(paper_model)
    allowed = torch.tensor([[[3, 5], [20, 20]]] * len(batch.words))
    tokens, _ = paper_model.decode(paper_model.encode(batch), allowed)
    assert ((tokens[:, ::2] >= 3) & (tokens[:, ::2] <= 5)).all() and (tokens[:, 1::2] == 20).all()


def test_unknown_tokens_count_for_nothing_and_rows_by_their_weight():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 7, generator=generator)
    tokens = torch.tensor([[1, 2, 3, 4, 6], [5, 0, -1, -1, -1]])
    alone = [
        sequence_loss(logits[:1], tokens[:1], 0.1, 0.1, 1.5),
        sequence_loss(logits[1:, :2], tokens[1:, :2], 0.1, 0.1, 1.5),
    ]
    together = float(sequence_loss(logits, tokens, 0.1, 0.1, 1.5))
    assert together == pytest.approx(float(5 * alone[0] + 2 * alone[1]) / 7, rel=1e-5)
    weighted = float(sequence_loss(logits, tokens, 0.1, 0.1, 1.5, torch.tensor([2.0, 0.5])))
    assert weighted == pytest.approx(float(10 * alone[0] + alone[1]) / 7, rel=1e-5)
