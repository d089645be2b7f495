"""Names and layouts of the released parameters, both ways."""

import pytest
import torch

from partialres.checkpoints.released import TASK, from_released, released_config, released_model, to_released
from partialres.config import ModelConfig
from partialres.files import DataError
from partialres.model.pointer import PointModel
from tests.tiny import RELEASED, changed, equal_tensors

PARTIAL = ModelConfig(upstream=RELEASED)
SEQTR = ModelConfig(cctf=False, pmca=False, upstream=RELEASED.step_1().replace(end_token="anywhere"))


def shapes(config, points):
    """Make a released state dict without values."""
    with torch.device("meta"):
        return to_released(PointModel(config, 60, points))


@pytest.mark.parametrize(
    ("config", "points", "number"),
    [(changed(SEQTR, end_token="last"), 2, 521), (SEQTR, 18, 521), (PARTIAL, 12, 540)],
)
def test_a_released_state_dict_tells_its_architecture(config, points, number):
    state = shapes(config, points)
    assert len(state) == number
    assert released_config(state) == config
    assert state["head.transformer.encoder.layers.5.self_attn.in_proj_weight"].shape == (768, 256)
    assert state["vis_enc.darknet.13.conv.weight"].shape == (1024, 512, 3, 3)


def test_the_way_there_and_back_changes_no_value():
    torch.manual_seed(0)
    state = {
        name: torch.randn(value.shape) if value.is_floating_point() else torch.tensor(3)
        for name, value in shapes(PARTIAL, 12).items()
    }
    model = released_model(state)
    assert equal_tensors(to_released(model), state)
    rows = state["head.transformer.decoder.layers.1.point.4.weight"]  # x, y of 8 centres, then of 8 scales
    ours = model.decoder[1].prior.locate[4].weight  # head by head
    assert torch.equal(ours[4 * 3 : 4 * 4], rows[[6, 7, 22, 23]])
    key = state["head.transformer.decoder.layers.0.multihead_attn.in_proj_weight"][256:512]
    assert torch.equal(model.decoder[0].cross_attention.key.weight, key)


def test_every_key_that_does_not_fit_is_named():
    state = shapes(SEQTR, 18)
    with torch.device("meta"):
        model = PointModel(SEQTR, 60, 18)
    del state["fusion.top_project.0.conv.weight"]
    state["head.unheard.of"] = state["lan_enc.lstm.bias_ih_l0"]
    state["lan_enc.lstm.bias_hh_l0"] = torch.empty(7, device="meta")
    wrong = r"missing: fusion\.top_project\.0\.conv\.weight; left over: head\.unheard\.of; of another .*bias_hh_l0"
    with pytest.raises(DataError, match=wrong):
        from_released(state, model)
    with pytest.raises(DataError, match="not a released"):
        released_model({"weight": torch.zeros(1)})


def test_a_task_vector_that_is_not_used_is_no_problem():
    state = shapes(SEQTR, 18)
    with torch.device("meta"):
        model = PointModel(SEQTR, 60, 18)
    assert from_released({**state, TASK: torch.empty(1, 256)}, model)["start"].abs().max() == 0


@pytest.mark.parametrize(
    "change",
    [{"cctf_axes": "paper"}, {"padded_words": 0}, {"span": "frame"}, {"padding": "ignored"},
     {"width": 128, "heads": 4}],
)  # fmt: skip
def test_a_model_the_released_code_would_run_differently_is_not_exported(change):
    with torch.device("meta"):
        model = PointModel(changed(PARTIAL, **change), 60, 12)
    with pytest.raises(DataError, match=next(iter(change))):
        to_released(model)
