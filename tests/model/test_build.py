"""Initial values: equal in all parts that two models have in common."""

import pytest
import torch

from partialres.config import ModelConfig
from partialres.model.build import build_model
from partialres.model.mask_head import MaskHeadModel
from partialres.training.pretraining import DetectionHead

CONFIG = ModelConfig(
    backbone="tiny", fusion=16, language=8, word=8, width=16, heads=2, encoder_layers=1, decoder_layers=2,
    feedforward=16, bins=20,
)  # fmt: skip
STEP_1 = CONFIG.step_1()
MASK_HEAD = CONFIG.replace(cctf=False, pmca=False, head="mask")
OWN = ("coordinates", "positions", "start", "predictor", "query", "box_head", "mask_head")  # what a head alone has


@pytest.mark.parametrize(
    ("other", "points"),
    [
        (CONFIG.replace(cctf=False, pmca=False), 6), (CONFIG.replace(cctf=False), 6), (CONFIG.replace(pmca=False), 6),
        (CONFIG.replace(decoder_layers=1), 6), (CONFIG, 9), (STEP_1, 2), (MASK_HEAD, 6),
    ],
)  # fmt: skip
def test_models_that_differ_in_a_part_start_with_all_others_equal(other, points):
    mine, theirs = build_model(CONFIG, 11, 6, seed=3), build_model(other, 11, points, seed=3)
    mine, theirs = mine.state_dict(), theirs.state_dict()
    shared = {name for name in mine.keys() & theirs.keys() if mine[name].shape == theirs[name].shape}
    assert {name for name in mine.keys() - shared if ".prior." not in name and not name.startswith("decoder.1.")} <= {
        name for name in mine if name.startswith(OWN)
    }
    assert len(shared) > 60 and all(torch.equal(mine[name], theirs[name]) for name in shared)


def test_a_seed_fixes_every_value_and_another_changes_all_that_are_drawn():
    first, again, other = (build_model(CONFIG, 11, 6, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if first[name].is_floating_point() and first[name].std() > 0]
    assert len(drawn) > 40 and not any(torch.equal(first[name], other[name]) for name in drawn)


def test_the_draw_leaves_torchs_own_generator_alone():
    torch.manual_seed(5)
    build_model(CONFIG, 11, 6)
    after = torch.rand(3)
    torch.manual_seed(5)
    assert not torch.equal(after, torch.zeros(3)) and isinstance(build_model(MASK_HEAD, 11, 6), MaskHeadModel)


def test_equal_modules_at_other_places_start_unequal():
    state = build_model(CONFIG, 11, 6).state_dict()
    assert not torch.equal(
        state["decoder.0.self_attention.query.weight"], state["decoder.1.self_attention.query.weight"]
    )
    assert DetectionHead(4, [2]).conv.weight.std() > 0
