"""What one decoding looks at: the numbers, and the pictures of them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

import partialres
from partialres import visualise
from partialres.files import DataError
from partialres.model.trace import trace
from tests.commands import done, run
from tests.test_use import POINTS, write_model
from tests.tiny import RELEASED, SIDE

CELLS = SIDE // 16


@pytest.fixture(scope="module")
def picture(data):
    return data.pictures / data.refs["file_name"].iloc[0]


def decoding(data, folder, picture, **changes):
    return partialres.load(write_model(data, folder, **changes), device="cpu").decoding(picture, "the red shape")


def test_attention_is_what_the_decoder_used_and_nothing_of_the_padding(data, tmp_path, picture):
    model = partialres.load(write_model(data, tmp_path), device="cpu")
    batch, _ = model.batch(np.zeros((40, 64, 3), dtype=np.uint8), ["red"])
    batch.images = torch.rand(*batch.images.shape[:2], CELLS, CELLS)  # the whole frame, with its padding
    looked = trace(model.model, batch).attention
    inside = batch.valid[0].numpy()
    assert looked.shape == (POINTS, CELLS, CELLS) and not inside.all()
    assert looked[:, ~inside].max() == 0 and np.allclose(looked.sum((1, 2)), 1, atol=1e-5)
    used, layer = [], model.model.decoder[0].cross_attention
    with torch.no_grad():
        memory = model.model.encode(batch)
        tokens, _ = model.model.decode(memory)
        numbers = torch.arange(CELLS**2).float()[:, None]  # as values, they tell where the attention was
        memory.values = [numbers.expand_as(memory.values[0])]
        hook = layer.out.register_forward_hook(lambda module, inputs, output: used.append(inputs[0][0].mean(-1)))
        model.model.logits(memory, torch.nn.functional.pad(tokens, (0, 1)))
        hook.remove()
    expected = used[0][:-1].reshape(POINTS, 2).mean(1)
    assert np.allclose((looked.reshape(POINTS, -1) * np.arange(CELLS**2)).sum(1), expected, atol=1e-4)


def test_the_gaussian_is_at_most_one_and_the_bands_hold_the_point(data, tmp_path, picture):
    made = decoding(data, tmp_path, picture)
    prior, cells = made.trace.prior, made.trace.cells
    shape = [-(-side // 16) for side in made.segmentation.mask.shape]  # as large as in training: no smaller frame
    assert prior.shape == (POINTS, *shape) and (prior > 0).all() and prior.max() <= 1
    assert np.array_equal(cells, np.floor(made.points / made.frame * shape[::-1]).astype(int))
    assert made.points.shape == (POINTS, 2) and np.array_equal(made.points, made.segmentation.contour)


def test_a_released_model_takes_rows_for_x_and_has_a_language_token(data, tmp_path, picture):
    made = decoding(data, tmp_path, picture, upstream=RELEASED)
    assert made.trace.attention.shape == (POINTS, CELLS, CELLS) and made.trace.cells.shape == (POINTS, 2)
    assert (made.trace.attention.sum((1, 2)) < 1).all()  # the rest is the language token's


def test_a_plain_model_has_neither_gaussian_nor_bands_and_a_mask_head_no_points(data, tmp_path, picture):
    made = decoding(data, tmp_path, picture, cctf=False, pmca=False)
    assert made.trace.prior is None and made.trace.cells is None
    assert visualise.pixels(visualise.frame(made, 0)).std() > 10
    with pytest.raises(DataError, match="take a model of head: points"):
        decoding(data, tmp_path, picture, head="mask", cctf=False, pmca=False)


def test_the_command_draws_a_panel_or_a_frame_a_point(data, tmp_path, picture):
    model = write_model(data, tmp_path)
    for name in ("out.png", "out.gif"):
        done("attention", model, picture, "the $red shape", "--out", tmp_path / name)
    with Image.open(tmp_path / "out.gif") as gif:
        frames = []
        for place in range(gif.n_frames):
            gif.seek(place)
            frames.append(np.asarray(gif.convert("RGB")))
    assert len(frames) == POINTS and all((first != second).any() for first, second in pairwise(frames))
    with Image.open(tmp_path / "out.png") as figure:
        assert min(figure.size) > 200
    answer = run("attention", model, picture, "red", "--out", tmp_path / "out.jpg")
    assert answer.exit_code == 2 and "must end in .png or .gif" in answer.output
    answer = run("attention", model, picture, "", "--out", tmp_path / "x.png")
    assert answer.exit_code == 1 and "has no words" in answer.output


def test_step_1_draws_its_two_corners(data, tmp_path, picture):
    made = decoding(data, tmp_path, picture, points=2, cctf=False, pmca=False)
    assert made.points.shape == (2, 2) and made.segmentation.contour.shape == (4, 2)
    assert len(visualise.figure(made).axes) == 2
