"""The whole model: an image and an expression to a sequence of coordinate tokens (paper sec. 3).

I images · B expressions · L words · K image positions (H * W) · T tokens (2N + 1) · D width
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialres.config import ModelConfig, TrainConfig
from partialres.model import transformer
from partialres.model.darknet import build_backbone, frozen_statistics, pixels_from_uint8
from partialres.model.fusion import LanguageGate, VisualNeck
from partialres.model.language import LanguageEncoder, count_words
from partialres.model.transformer import DecoderLayer, DecodingCache, EncoderLayer, Memory


@dataclass
class Batch:
    """Expressions about images; several expressions may share an image, whose visual features are then made once."""

    images: Tensor  # uint8 [I, S, S, 3], or the visual part's output, float [I, fusion, H, W] (cached as float16)
    valid: Tensor  # bool [I, H, W] at the features' stride: true inside the image, false in its padding
    image_index: Tensor  # int64 [B]: which image each expression is about
    words: Tensor  # int64 [B, L], padded with 0
    tokens: Tensor | None = None  # int64 [B, T]: x1, y1, ..., xN, yN, end; -1 where it is not known
    boxes: Tensor | None = None  # a mask head's targets, float [B, 4]: centre x, y, width, height in units of the frame
    masks: Tensor | None = None  # and uint8 [B, h, w]: how much of each cell of the frame the mask covers, 0 to 255
    weights: Tensor | None = None  # float [B]: of each sequence in the loss; all one if not given
    lengths: Tensor | None = None  # int64 [B], words of each row; stays on the CPU; counted if not given

    def __post_init__(self) -> None:
        if self.lengths is None:
            self.lengths = count_words(self.words)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        names = ("images", "valid", "image_index", "words", "tokens", "boxes", "masks", "weights")
        there = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in there.items()}
        return Batch(**moved, lengths=self.lengths)


class Visual(nn.Module):
    """Backbone and neck: everything that sees only the image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.frozen = config.frozen == "all"
        self.backbone = build_backbone(config)
        self.neck = VisualNeck(self.backbone.channels, config.fusion)
        if self.frozen:
            self.requires_grad_(False)

    @property
    def stride(self) -> int:
        """Pixels an output position."""
        return self.backbone.stride

    def train(self, mode: bool = True) -> Visual:
        super().train(mode and not self.frozen)
        frozen_statistics(self.backbone)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [I, S, S, 3] RGB -> tanh of the fused map, [I, fusion, S / stride, S / stride], in [-1, 1]."""
        return self.features(pixels_from_uint8(images))

    def features(self, pixels: Tensor) -> Tensor:
        """Pixels [I, 3, H, W] in [0, 1] -> tanh of the fused map, [I, fusion, H / stride, W / stride], in [-1, 1]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return torch.tanh(self.neck(self.backbone(pixels)))


