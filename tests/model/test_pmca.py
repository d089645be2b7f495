"""PMCA's prior (eq. 6-7) against plain loops."""

from itertools import product

import pytest
import torch
from torch import nn

from partialres.config import ModelConfig
from partialres.model.build import initialise
from partialres.model.pmca import Grid, PointPrior, log_gaussian
from tests.tiny import changed

CONFIG = ModelConfig(width=32, heads=4)


def grid(height, width):
    return Grid.of(torch.ones(1, height, width, dtype=torch.bool), height, width)


def read(x):
    """Give the same to a prior as content and as query."""
    return x, x


def new_prior(form="sigmoid"):
    """Make a prior with its initial values."""
    prior = PointPrior(changed(CONFIG, pmca_scale=form))
    initialise(prior, seed=0)
    return prior


def make_prior(form, centre, scale):
    """Make a prior that gives every query the same centre and raw scale."""
    prior = new_prior(form)
    nn.init.zeros_(prior.locate[-1].weight)
    raw = torch.cat([torch.tensor(centre).logit(), torch.tensor(scale)])
    prior.locate[-1].bias.data.copy_(raw.repeat(CONFIG.heads))
    return prior


def test_a_grid_has_the_middles_of_the_frames_cells_and_the_images_share_of_it():
    valid = torch.zeros(2, 4, 5, dtype=torch.bool)
    valid[0], valid[1, :2] = True, True
    places = Grid.of(valid, 4, 5)
    torch.testing.assert_close(places.x, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    torch.testing.assert_close(places.y, torch.tensor([0.125, 0.375, 0.625, 0.875]))
    assert places.extent.tolist() == [[1, 1], [1, 0.5]]


def test_the_log_gaussian_is_that_of_a_plain_loop():
    torch.manual_seed(0)
    centre, weight, places = torch.rand(2, 3, 4, 2), torch.rand(2, 3, 4, 2), grid(3, 5)
    values = log_gaussian(centre, weight, places)
    assert values.shape == (2, 3, 4, 15)
    for index in product(range(2), range(3), range(4)):
        (cx, cy), (wx, wy) = centre[*index].tolist(), weight[*index].tolist()
        expected = [-wx * (x - cx) ** 2 - wy * (y - cy) ** 2 for y in places.y.tolist() for x in places.x.tolist()]
        assert values[*index].tolist() == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_the_prior_is_the_gaussian_of_each_heads_centre_and_scale():
    torch.manual_seed(0)
    prior, query, places = PointPrior(CONFIG), torch.randn(2, 3, CONFIG.width), grid(3, 5)
    nn.init.normal_(prior.locate[-1].weight)
    values, raw = prior(*read(query), places, 15), prior.locate(query).view(2, 3, CONFIG.heads, 4)
    for row, head, token in product(range(2), range(CONFIG.heads), range(3)):
        cx, cy = raw[row, token, head, :2].sigmoid().tolist()
        wx, wy = (1 / (CONFIG.pmca_sigma * s**2) for s in raw[row, token, head, 2:].sigmoid().tolist())
        expected = [-wx * (x - cx) ** 2 - wy * (y - cy) ** 2 for y in places.y.tolist() for x in places.x.tolist()]
        assert values[row, head, token].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("form", "scale"), [("sigmoid", (-3.0, -3.0)), ("raw", (0.7, -0.4))])
@torch.no_grad()
def test_the_prior_is_greatest_at_its_centre_and_falls_with_distance(form, scale):
    prior = make_prior(form, (0.3, 0.7), scale)(*read(torch.randn(1, 3, CONFIG.width)), grid(10, 10), 100)
    assert prior.shape == (1, CONFIG.heads, 3, 100) and (prior <= 0).all()
    corner = {62, 63, 72, 73}  # the corner that four cells share
    assert set(prior.argmax(-1).unique().tolist()) <= corner
    assert (prior.unflatten(-1, (10, 10))[0, 0, 0, 7, 3:].diff() < 0).all()


@torch.no_grad()
def test_a_new_prior_is_in_the_middle_half_the_frame_wide():
    prior = new_prior()(*read(torch.randn(2, 3, CONFIG.width)), grid(20, 20), 400)
    corner = 2 * 0.475**2 / (CONFIG.pmca_sigma * 0.5**2)  # the outermost cell's distance on both axes
    torch.testing.assert_close(prior.amin(-1), torch.full_like(prior.amin(-1), -corner))


@torch.no_grad()
def test_the_prior_reads_the_co_content_embeddings_or_the_queries_as_released():
    content, query, places = torch.randn(2, 3, CONFIG.width), torch.randn(2, 3, CONFIG.width), grid(4, 4)
    for reads, seen in (("content", content), ("query", query)):
        prior = PointPrior(changed(CONFIG, pmca_reads=reads))
        nn.init.normal_(prior.locate[-1].weight)
        assert torch.equal(prior(content, query, places, 16), prior(seen, seen, places, 16))


@torch.no_grad()
def test_the_released_prior_measures_in_cells_from_a_centre_inside_the_image():
    valid = torch.zeros(1, 4, 8, dtype=torch.bool)
    valid[:, :, :4] = True
    query = torch.randn(1, 1, CONFIG.width)
    prior = make_prior("raw", (0.75, 0.5), (2.0, 1.0))(*read(query), Grid.of(valid, 4, 8), 33)
    u, v = torch.arange(8) + 0.5, torch.arange(4) + 0.5
    expected = -(4 * (u[None] - 3) ** 2 + (v[:, None] - 2) ** 2) / 8
    torch.testing.assert_close(prior[0, 0, 0, :-1].unflatten(0, (4, 8)), expected)
    assert prior[..., -1].abs().max() == 0  # the language token is not modulated


@pytest.mark.parametrize("form", ["sigmoid", "raw"])
def test_no_form_of_the_prior_starts_where_it_could_never_leave(form):
    prior = new_prior(form)
    weights = prior(*read(torch.randn(2, 3, CONFIG.width)), grid(5, 5), 25).softmax(-1)
    (weights * torch.randn_like(weights)).sum().backward()
    assert prior.locate[-1].bias.grad.abs().max() > 0
