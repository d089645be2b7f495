"""What only a GPU gains from changes no result: tried on the CPU."""

from dataclasses import fields

import pytest
import torch

from partialres.data.batches import epoch_batches
from partialres.training.loop import make_optimiser, train
from partialres.training.resume import Resume
from tests.tiny import SHORT

POINTS = 4
# Adam divides by a gradient's size: without a larger epsilon, gradients that are zero but for rounding would decide.
CONFIG = SHORT.replace(epochs=1, batch=8, epsilon=1e-3)


@pytest.fixture(scope="module")
def batch(data):
    return next(epoch_batches(data.contours(POINTS, number=8), data.inputs, 8, seed=0, epoch=0))


def test_kernels_stored_channels_last_give_the_same_logits(batch, tiny_model):
    model = tiny_model(POINTS, dropout=0.0)
    before = model(batch)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(batch), before, rtol=1e-5, atol=1e-5)


def test_the_fused_optimiser_makes_the_steps_of_the_plain_one(batch, tiny_model):
    states = []
    for fused in (True, False):
        model = tiny_model(POINTS, dropout=0.0)
        optimiser = make_optimiser(model, CONFIG)
        (group,) = optimiser.param_groups
        assert group["fused"]
        if not fused:
            group |= {"fused": False, "foreach": False}
        for _ in range(3):
            optimiser.zero_grad()
            model.loss(model(batch), batch, CONFIG).backward()
            optimiser.step()
        states.append(model.state_dict())
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-4, atol=1e-5, msg=name)


def test_pinning_copies_every_tensor_of_a_batch(batch, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)  # without a GPU there is no such memory
    pinned = batch.pin_memory()
    for each in fields(batch):
        own, copied = getattr(batch, each.name), getattr(pinned, each.name)
        assert (copied is not own and torch.equal(copied, own)) if isinstance(own, torch.Tensor) else copied == own


def test_a_compiled_training_gives_the_weights_of_the_eager_one(data, tiny_model, compiler):
    states = []
    for compiled in (False, True):
        model = tiny_model(POINTS, dropout=0.0)
        config = CONFIG.replace(compile=compiled)
        train(
            model, data.contours(POINTS, number=24), data.inputs, config, seed=0, device=torch.device("cpu"),
            resume=Resume(None, {}), label="test",
        )  # fmt: skip
        states.append(model.state_dict())
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-3, atol=1e-4, msg=name)
