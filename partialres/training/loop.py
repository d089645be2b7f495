"""The training loop: the same for boxes (step 1) and contours (steps 2 and 3)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from partialres.config import ConfigError, TrainConfig
from partialres.data.batches import Inputs, Samples, epoch_batches, steps_per_epoch
from partialres.files import TrainingError, progress, say
from partialres.model.pointer import PointModel, sequence_loss
from partialres.training.checkpoint import Resume
from partialres.training.ema import Ema


def rate_factor(config: TrainConfig, epoch: float) -> float:
    """What the learning rate is multiplied by at a fractional epoch, in (0, 1].

    Warm-up epoch e has (e + 1) / (warmup_epochs + 1), as released. Then "step": 1, and 0.1 from the share decay_at of
    the epochs on; "cosine": half a cosine from 1 to 0.
    """
    if epoch < config.warmup_epochs:
        return (math.floor(epoch) + 1) / (config.warmup_epochs + 1)
    if config.schedule == "step":
        return 0.1 if math.floor(epoch) >= config.decay_at * config.epochs else 1.0
    return 0.5 + 0.5 * math.cos(math.pi * (epoch - config.warmup_epochs) / (config.epochs - config.warmup_epochs))


def make_optimiser(model: PointModel, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam or AdamW over the parameters that train."""
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=config.learning_rate, betas=config.betas, eps=config.epsilon,
        weight_decay=config.weight_decay, amsgrad=config.amsgrad, fused=True,
    )  # fmt: skip


def train(
    model: PointModel,
    samples: Samples,
    inputs: Inputs,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    resume: Resume,
    label: str,
    workers: int = 0,
    after_epoch: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Train in place; the model ends with its averaged weights.

    A training that was stopped goes on from its last saved epoch to the same result: order, expressions and dropout
    depend on (seed, epoch) alone. after_epoch: called with each finished epoch's number, for tests and tuning.
    Returns a row an epoch: epoch, step, loss, learning_rate, gradient_norm, seconds.
    Raises TrainingError if the loss is not finite.
    """
    model.to(device).train()
    optimiser = make_optimiser(model, config)
    ema = Ema(model, config.ema)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    history: list[dict[str, Any]] = []
    state = resume.load()
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        ema.load(state["ema"])
        history = state["history"]
        say(f"{label}: resuming after epoch {len(history)}")
    per_epoch = steps_per_epoch(samples, config.batch)
    for epoch in progress(range(len(history), config.epochs), label):
        start = time.perf_counter()
        torch.manual_seed(hash((seed, epoch)) & 0x7FFFFFFF)  # dropout
        total = norm = 0.0
        for step, batch in enumerate(epoch_batches(samples, inputs, config.batch, seed, epoch, workers)):
            factor = rate_factor(config, epoch + step / per_epoch)
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * factor
            batch = batch.to(device)
            assert batch.tokens is not None
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = model(batch)
            loss = sequence_loss(logits, batch.tokens, config.smoothing, config.end_weight, config.first_weight)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = float(torch.nn.utils.clip_grad_norm_(trained, config.clip))
            if not math.isfinite(norm):
                raise TrainingError(
                    f"{label}: loss {float(loss.detach())} with gradient norm {norm} at epoch {epoch}, step {step}; "
                    "lower the learning rate"
                )
            optimiser.step()
            ema.update()
            total += float(loss.detach())
        history.append(
            {
                "epoch": epoch, "step": (epoch + 1) * per_epoch, "loss": total / per_epoch,
                "learning_rate": optimiser.param_groups[0]["lr"], "gradient_norm": norm,
                "seconds": time.perf_counter() - start,
            }
        )  # fmt: skip
        if (epoch + 1) % config.checkpoint_epochs == 0 and epoch + 1 < config.epochs:
            resume.save(
                {
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "ema": ema.state(),
                    "history": history,
                }
            )
        if after_epoch is not None:
            after_epoch(epoch)
    ema.apply()
    model.eval()
    return pd.DataFrame(history)


def pick_device(name: str) -> torch.device:
    """For "auto" CUDA where there is one, else the CPU; otherwise the device torch knows by that name.

    Raises ConfigError if there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError) as error:
        raise ConfigError(f"device '{name}' cannot be used ({error}); cpu always can") from None
    return torch.device(name)


def write_history(history: pd.DataFrame, path: Path) -> None:
    """metrics.csv, a row an epoch, atomically."""
    from partialres.files import write_text

    write_text(history.to_csv(index=False, float_format="%.6g"), path)
