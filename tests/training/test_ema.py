"""The averaged weights against a plain loop."""

import pytest
import torch
from torch import nn

from partialres.training.ema import Ema


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_the_average_is_the_plain_one_with_its_decay_warmed_up(decay):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    ema = Ema(model, decay)
    expected = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for step in range(40):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        ema.update()
        share = min(decay, (step + 1) / (step + 10))
        for name, parameter in model.named_parameters():
            expected[name] = share * expected[name] + (1 - share) * parameter.detach()
    ema.apply()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name])


def test_the_first_step_takes_a_tenth_of_what_was_there():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = Ema(model, 0.999)
    nn.init.ones_(model.weight)
    ema.update()
    ema.apply()
    assert model.weight.item() == pytest.approx(0.9)


def test_what_does_not_train_and_the_weights_in_training_stay_as_they_are():
    model = nn.BatchNorm1d(2)
    model.bias.requires_grad_(False)
    ema = Ema(model, 0.5)
    with torch.no_grad():
        model.weight += 1
        model.bias += 1
        model.running_mean += 1
    ema.update()
    assert model.weight.tolist() == [2, 2]
    ema.apply()
    assert set(ema.average) == {"weight"}
    assert model.bias.tolist() == [1, 1] and model.running_mean.tolist() == [1, 1]


def test_a_loaded_average_goes_on_as_if_it_had_never_stopped():
    def steps(model, ema, number):
        for _ in range(number):
            with torch.no_grad():
                model.weight += torch.randn_like(model.weight)
            ema.update()

    torch.manual_seed(0)
    model = nn.Linear(3, 3, bias=False)
    whole = Ema(model, 0.9)
    steps(model, whole, 10)

    torch.manual_seed(0)
    model = nn.Linear(3, 3, bias=False)
    first = Ema(model, 0.9)
    steps(model, first, 4)
    second = Ema(model, 0.9)
    second.load(first.state())
    steps(model, second, 6)
    assert torch.equal(whole.average["weight"], second.average["weight"]) and second.steps == 10
