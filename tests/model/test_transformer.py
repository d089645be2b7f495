"""Position encodings of the encoder and the decoder."""

import torch

from partialres.model.transformer import sine_positions


def test_positions_are_relative_to_the_frame_whatever_a_batch_keeps_of_it():
    valid = torch.zeros(2, 6, 8, dtype=torch.bool)
    valid[0, :3, :4] = valid[1] = True
    framed, kept = sine_positions(valid, 32, (6, 8)), sine_positions(valid[:1, :3, :4], 32, (6, 8))
    inside = framed.unflatten(1, (6, 8))[:, :3, :4].flatten(1, 2)
    torch.testing.assert_close(inside[0], kept[0])
    torch.testing.assert_close(inside[0], inside[1])
    torch.testing.assert_close(framed[1], sine_positions(valid, 32)[1])  # an image that fills its frame


def test_positions_are_as_released_relative_to_the_image_and_not_to_its_frame():
    valid = torch.zeros(1, 6, 8, dtype=torch.bool)
    valid[:, :3, :4] = True
    framed = sine_positions(valid, 32).unflatten(1, (6, 8))[:, :3, :4]
    torch.testing.assert_close(framed.flatten(1, 2), sine_positions(valid[:, :3, :4], 32))
