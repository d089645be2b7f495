"""Attention, positions and the point prior."""

import pytest
import torch
from torch import nn

from partialres.config import ModelConfig
from partialres.model.transformer import Attention, Memory, PointPrior, project, project_across, sine_positions

HEADS, WIDTH = 4, 32


def make_memory(height, width, extent=(1.0, 1.0), tokens=0):
    """A memory of one image, of which the prior needs only the places."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return Memory(
        features=torch.zeros(1, height * width + tokens, WIDTH), positions=torch.zeros(1),
        keys=[], values=[], bias=torch.zeros(1),
        centres=(x[0], y[:, 0]), extent=torch.tensor([extent]),
        cells=torch.tensor([width, height]).float(), columns=torch.zeros(1), rows=torch.zeros(1),
    )  # fmt: skip


def make_prior(form, centre, scale):
    """A prior that gives every query the same centre and raw scale, whatever the query."""
    prior = PointPrior(ModelConfig(width=WIDTH, heads=HEADS, pmca_scale=form))
    nn.init.zeros_(prior.locate[-1].weight)
    raw = torch.cat([torch.tensor(centre).logit(), torch.tensor(scale)])
    prior.locate[-1].bias.data.copy_(raw.repeat(HEADS))
    return prior


@pytest.mark.parametrize(("form", "scale"), [("divide", (-3.0, -3.0)), ("multiply", (0.7, -0.4))])
@torch.no_grad()
def test_the_prior_is_greatest_at_its_centre_and_falls_with_distance(form, scale):
    prior = make_prior(form, (0.3, 0.7), scale)(torch.randn(1, 3, WIDTH), make_memory(10, 10))
    assert prior.shape == (1, HEADS, 3, 100)
    centre = prior.unflatten(-1, (10, 10))
    assert (
        (prior.argmax(-1) == 6 * 10 + 2)
        .logical_or(prior.argmax(-1) == 7 * 10 + 2)
        .logical_or(prior.argmax(-1) == 6 * 10 + 3)
        .logical_or(prior.argmax(-1) == 7 * 10 + 3)
        .all()
    )  # the corner that four cells share
    assert (prior <= 0).all()
    along = centre[0, 0, 0, 7, 3:]
    assert (along.diff() < 0).all()


@torch.no_grad()
def test_a_new_prior_is_almost_plain_attention():
    prior = PointPrior(ModelConfig(width=WIDTH, heads=HEADS))(torch.randn(2, 3, WIDTH), make_memory(20, 20))
    assert prior.abs().max() < 1 / 16 + 1e-3  # half the image from its middle on both axes, over sigma


@torch.no_grad()
def test_the_released_prior_measures_in_cells_from_a_centre_inside_the_image():
    memory = make_memory(4, 8, extent=(0.5, 1.0), tokens=1)
    prior = make_prior("multiply", (0.75, 0.5), (2.0, 1.0))(torch.randn(1, 1, WIDTH), memory)
    u, v = torch.arange(8) + 0.5, torch.arange(4) + 0.5
    expected = -(4 * (u[None] - 3) ** 2 + (v[:, None] - 2) ** 2) / 8
    torch.testing.assert_close(prior[0, 0, 0, :-1].unflatten(0, (4, 8)), expected)
    assert prior[..., -1].abs().max() == 0  # the language token is not modulated


def test_no_form_of_the_prior_starts_where_it_could_never_leave():
    for form in ("divide", "multiply"):
        prior = PointPrior(ModelConfig(width=WIDTH, heads=HEADS, pmca_scale=form))
        weights = prior(torch.randn(2, 3, WIDTH), make_memory(5, 5)).softmax(-1)
        (weights * torch.randn_like(weights)).sum().backward()
        assert prior.locate[-1].bias.grad.abs().max() > 0, form


@torch.no_grad()
def test_attention_is_torch_s_multi_head_attention():
    torch.manual_seed(0)
    ours = Attention(ModelConfig(width=WIDTH, heads=HEADS)).eval()
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
    theirs.out_proj.weight.copy_(ours.out.weight)
    query, memory, places = torch.randn(2, 3, WIDTH), torch.randn(2, 5, WIDTH), torch.randn(2, 5, WIDTH)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    bias = torch.zeros(2, 1, 1, 5).masked_fill(padding[:, None, None], -torch.inf)
    expected, _ = theirs(query, memory + places, memory, key_padding_mask=padding)
    torch.testing.assert_close(ours(query, *ours.keys_values(memory, places), bias), expected)


def test_both_layouts_of_keys_hold_the_same_values_with_the_same_gradients():
    torch.manual_seed(0)
    layer, x, wanted = nn.Linear(WIDTH, WIDTH), torch.randn(3, 7, WIDTH), torch.randn(3, HEADS, 7, WIDTH // HEADS)
    seen = []
    for layout in (project, project_across):
        found = layout(layer, x, HEADS)
        gradients = torch.autograd.grad((found * wanted).sum(), [layer.weight, layer.bias])
        seen.append((found, *gradients))
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one, other)
    assert seen[0][0].is_contiguous() and seen[1][0].transpose(-1, -2).is_contiguous()


def test_positions_are_relative_to_the_image_and_not_to_its_frame():
    valid = torch.zeros(1, 6, 8, dtype=torch.bool)
    valid[:, :3, :4] = True
    framed = sine_positions(valid, 32).unflatten(1, (6, 8))[:, :3, :4]
    torch.testing.assert_close(framed.flatten(1, 2), sine_positions(valid[:, :3, :4], 32))
