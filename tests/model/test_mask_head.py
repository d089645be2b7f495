"""The two-head model: its losses against plain formulas, and the guarantees that it shares with the point model."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from partialres.config import ConfigError, TrainConfig
from partialres.data.batch import Batch
from partialres.data.samples import coverage
from partialres.data.views import whole
from partialres.geometry import contour
from partialres.model.mask_head import (
    MaskHeadModel,
    Output,
    dice_loss,
    focal_loss,
    generalised_iou,
    resize_to_image,
)
from partialres.model.pointer import PointModel
from tests.model.conftest import CELLS, PLAIN, make_batch
from tests.model.conftest import make_model as made
from tests.tiny import changed

CONFIG = PLAIN.replace(head="mask")


def make_model(points=4, **changes):
    """The small model with a mask head; in step 1 (two points) it has none."""
    return made(changed(CONFIG, **changes), points)


@pytest.fixture
def batch():
    """The point model's batch, with a mask head's targets instead of tokens."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.randint(0, 256, (4, *(4 * side for side in CELLS)), generator=generator)
    targets = {"boxes": torch.rand(4, 4, generator=generator) / 2 + 0.2, "masks": masks.to(torch.uint8)}
    return replace(make_batch(CONFIG), tokens=None, **targets)


def test_the_head_says_which_model_is_built():
    assert type(make_model()) is MaskHeadModel
    assert type(make_model(head="points")) is PointModel


@torch.no_grad()
@pytest.mark.parametrize("token", [False, True])
def test_the_output_is_a_box_in_the_frame_and_four_cells_of_mask_along_a_position(batch, token):
    output = make_model(language_token=token)(batch)
    assert output.boxes.shape == (4, 4) and ((output.boxes > 0) & (output.boxes < 1)).all()
    assert output.masks.shape == (4, 12, 20) and torch.isfinite(output.masks).all()


@torch.no_grad()
def test_step_1_has_no_mask_head(batch):
    model = make_model(points=2)
    assert model(batch).masks is None
    assert not any(name.startswith("mask_head") for name in model.state_dict())


@torch.no_grad()
def test_a_batch_gives_what_each_expression_gives_alone(batch):
    model = make_model()
    together = model(batch)
    for row, image in enumerate(batch.image_index.tolist()):
        length = int((batch.words[row] != 0).sum())
        alone = model(
            Batch(batch.images[image : image + 1], batch.valid[image : image + 1], torch.tensor([0]),
                  batch.words[row : row + 1, :length])
        )  # fmt: skip
        torch.testing.assert_close(alone.boxes, together.boxes[row : row + 1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone.masks, together.masks[row : row + 1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_stands_in_the_padding_of_an_image_is_never_looked_at(batch):
    model = make_model()
    memory = model.encode(batch)
    query = model.decode(memory)
    maps = model.mask_head.attention(query, memory, 15).unflatten(-1, CELLS)
    torch.testing.assert_close(maps.sum((1, 2, 3)), torch.ones(4))
    assert (maps[1:3, :, 2:] == 0).all() and (maps[1:3, :, :2] > 0).all()
    valid = batch.valid[batch.image_index]
    before = model.mask_head(query, memory, valid)
    memory.features = torch.where(valid.flatten(1)[..., None], memory.features, 9.0)
    torch.testing.assert_close(model.mask_head(query, memory, valid), before)


@torch.no_grad()
def test_the_expression_decides_the_output(batch):
    model = make_model()
    other = replace(batch, words=batch.words.flip(0), lengths=None)
    assert not torch.allclose(model(other).masks, model(batch).masks, atol=1e-3)
    assert not torch.allclose(model(other).boxes, model(batch).boxes, atol=1e-4)


# A single query attends only to itself, whatever its key, and its first value is all zeros.
NO_GRADIENT = ("key.bias", "self_attention.query.weight", "self_attention.query.bias", "self_attention.key.weight",
               "decoder.0.self_attention.value.weight")  # fmt: skip


@pytest.mark.parametrize("points", [2, 4])
def test_training_moves_every_part_that_trains(batch, points):
    model = make_model(points).train()
    model.loss(model(batch), batch, TrainConfig()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            assert name.endswith(NO_GRADIENT) or parameter.grad.abs().max() > 0, name


def test_boxes_and_masks_of_a_few_expressions_are_learnt_by_heart(batch):
    model = make_model(dropout=0.0).train()
    masks = torch.zeros_like(batch.masks)
    for row, mask in enumerate(masks):
        mask[2 * row : 2 * row + 4, 3 * row : 3 * row + 6] = 255
    batch = replace(batch, masks=masks)
    optimiser = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=3e-3)
    for _ in range(200):
        optimiser.zero_grad()
        model.loss(model(batch), batch, TrainConfig()).backward()
        optimiser.step()
    output = model.eval()(batch)
    assert (generalised_iou(output.boxes, batch.boxes) > 0.8).all()
    assert (dice_loss(output.masks, masks / 255) < 0.1).all()


def test_a_training_step_leaves_no_tensor_behind_on_another_device(batch):
    model, batch = make_model().train().to("meta"), batch.to("meta")
    loss = model.loss(model(batch), batch, TrainConfig())
    loss.backward()
    assert loss.is_meta and batch.boxes.is_meta and batch.masks.is_meta


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ((0.5, 0.5, 0.4, 0.4), (0.5, 0.5, 0.4, 0.4), 1.0),
        ((0.25, 0.5, 0.5, 1.0), (0.5, 0.5, 1.0, 1.0), 0.5),  # the left half of the frame
        ((0.3, 0.3, 0.2, 0.2), (0.4, 0.3, 0.2, 0.2), 1 / 3),  # moved by half its width: no corner of the hull is empty
        ((0.3, 0.3, 0.2, 0.2), (0.4, 0.4, 0.2, 0.2), 1 / 7 - 2 / 9),
        ((0.1, 0.5, 0.2, 1.0), (0.9, 0.5, 0.2, 1.0), -0.6),  # the outer fifths
        ((0.5, 0.5, 0.0, 0.0), (0.25, 0.25, 0.5, 0.5), 0.0),  # a point in a corner
    ],
)
def test_generalised_iou_is_as_computed_by_hand(first, second, value):
    first, second = torch.tensor(first), torch.tensor(second)
    assert float(generalised_iou(first, second)) == pytest.approx(value, abs=1e-6)
    assert float(generalised_iou(second, first)) == pytest.approx(value, abs=1e-6)


def test_generalised_iou_of_two_points_at_one_place_has_a_gradient():
    point = torch.tensor([0.5, 0.5, 0.0, 0.0], requires_grad=True)
    generalised_iou(point, point.detach()).backward()
    assert torch.isfinite(point.grad).all()


def test_mask_losses_are_those_of_plain_loops():
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 4) * 3, torch.rand(2, 3, 4)
    for row in range(2):
        both = sizes = focal = 0.0
        for logit, share in zip(logits[row].flatten().tolist(), masks[row].flatten().tolist(), strict=True):
            p = 1 / (1 + math.exp(-logit))
            both, sizes = both + p * share, sizes + p + share
            focal += share * 0.25 * (1 - p) ** 2 * -math.log(p) + (1 - share) * 0.75 * p**2 * -math.log(1 - p)
        assert float(dice_loss(logits, masks)[row]) == pytest.approx(1 - (2 * both + 1) / (sizes + 1), rel=1e-5)
        assert float(focal_loss(logits, masks)[row]) == pytest.approx(focal / 12, rel=1e-4)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_empty_and_a_whole_mask_cost_nothing_when_found_and_all_when_missed(share):
    masks = torch.full((1, 24, 24), share)
    right, wrong = (torch.full((1, 24, 24), sign * (2 * share - 1) * 30) for sign in (1, -1))
    assert float(dice_loss(right, masks)) == pytest.approx(0, abs=1e-6)
    assert float(focal_loss(right, masks)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(wrong, masks)) > 0.99 and float(focal_loss(wrong, masks)) > 5


