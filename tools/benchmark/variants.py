"""Measure the same work in float32 and bfloat16, eager and compiled: its speed, memory and how results differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from partialres.config import TrainConfig
from partialres.model.pointer import PointModel, sequence_loss
from partialres.training.loop import make_optimiser
from tools.benchmark.cases import Sizes, random_batch, random_model
from tools.benchmark.measure import device, flops, peak, timed

EAGER = ((torch.float32, False), (torch.bfloat16, False))
VARIANTS = (*EAGER, (torch.float32, True), (torch.bfloat16, True))  # type of numbers, whether compiled
Work = tuple[str, int, Callable[[], Any], Callable[[], Tensor]]  # unit, units, what is timed, what is compared


def variants(sizes: Sizes, chosen: Sequence[tuple[torch.dtype, bool]], repeats: int) -> list[dict[str, Any]]:
    """Measure evaluation and training in each variant; the first is the one that others are compared with.

    Returns for each: case, unit, numbers, compiled, seconds a unit, share_of_peak (that of a large matrix product in
    these numbers), memory (bytes at most allocated on the GPU; None on the CPU) and difference (the largest of the
    logits or, in training, of the gradients over the largest gradient).
    """
    sizes = replace(sizes, model=sizes.model.replace(dropout=0.0))  # draws differ when compiled
    peaks, rows = {dtype: peak(dtype) for dtype, _ in chosen}, []
    for case, make in (("evaluation", evaluation), ("training", training)):
        first, operations = None, 0.0
        for dtype, compiled in chosen:
            torch.compiler.reset()
            unit, units, work, compared = make(sizes, dtype, compiled)
            operations = operations or flops(work)
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            seconds = timed(work, repeats).median
            result = compared().float()
            first = result if first is None else first
            rows.append(
                {
                    "case": case, "unit": unit, "numbers": str(dtype).removeprefix("torch."), "compiled": compiled,
                    "seconds": seconds / units, "share_of_peak": operations / seconds / peaks[dtype],
                    "memory": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
                    "difference": float((result - first).abs().max()),
                }
            )  # fmt: skip
    return rows


def evaluation(sizes: Sizes, dtype: torch.dtype, compiled: bool) -> Work:
    """Go from images and expressions to tokens; logits of random tokens are compared. Decoding is never compiled."""
    model, autocast = random_model(sizes).requires_grad_(False), _autocast(dtype)
    batch = random_batch(model, sizes.image_size, sizes.images, sizes.expressions)
    encode = torch.compile(model.encode) if compiled else model.encode

    def work() -> Tensor:
        with torch.no_grad(), autocast():
            return model.decode(encode(batch))[0]

    def logits() -> Tensor:
        assert batch.tokens is not None
        with torch.no_grad(), autocast():
            return model.logits(encode(batch), batch.tokens)

    return "expression", len(batch.words), work, logits


def training(sizes: Sizes, dtype: torch.dtype, compiled: bool) -> Work:
    """Do a training step without the moving average; the gradients over the largest are compared."""
    config, autocast = TrainConfig(), _autocast(dtype)
    model: PointModel = random_model(sizes).train()
    batch = random_batch(model, sizes.image_size, sizes.trained_images, sizes.refs)
    optimiser = make_optimiser(model, config)
    if compiled:
        model.compile()

    def backward() -> None:
        assert batch.tokens is not None
        with autocast():
            logits = model(batch)
        optimiser.zero_grad(set_to_none=True)
        sequence_loss(logits, batch.tokens, config.smoothing, config.end_weight, config.first_weight).backward()

    def work() -> None:
        backward()
        torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], config.clip)
        optimiser.step()

    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def gradients() -> Tensor:
        model.load_state_dict(fresh)
        backward()
        parts = [each.grad.flatten() for each in model.parameters() if each.grad is not None]
        return torch.cat(parts) / max(float(each.abs().max()) for each in parts)

    return "ref", len(batch.words), work, gradients


def _autocast(dtype: torch.dtype) -> Callable[[], torch.autocast]:
    return lambda: torch.autocast(device().type, torch.bfloat16, enabled=dtype == torch.bfloat16)
