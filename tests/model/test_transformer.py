"""Position encodings of the encoder and the decoder."""

import torch

from partialres.model.transformer import sine_positions


def test_positions_are_relative_to_the_image_and_not_to_its_frame():
    valid = torch.zeros(1, 6, 8, dtype=torch.bool)
    valid[:, :3, :4] = True
    framed = sine_positions(valid, 32).unflatten(1, (6, 8))[:, :3, :4]
    torch.testing.assert_close(framed.flatten(1, 2), sine_positions(valid[:, :3, :4], 32))
