"""Run one training of any step and write its three files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from partialres.checkpoints.model_file import save_model
from partialres.config import ConfigError, TrainConfig, check_training
from partialres.files import read_table, write_json, write_text
from partialres.geometry import contour
from partialres.model.build import Model
from partialres.provenance import provenance
from partialres.steps.sources import Sources
from partialres.training.distributed import joined, pick_device
from partialres.training.loop import History, train
from partialres.training.resume import Resume, sigterm_noted
from partialres.training.watch import Events, sample_score


@dataclass(frozen=True)
class Execution:
    """How a training runs and where its results go."""

    seed: int
    workers: int  # loader processes
    resume: Path | None  # folder for the state from which a stopped training resumes
    device: str
    out: Path  # folder for model.safetensors, metrics.csv and provenance.json


def fit(
    model: Model,
    refs: pd.DataFrame,
    sources: Sources,
    training: TrainConfig,
    execution: Execution,
    *,
    files: Mapping[str, Path],
    settings: Mapping[str, Any],
    label: str,
    val: Path | None = None,
    sampling: contour.Sampling = "uniform",
) -> None:
    """Train, adding a row to metrics.csv per epoch; then write provenance.json and, last, model.safetensors.

    refs: the training refs, with the columns that `model.samples` needs. files and settings: inputs and settings that
    affect the result, beyond sources and training. val: refs.parquet, for training.score_epochs. sampling: how points
    were taken from contours.
    """
    check_training(model.config, training)
    if training.score_epochs and val is None:
        raise ConfigError("training.score_epochs needs refs to score: give --val refs.parquet")
    words, inputs, device = sources.words(), sources.inputs(model), pick_device(execution.device)
    samples = model.samples(refs, inputs, words, training.jitter, sampling)
    files = {**files, "vocabulary": sources.vocabulary, "images": sources.images / "index.parquet"}
    configs = {"model": model.config, "points": model.points, "training": training, **settings}
    origin = provenance(configs, files, execution.seed, str(device))
    state = Resume(execution.resume, origin)
    with joined(device) as processes, sigterm_noted(alone=processes.count == 1) as stopped:
        events = Events(execution.out / "tensorboard") if training.tensorboard and processes.first else None
        scored = val if training.score_epochs and processes.first else None
        score = sample_score(model, read_table(scored), inputs, words, device) if scored else None

        def after_epoch(history: History) -> None:
            if processes.first:
                table = pd.DataFrame(history).to_csv(index=False, float_format="%.6g")
                write_text(table, execution.out / "metrics.csv")
            if events:
                events.write(history)

        train(
            model, samples, inputs, training,
            seed=execution.seed, device=device, resume=state, label=label, workers=execution.workers,
            processes=processes, stopped=stopped, after_epoch=after_epoch, score=score,
        )  # fmt: skip
        if processes.first:
            write_json(origin, execution.out / "provenance.json")
            model_file = execution.out / "model.safetensors"
            save_model(model.cpu(), model_file, words=words, size=inputs.size, provenance=origin)
            state.clear()
