"""The whole model's guarantees, in the paper's setting, in the released one, and without CCTF and PMCA."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from partialres.data.batch import Batch
from partialres.data.views import whole
from partialres.model.cctf import AxisMeans, pointed_features
from partialres.model.pmca import Grid
from partialres.model.pointer import sequence_loss
from partialres.model.transformer import Memory
from tests.model.conftest import CONFIGS, make_batch, make_model

for _each in (Memory, Grid, AxisMeans):  # so that a memory is taken apart into its tensors
    torch.export.register_dataclass(_each)


@torch.no_grad()
def test_cached_decoding_gives_the_tokens_and_logits_of_rerunning_the_prefix(model, batch_for):
    batch = batch_for(model)
    memory = model.encode(batch)
    seen = []
    hook = model.predictor.register_forward_hook(lambda module, inputs, output: seen.append(output[:, 0]))
    tokens, probabilities = model.decode(memory)
    hook.remove()
    choices = model.config.bins + (model.config.upstream.end_token == "anywhere")
    for place, logits in enumerate(seen):
        again = model.logits(memory, torch.cat([tokens[:, :place], tokens[:, :1]], 1))[:, -1]
        torch.testing.assert_close(logits, again, atol=1e-5, rtol=1e-5)
        assert again[:, :choices].argmax(-1).tolist() == tokens[:, place].tolist()
        chosen = again.softmax(-1).gather(1, tokens[:, place : place + 1])[:, 0]
        torch.testing.assert_close(probabilities[:, place], chosen, atol=1e-5, rtol=1e-5)
    assert len(seen) == tokens.shape[1] == 2 * model.points


@pytest.mark.parametrize("setting", ["paper", "released"])
@torch.no_grad()
def test_decoding_is_a_fixed_graph_of_operations_whatever_the_values(setting):
    """What holds for a CUDA graph, which replays recorded operations: recorded without values, it fits other images."""
    model, batch = make_model(CONFIGS[setting]), make_batch(CONFIGS[setting])
    other = model.encode(replace(batch, images=torch.rand_like(batch.images) * 2 - 1))
    tensors, form = tree_flatten(model.encode(batch))
    recorded = make_fx(
        lambda *given: model.decode(tree_unflatten(given, form)), tracing_mode="fake", _allow_non_fake_inputs=True
    )(*tensors)
    tokens, probabilities = model.decode(other)
    assert not torch.allclose(probabilities, model.decode(model.encode(batch))[1], atol=1e-4)
    replayed = recorded(*tree_leaves(other))
    assert torch.equal(replayed[0], tokens)
    torch.testing.assert_close(replayed[1], probabilities)


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
    longer = replace(batch, words=torch.nn.functional.pad(batch.words, (0, 2)))
    torch.testing.assert_close(model(longer), model(batch), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("means", ["image", "frame"])
def test_what_stands_in_the_padding_of_an_image_does_not_reach_the_logits(model_with, batch_for, means):
    model = model_with(cctf_means=means)
    batch = batch_for(model)
    inside = batch.valid[batch.image_index].flatten(1)[..., None]
    before = model(batch)
    model.gate.register_forward_hook(lambda module, inputs, gated: torch.where(inside, gated, 9.0))
    assert torch.allclose(model(batch), before, atol=1e-5) == (means == "image")  # the released means count the padding


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
    batch = replace(batch_for(paper_model), images=images, valid=torch.ones(2, 3, 3, dtype=torch.bool))
    assert paper_model.visual.stride == 16
    cached = replace(batch, images=paper_model.visual(images).half())
    torch.testing.assert_close(paper_model(batch), paper_model(cached), atol=0.05, rtol=0.05)


@torch.no_grad()
def test_cctf_adds_to_a_token_what_it_points_at_in_the_image_without_its_padding(paper_model, batch_for):
    batch = batch_for(paper_model)
    memory = paper_model.encode(batch)
    features = memory.features.unflatten(1, (3, 5))
    torch.testing.assert_close(memory.means.columns[0], features[0].mean(0))
    torch.testing.assert_close(memory.means.columns[1], features[1, :2].mean(0))
    torch.testing.assert_close(memory.means.rows[1, :2], features[1, :2].mean(1))
    config, tokens = paper_model.config, batch.tokens[:, 1:]
    added = paper_model.embed(tokens, memory, 1) - paper_model.coordinates(tokens)
    expected = pointed_features(tokens, 1, memory.means, config.bins, config.upstream)
    torch.testing.assert_close(added, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_as_released_means_count_padding_and_not_the_language_token(released_model, batch_for):
    memory = released_model.encode(batch_for(released_model))
    assert memory.features.shape[1] == 3 * 5 + 1
    features = memory.features[:, :-1].unflatten(1, (3, 5))
    torch.testing.assert_close(memory.means.columns, features.mean(1))
    torch.testing.assert_close(memory.means.rows, features.mean(2))


@torch.no_grad()
@pytest.mark.parametrize("end_token", ["last", "anywhere"])
def test_the_end_is_decoded_only_where_it_may_stand(model_with, batch_for, end_token):
    model = model_with(end_token=end_token)
    model.predictor[-1].bias[-1] += 100
    tokens, _ = model.decode(model.encode(batch_for(model)))
    assert (tokens == model.config.bins).all() == (end_token == "anywhere")


@torch.no_grad()
@pytest.mark.parametrize("span", ["frame", "image"])
def test_answers_are_points_in_pixels_of_the_image_file(model_with, batch_for, monkeypatch, span):
    model = model_with(span=span)  # 50 bins
    tokens = torch.tensor([[0, 0, 25, 25, 49, 10, 0, 40]]).repeat(4, 1)
    monkeypatch.setattr(model, "decode", lambda memory: (tokens, torch.full((4, 8), 0.5)))
    answers = model.answers(batch_for(model), [whole((60, 160), (30, 80), 80)] * 4)
    height = {"frame": 160, "image": 64}[span]  # in the file's pixels: 80, or 30 rounded up to strides of 16, times 2
    expected = tokens[0].view(4, 2).numpy() / 50 * (160, height)
    for answer in answers:
        np.testing.assert_allclose(answer.points, expected)
        assert answer.probabilities.tolist() == [0.5] * 8 and answer.mask is None


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
def test_training_and_decoding_make_no_tensor_on_another_device(model, batch_for, cached):
    """On the meta device, a tensor made on the CPU by mistake would raise an error."""
    batch = batch_for(model)
    if not cached:
        batch = replace(batch, images=torch.zeros(2, 48, 80, 3, dtype=torch.uint8))
    model, batch = model.to("meta").train(), batch.to("meta")
    loss = sequence_loss(model(batch), batch.tokens, 0.1, 0.1, 1.5)
    loss.backward()
    torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad]).step()
    tokens, probabilities = model.decode(model.encode(batch))
    assert loss.is_meta and tokens.is_meta and probabilities.is_meta
    assert all(parameter.grad is None or parameter.grad.is_meta for parameter in model.parameters())


def test_a_stray_tensor_is_noticed_on_the_meta_device(model, batch_for):
    batch = batch_for(model)
    model.to("meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        model(batch)
