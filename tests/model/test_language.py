"""The expression encoder and the gate that fuses it with the image."""

import pytest
import torch

from partialres.config import ModelConfig
from partialres.data.batch import count_words
from partialres.model.fusion import LanguageGate
from partialres.model.language import LanguageEncoder
from tests.tiny import changed

SMALL = ModelConfig(fusion=32, language=16, word=8, width=16, heads=4)
WORDS = torch.tensor([[5, 3, 9, 0, 0], [4, 0, 0, 0, 0]])


def encoder(padded_words=0):
    torch.manual_seed(0)
    made = LanguageEncoder(changed(SMALL, padded_words=padded_words), 10)
    torch.nn.init.normal_(made.embedding.weight)  # the padding token has a vector, too, as in the released word tables
    return made


def encode(made, words):
    return made(words, count_words(words))


@torch.no_grad()
def test_an_expression_is_the_maximum_over_its_words_states():
    made = encoder()
    states, _ = made.gru(made.embedding(WORDS[:1, :3]))
    torch.testing.assert_close(encode(made, WORDS)[0], states[0].amax(0))


@torch.no_grad()
def test_padding_is_not_read_unless_the_released_setting_says_so():
    plain, released = encoder(), encoder(padded_words=5)
    torch.testing.assert_close(encode(plain, WORDS[:, :3]), encode(plain, WORDS))
    torch.testing.assert_close(encode(released, WORDS[:, :3]), encode(released, WORDS))
    states, _ = released.gru(released.embedding(WORDS))
    torch.testing.assert_close(encode(released, WORDS)[1], states[1, 0])
    # the forward direction reads the padding after the words
    torch.testing.assert_close(encode(released, WORDS)[:, :16], encode(plain, WORDS)[:, :16])
    assert not torch.allclose(encode(released, WORDS)[:, 16:], encode(plain, WORDS)[:, 16:], atol=1e-3)


@torch.no_grad()
def test_the_gate_multiplies_and_the_language_token_shares_its_projection():
    torch.manual_seed(0)
    plain, released = LanguageGate(SMALL), LanguageGate(changed(SMALL, language_token=True))
    released.load_state_dict(plain.state_dict())
    visual, language = torch.randn(2, 32, 3, 4).tanh(), torch.randn(2, 32)
    gated, valid = visual * language.tanh()[:, :, None, None], torch.ones(2, 3, 4, dtype=torch.bool)
    torch.testing.assert_close(plain(visual, language, valid), plain.norm(plain.conv(gated)).flatten(2).transpose(1, 2))
    wider = torch.cat([gated.flatten(2), language.tanh()[:, :, None]], 2)[..., None]
    fused = released(visual, language, valid)
    torch.testing.assert_close(fused, plain.norm(plain.conv(wider)).flatten(2).transpose(1, 2))
    assert fused.shape == (2, 13, 16)


@pytest.mark.parametrize("token", [False, True])
@torch.no_grad()
def test_the_gate_normalises_by_the_image_alone_or_as_released_by_its_padding_too(token):
    torch.manual_seed(0)
    paper = LanguageGate(changed(SMALL, language_token=token))
    released = LanguageGate(changed(SMALL, language_token=token, padding="counts"))
    released.load_state_dict(paper.state_dict())
    visual, language, valid = 3 * torch.randn(2, 32, 3, 4), torch.randn(2, 32), torch.zeros(2, 3, 4, dtype=torch.bool)
    valid[0, :2, :3] = valid[1] = True
    fused = [gate(visual, language, valid) for gate in (paper, released)]
    alone = released(visual[:1, :, :2, :3], language[:1], valid[:1, :2, :3])
    inside = torch.cat([valid[0].flatten(), torch.ones(int(token), dtype=torch.bool)])
    torch.testing.assert_close(fused[0][0, inside], alone[0])
    torch.testing.assert_close(fused[0][1], fused[1][1])
    assert not torch.allclose(fused[1][0, inside], alone[0], atol=0.05)
