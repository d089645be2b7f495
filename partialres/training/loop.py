"""The training loop: the same for boxes (step 1) and contours or masks (steps 2 and 3)."""

import math
import signal
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import pandas as pd
import torch

from partialres.config import ConfigError, ModelConfig, TrainConfig
from partialres.data.batches import batch_size, epoch_batches, steps_per_epoch
from partialres.data.inputs import Inputs
from partialres.data.samples import Samples
from partialres.files import TrainingError, progress, say
from partialres.model.build import Model, build_model
from partialres.training.distributed import ALONE, Processes, mean_of_all, on_device, parallel
from partialres.training.ema import Ema
from partialres.training.resume import Resume

History = list[dict[str, Any]]  # a row an epoch, by column


def rate_factor(config: TrainConfig, epoch: float) -> float:
    """Return the factor of the learning rate at a fractional epoch, in (0, 1].

    In warm-up epoch e it is (e + 1) / (warmup_epochs + 1), as in the released code. Afterwards, "step" gives 1, and 0.1
    from epoch decay_at * epochs on; "cosine" gives half a cosine from 1 to 0.
    """
    if epoch < config.warmup_epochs:
        return (math.floor(epoch) + 1) / (config.warmup_epochs + 1)
    if config.schedule == "step":
        return 0.1 if math.floor(epoch) >= config.decay_at * config.epochs else 1.0
    return 0.5 + 0.5 * math.cos(math.pi * (epoch - config.warmup_epochs) / (config.epochs - config.warmup_epochs))


def make_optimiser(model: Model, config: TrainConfig) -> torch.optim.Optimizer:
    """Make Adam or AdamW for the parameters that train, as one group."""
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=config.learning_rate, betas=config.betas, eps=config.epsilon,
        weight_decay=config.weight_decay, amsgrad=config.amsgrad, fused=True,
    )  # fmt: skip


def check_built(model: ModelConfig, points: int, training: TrainConfig) -> None:
    """Build a model and its optimiser on torch's meta device, which holds no data.

    Raises ConfigError if torch refuses. points: N.
    """
    try:
        with torch.device("meta"):
            make_optimiser(build_model(model, words=2, points=points), training)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"settings: torch cannot build this model and optimiser: {error}; correct them") from error


def train(
    model: Model, samples: Samples, inputs: Inputs, config: TrainConfig, *,
    seed: int, device: torch.device, resume: Resume, label: str, workers: int = 0,
    processes: Processes = ALONE, after_epoch: Callable[[History], None] = lambda history: None,
    score: Callable[[], dict[str, float]] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> pd.DataFrame:  # fmt: skip
    """Train the model in place; it ends with its averaged weights, the same in all processes.

    A stopped training resumes after its last saved epoch and gives the same result, because order, expressions and
    dropout depend only on (seed, epoch), and dropout on the process.
    stopped: asked after each step; where it says yes, the state is saved and the process ends with SIGTERM's exit code.
    processes: those that share every batch. after_epoch: called with the rows of all epochs so far. score: computes
    more columns of a row, every config.score_epochs epochs, from the averaged weights, without changing the result.
    Returns a row per epoch: epoch, step, loss, learning_rate, gradient_norm, seconds, and waiting, the share of the
    seconds spent waiting for batches.
    Raises TrainingError if the gradient is not finite, ConfigError if a batch has fewer refs than processes.
    """
    per_epoch = steps_per_epoch(samples, config.batch)
    updates = config.updates or config.epochs * per_epoch
    smallest = batch_size(samples, config.batch, per_epoch - 1)
    if smallest < processes.count:
        raise ConfigError(f"{label}: batches of {smallest} refs cannot be shared by {processes.count} processes")
    on_device(model, device)
    model.train()
    called = parallel(model, processes, device)
    if config.compile:
        called.compile()
    optimiser, ema = make_optimiser(model, config), Ema(model, config.ema)
    history: History = []
    state, partial = resume.load(), None
    if state is not None:
        partial = state.get("partial")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        ema.load(state["ema"])
        history = state["history"]
        say(f"{label}: resuming after epoch {len(history)}")
    (group,) = optimiser.param_groups
    epochs = -(-updates // per_epoch)

    def save(**more: Any) -> None:
        states = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "ema": ema.state()}
        resume.save({**states, "history": history, **more})

    def latest() -> str:
        return f"loss {history[-1]['loss']:.4g}, rate {history[-1]['learning_rate']:.2g}"

    for epoch in progress(range(len(history), epochs), label, note=latest):
        torch.manual_seed((hash((seed, epoch)) & 0x7FFFFFFF) + processes.rank)  # dropout
        first, total, norm, waiting = 0, 0.0, 0.0, 0.0
        start = asked = time.perf_counter()
        batches = epoch_batches(
            samples, inputs, config.batch, seed, epoch, workers, share=processes.share, pinned=device.type == "cuda"
        )
        steps = min(per_epoch, updates - epoch * per_epoch)
        if partial:
            first, total, norm, random = partial
            partial = None
            torch.set_rng_state(random[0])
            for each in random[1:]:
                torch.cuda.set_rng_state(each, device)
        for step, batch in enumerate(islice(batches, first, steps), first):
            waiting += time.perf_counter() - asked
            place = config.epochs * (epoch * per_epoch + step) / updates  # in the schedule
            group["lr"] = config.learning_rate * rate_factor(config, place)
            batch = batch.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                output = called(batch)
            # Weight the loss so that its average over the processes is the mean over the whole batch.
            weight = processes.count * len(batch.words) / batch_size(samples, config.batch, step)
            loss = model.loss(output, batch, config) * weight
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = float(torch.nn.utils.clip_grad_norm_(group["params"], config.clip))
            if not math.isfinite(norm):
                raise TrainingError(
                    f"{label}: loss {float(loss.detach())} with gradient norm {norm} at epoch {epoch}, step {step}; "
                    "lower the learning rate"
                )
            optimiser.step()
            ema.update()
            total += float(loss.detach())
            asked = time.perf_counter()
            if stopped():
                random = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
                save(partial=(step + 1, total, norm, random))
                say(f"{label}: stopped by SIGTERM after step {step} of epoch {epoch}; run it again to go on")
                raise SystemExit(128 + signal.SIGTERM)
        seconds = time.perf_counter() - start
        history.append(
            {
                "epoch": epoch, "step": epoch * per_epoch + steps,
                "loss": mean_of_all(total, processes, device) / steps,
                "learning_rate": group["lr"], "gradient_norm": norm, "seconds": seconds, "waiting": waiting / seconds,
            }
        )  # fmt: skip
        if score is not None and config.score_epochs and (epoch + 1) % config.score_epochs == 0:
            with ema.applied():
                history[-1] |= score()
            model.train()
        if processes.first and (epoch + 1) % config.checkpoint_epochs == 0 and epoch + 1 < epochs:
            save()
        after_epoch(history)
    ema.apply()
    model.eval()
    return pd.DataFrame(history)