class Grounding(nn.Module):
    """What finds the expression in the image, whatever head says where: all up to the decoder's queries."""

    def __init__(self, config: ModelConfig, words: int, points: int) -> None:
        """words: size of the vocabulary with padding and unknown. points: N, two for a box."""
        super().__init__()
        self.config, self.points = config, points
        self.visual = Visual(config)
        self.language = LanguageEncoder(config, words)
        self.gate = LanguageGate(config)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(config.width)

    def encode(self, batch: Batch) -> Memory:
        """Images and expressions to the decoder's memory. The visual part runs once an image, not an expression."""
        cached = batch.images.is_floating_point()
        visual = batch.images.float() if cached else self.visual(batch.images)
        assert batch.lengths is not None
        language = self.language(batch.words, batch.lengths)
        gated = self.gate(visual[batch.image_index], language)
        valid = batch.valid[batch.image_index]
        positions = transformer.sine_positions(batch.valid, self.config.width)[batch.image_index]
        return self._memory(gated, valid, positions)

    def _decoder_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]

    def _memory(self, x: Tensor, valid: Tensor, positions: Tensor) -> Memory:
        """x [B, K, D], the gated image row by row and the language token; valid [B, H, W], positions [B, H * W, D]."""
        height, width = valid.shape[1:]
        bias = torch.zeros(valid.shape, dtype=x.dtype, device=x.device).masked_fill(~valid, -torch.inf)
        bias = bias.flatten(1)[:, None, None, :]
        extra = x.shape[1] - height * width  # the language token is never masked and has no position
        bias, positions = F.pad(bias, (0, extra)), F.pad(positions, (0, 0, 0, extra))
        for layer in self.encoder:
            x = layer(x, positions, bias)
        keys, values = self.project(x, positions)
        shares = valid if self.config.cctf_means == "image" else torch.ones_like(valid)
        image = (x[:, : height * width].unflatten(1, (height, width)) * shares[..., None]).float()
        return Memory(
            features=x,
            positions=positions,
            keys=keys,
            values=values,
            bias=bias,
            centres=(
                (torch.arange(width, device=x.device) + 0.5) / width,
                (torch.arange(height, device=x.device) + 0.5) / height,
            ),
            extent=torch.stack([valid[:, 0].float().mean(1), valid[:, :, 0].float().mean(1)], -1),
            cells=torch.tensor([width, height], dtype=torch.float32, device=x.device),
            columns=image.sum(1) / shares.sum(1).clamp(min=1)[..., None],
            rows=image.sum(2) / shares.sum(2).clamp(min=1)[..., None],
        )

    def project(self, features: Tensor, positions: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of every decoder layer, each [B, h, K, D/h], of features and positions [B, K, D].

        They are read once a token: on a CPU a component of all positions lies side by side, on others, whose attention
        takes no such strides, a head's positions.
        """
        placed, attentions = features + positions, [layer.cross_attention for layer in self._decoder_layers()]
        project = transformer.project_across if features.device.type == "cpu" else transformer.project
        keys = [project(attention.key, placed, attention.heads) for attention in attentions]
        return keys, [project(attention.value, features, attention.heads) for attention in attentions]


class PointModel(Grounding):
    """SeqTR's architecture with CCTF and PMCA: one softmax over bins and end, for boxes (N = 2) and contours alike."""

    def __init__(self, config: ModelConfig, words: int, points: int) -> None:
        """words: size of the vocabulary with padding and unknown. points: N, two for a box."""
        super().__init__(config, words, points)
        self.coordinates = nn.Embedding(config.bins + 1, config.width)
        self.prefix = 4 if config.prompt == "box" else 0  # tokens before the contour's: the corners of its box
        self.positions = nn.Embedding(self.prefix + 2 * points + 1, config.width)
        self.start = nn.Parameter(torch.zeros(config.width), requires_grad=config.start == "learned")
        self.predictor = nn.Sequential(
            nn.Linear(config.width, config.width), nn.ReLU(),
            nn.Linear(config.width, config.width), nn.ReLU(),
            nn.Linear(config.width, config.bins + 1),
        )  # fmt: skip

    def forward(self, batch: Batch) -> Tensor:
        """Teacher-forced logits [B, T, bins + 1] of every token given those before it; batch.tokens must be set."""
        assert batch.tokens is not None
        return self.logits(self.encode(batch), batch.tokens)

    def loss(self, logits: Tensor, batch: Batch, config: TrainConfig) -> Tensor:
        """The weighted cross-entropy (see `sequence_loss`) of what `forward` made of the batch; batch.tokens is set."""
        assert batch.tokens is not None
        return sequence_loss(
            logits, batch.tokens, config.smoothing, config.end_weight, config.first_weight, batch.weights
        )

    def embed(self, tokens: Tensor, memory: Memory, first: int = 0) -> Tensor:
        """Coordinate tokens [B, T] at sequence places first, first + 1, ... -> decoder inputs [B, T, D].

        With CCTF each carries the mean feature of the column its x, or the row its y, points at (eq. 3-5); as released
        the row that x would be at if it were a y, and the column that y would be at.
        """
        tokens = tokens.clamp(min=0)
        embedded = self.coordinates(tokens)
        if not self.config.cctf:
            return embedded
        is_x = (torch.arange(first, first + tokens.shape[1], device=tokens.device) % 2 == 0)[None, :, None]
        of_x, of_y = memory.columns, memory.rows
        if self.config.cctf_axes == "transposed":
            of_x, of_y = of_y, of_x
        pointed = torch.where(is_x, self._look_up(of_x, tokens), self._look_up(of_y, tokens))
        return embedded + pointed.to(embedded.dtype)

    def _look_up(self, means: Tensor, tokens: Tensor) -> Tensor:
        """Of means [B, W, D] of an axis of W cells those that tokens [B, T] point at: [B, T, D].

        The cell that contains the coordinate, or, as released, the bins spread over W - 1 of the cells.
        """
        cells = means.shape[1]
        spread = cells if self.config.cctf_cells == "containing" else cells - 1
        index = (tokens * spread // self.config.bins).clamp(max=cells - 1)
        return means.gather(1, index[:, :, None].expand(-1, -1, means.shape[2]))

    def logits(self, memory: Memory, tokens: Tensor) -> Tensor:
        """Logits [B, T, bins + 1] of every token given those before it."""
        batch, length = tokens.shape
        start = self.start.expand(batch, 1, -1)
        x = torch.cat([start, self.embed(tokens[:, :-1], memory)], 1)
        positions = self.positions.weight[:length]
        causal = torch.full((length, length), -torch.inf, dtype=x.dtype, device=x.device).triu(1)[None, None]
        for index, layer in enumerate(self._decoder_layers()):
            own = layer.self_attention.keys_values(x, positions)
            x = layer(x, positions, own, causal, memory, index)
        return self.predictor(self.decoder_norm(x))

    @torch.no_grad()
    def decode(self, memory: Memory, allowed: Tensor | None = None, box: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Greedy decoding of 2N tokens, each token's layers run once (keys and values are cached).

        They are coordinates; with the config's end "anywhere" the end token may stand among them, from where on the
        sequence says nothing. allowed: int64 [B, 2, 2], the least and greatest bin of x (row 0) and of y (row 1), or
        None for all. box: int64 [B, 4], with the config's prompt "box" the tokens of the known box, or None: the model
        says them too, before the contour.
        Returns tokens int64 [B, 2N] and their probabilities, float [B, 2N], among the bins and the end.
        """
        batch, heads = memory.features.shape[0], self.config.heads
        length = self.prefix + 2 * self.points
        x = self.start.expand(batch, 1, -1)
        shape = (batch, heads, length, self.config.width // heads)
        cache = DecodingCache([x.new_empty(shape) for _ in self.decoder], [x.new_empty(shape) for _ in self.decoder])
        tokens, probabilities = [], []
        for place in range(length):
            logits = self._step(x, memory, cache)
            choices = logits[:, :-1] if self.config.end == "last" else logits
            if allowed is not None:
                choices = _restrict(choices, allowed[:, place % 2])
            token = choices.argmax(-1, keepdim=True)
            if box is not None and place < self.prefix:
                token = box[:, place : place + 1]
            tokens.append(token)
            probabilities.append(logits.softmax(-1).gather(1, token))
            x = self.embed(token, memory, place)
        return torch.cat(tokens[self.prefix :], 1), torch.cat(probabilities[self.prefix :], 1)

    def _step(self, x: Tensor, memory: Memory, cache: DecodingCache) -> Tensor:
        """Logits [B, bins + 1] after the input x [B, 1, D], whose keys and values join the cache."""
        place = cache.length
        positions = self.positions.weight[place : place + 1]
        for index, layer in enumerate(self._decoder_layers()):
            keys, values = layer.self_attention.keys_values(x, positions)
            cache.keys[index][:, :, place : place + 1] = keys
            cache.values[index][:, :, place : place + 1] = values
            own = cache.keys[index][:, :, : place + 1], cache.values[index][:, :, : place + 1]
            x = layer(x, positions, own, None, memory, index)
        cache.length += 1
        return self.predictor(self.decoder_norm(x))[:, 0].float()


def _restrict(logits: Tensor, limits: Tensor) -> Tensor:
    """Logits [B, C] with all outside limits [B, 2] (least, greatest) at -inf."""
    bins = torch.arange(logits.shape[1], device=logits.device)
    return logits.masked_fill((bins < limits[:, :1]) | (bins > limits[:, 1:]), -torch.inf)


def sequence_loss(
    logits: Tensor, tokens: Tensor, smoothing: float, end_weight: float, first_weight: float,
    of_rows: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Cross-entropy of token sequences, smoothed and weighted as the released code has it.

    logits: [B, T, C]. tokens: int64 [B, T], the last of each row the end (class C - 1); -1 where a token is not known,
    which then counts for nothing. The target's share is 1 - smoothing, every other class's smoothing / C; the end token
    weighs end_weight, the first token first_weight. of_rows: float [B], what each sequence weighs besides.
    Returns a scalar: the weighted sum over all tokens divided by their number, B * T where all are known.
    """
    classes, known = logits.shape[-1], tokens >= 0
    log_probability = F.log_softmax(logits.float(), -1)
    other = smoothing / classes
    of_target = log_probability.gather(-1, tokens.clamp(min=0)[..., None])[..., 0]
    losses = -((1 - smoothing - other) * of_target + other * log_probability.sum(-1))
    weights = torch.where(tokens == classes - 1, end_weight, 1.0) * known
    weights[:, 0] = weights[:, 0] * first_weight
    if of_rows is not None:
        weights = weights * of_rows[:, None]
    return (losses * weights).sum() / known.sum()