def test_the_loss_weighs_boxes_and_masks_as_detr_does(batch):
    output = Output(batch.boxes + 0.1, torch.zeros(batch.masks.shape))
    giou = (1 - generalised_iou(output.boxes, batch.boxes)).mean()
    boxes = 5 * 0.4 + 2 * giou
    model, config = make_model(), TrainConfig()
    torch.testing.assert_close(model.loss(Output(output.boxes, None), batch, config), boxes)
    share = batch.masks.float() / 255
    focal = F.binary_cross_entropy_with_logits(output.masks, share, reduction="none")
    focal = focal * 0.25 * (0.25 * share + 0.75 * (1 - share))
    dice = 1 - (share.sum((1, 2)) + 1) / (120 + share.sum((1, 2)) + 1)
    torch.testing.assert_close(model.loss(output, batch, config), boxes + focal.mean() + dice.mean())


@pytest.mark.parametrize(("height", "width", "shape"), [(120, 160, (72, 96)), (160, 120, (96, 72)), (60, 80, (72, 96))])
def test_a_mask_comes_back_at_the_images_own_size_with_its_edges(height, width, shape):
    rows, columns = np.mgrid[:height, :width] + 0.5
    mask = np.hypot(columns - 0.4 * width, rows - 0.6 * height) < 0.2 * min(height, width)
    window = whole((height, width), shape, 96)
    cells = coverage(mask, window, 24).astype(np.float32) / 255

    def overlap(logits):
        back = contour.decode(resize_to_image(logits, window)["counts"], height, width)
        return (back & mask).sum() / (back | mask).sum()

    soft, hard = overlap(cells - 0.5), overlap((cells > 0.5) - np.float32(0.5))
    assert soft > 0.93 and soft > hard


def test_answers_are_a_box_and_a_mask_in_pixels_of_the_image_file(batch, monkeypatch):
    model, window = make_model(), whole((30, 60), (8, 16), 16)
    masks = torch.full((1, 4, 4), -1.0)
    masks[:, :, :2] = 1
    for output in (Output(torch.tensor([[0.25, 0.125, 0.5, 0.25]]), each) for each in (masks, None)):
        monkeypatch.setattr(model, "forward", lambda batch, output=output: output)
        (answer,) = model.answers(batch, [window])
        assert answer.points.tolist() == [[0, 0], [30, 15]] and len(answer.probabilities) == 0
        assert (answer.mask is None) == (output.masks is None)
        if answer.mask:
            mask = contour.decode(answer.mask["counts"], 30, 60)
            assert mask[:, :30].all() and not mask[:, 30:].any()


def test_no_logit_above_zero_is_no_mask_and_none_below_is_the_whole_image():
    for logit in (-1, 1):
        mask = resize_to_image(np.full((4, 4), logit, dtype=np.float32), whole((30, 60), (8, 16), 16))
        assert contour.decode(mask["counts"], 30, 60).mean() == (logit > 0)


@pytest.mark.parametrize("module", ["cctf", "pmca"])
def test_modules_of_the_point_sequence_are_refused_with_the_cure(module):
    with pytest.raises(ConfigError, match="set cctf: false and pmca: false"):
        CONFIG.replace(**{module: True})
