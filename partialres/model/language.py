"""The expression encoder: word vectors, one bidirectional GRU, the maximum over words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from partialres.config import ModelConfig

PAD = 0  # the word index of padding


class LanguageEncoder(nn.Module):
    """Words [B, L] -> one vector an expression [B, 2 * language] (paper sec. 3: BiGRU and max pooling)."""

    def __init__(self, config: ModelConfig, words: int) -> None:
        """words: size of the vocabulary, padding and unknown included."""
        super().__init__()
        self.embedding = nn.Embedding(words, config.word, padding_idx=PAD)
        self.embedding.weight.requires_grad_(not config.freeze_words)
        self.gru = nn.GRU(config.word, config.language, batch_first=True, bidirectional=True)

    def forward(self, words: Tensor) -> Tensor:
        """words: int64 [B, L], at least one word a row before its padding. Returns [B, 2 * language]."""
        lengths = (words != PAD).sum(1)
        words = words[:, : words.shape[1]]
        embedded = self.embedding(words)
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=words.shape[1])
        return states.masked_fill((words == PAD)[:, :, None], -torch.inf).amax(1)
