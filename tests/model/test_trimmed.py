"""A batch that leaves out padding gives the answers of the whole square frame, whatever stands in the padding."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partialres.config import UpstreamConfig
from partialres.data.batch import Batch
from tests import tiny
from tests.model.conftest import PAPER, PLAIN, POINTS, WORDS, make_model

IGNORED = {"cctf_means": "image", "padding": "ignored"}
SETTINGS = {
    "paper": PAPER,
    "plain": PLAIN,
    "released": tiny.changed(PAPER, **tiny.RELEASED.model_dump() | IGNORED),
    "spread": tiny.changed(PAPER, cctf_cells="spread", cctf_axes="transposed"),
    "mask head": PLAIN.replace(head="mask"),
}
MODELS = {name: make_model(config) for name, config in SETTINGS.items()}


def whole_frame(config, side, shapes, seed):
    """A batch of two expressions about each image, on all of a frame of side x side positions; noise in the padding."""
    generator = torch.Generator().manual_seed(seed)
    number = 2 * len(shapes)
    valid = torch.zeros(len(shapes), side, side, dtype=torch.bool)
    for inside, (down, across) in zip(valid, shapes, strict=True):
        inside[:down, :across] = True
    return Batch(
        images=torch.rand(len(shapes), config.fusion, side, side, generator=generator) * 2 - 1,
        valid=valid, image_index=torch.arange(number) // 2,
        words=torch.randint(2, WORDS, (number, 3), generator=generator),
        tokens=torch.randint(0, config.bins, (number, 2 * POINTS + 1), generator=generator),
    )  # fmt: skip


@settings(max_examples=25)
@given(st.data(), st.sampled_from(sorted(SETTINGS)), st.integers(2, 6), st.integers(0, 99))
@torch.no_grad()
def test_leaving_out_padding_changes_no_answer(data, name, side, seed):
    model, sides = MODELS[name], st.integers(1, side)
    shapes = data.draw(st.lists(st.tuples(sides, sides), min_size=1, max_size=3))
    whole = whole_frame(model.config, side, shapes, seed)
    down, across = (max(each) for each in zip(*shapes, strict=True))
    trimmed = replace(whole, images=whole.images[:, :, :down, :across])
    for ours, expected in zip(outputs(model, trimmed), outputs(model, whole), strict=True):
        torch.testing.assert_close(ours, expected, atol=2e-4, rtol=1e-3)


def outputs(model, batch):
    """The logits of given tokens, or a box and a mask."""
    answer = model(batch)
    return answer if isinstance(answer, tuple) else (answer,)


@pytest.mark.parametrize("setting", IGNORED)
@torch.no_grad()
def test_where_whole_frames_leaving_it_out_would_change_the_answer(setting):
    config = tiny.changed(PAPER, **{setting: getattr(tiny.RELEASED, setting)})
    assert config.upstream.whole_frames and not UpstreamConfig().whole_frames
    model, whole = make_model(config), whole_frame(config, 5, [(3, 5), (2, 4)], 0)
    trimmed = replace(whole, images=whole.images[:, :, :3])
    assert not torch.allclose(model(trimmed), model(whole), atol=1e-3)
