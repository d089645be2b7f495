"""The expression encoder: word vectors, one bidirectional GRU, the maximum over words."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from partialres.config import ModelConfig
from partialres.data.batch import PAD


class LanguageEncoder(nn.Module):
    """Encodes words [B, L] to one vector per expression, [B, 2 * language] (paper sec. 3: BiGRU and max pooling)."""

    def __init__(self, config: ModelConfig, words: int) -> None:
        super().__init__()
        self.padded_words = config.upstream.padded_words
        self.embedding = nn.Embedding(words, config.word, padding_idx=PAD)
        self.embedding.weight.requires_grad_(not config.freeze_words)
        self.gru = nn.GRU(config.word, config.language, batch_first=True, bidirectional=True)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """words: int64 [B, L]. lengths: int64 [B] on the CPU, the number of words in each row, at least one."""
        words = F.pad(words, (0, max(0, self.padded_words - words.shape[1])), value=PAD)
        states = self.embedding(words)
        if self.padded_words:
            states, _ = self.gru(states)
        else:
            # Sort on the CPU: torch would sort on the device and wait for it.
            order = lengths.argsort(descending=True, stable=True)
            packed = pack_padded_sequence(states[order.to(words.device)], lengths[order], batch_first=True)
            states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=words.shape[1])
            states = states[order.argsort().to(words.device)]
        return states.masked_fill((words == PAD)[:, :, None], -torch.inf).amax(1)
