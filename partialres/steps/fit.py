"""What the trainings of all steps share: how they run, and the three files that each writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from partialres.checkpoints.model_file import save_model
from partialres.config import TrainConfig, check_training
from partialres.files import write_json, write_text
from partialres.geometry import contour
from partialres.model.build import Model
from partialres.provenance import provenance
from partialres.steps.sources import Sources
from partialres.training.distributed import joined, pick_device
from partialres.training.loop import train
from partialres.training.resume import Resume, decisive, sigterm_noted


@dataclass(frozen=True)
class Execution:
    """How a training runs and where its results go."""

    seed: int
    workers: int  # loader processes
    resume: Path | None  # folder for the state that a stopped training resumes from
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
    sampling: contour.Sampling = "uniform",
) -> None:
    """Train, then write metrics.csv and provenance.json, and model.safetensors last: it says that all is there.

    refs: what the model's `samples` need. files: inputs that decide the result, beside the sources. settings: what else
    decides it. sampling: how contours were taken from masks.
    """
    check_training(model.config, training)
    words, inputs, device = sources.words(), sources.inputs(model), pick_device(execution.device)
    samples = model.samples(refs, inputs, words, training.jitter, sampling)
    files = {**files, "vocabulary": sources.vocabulary, "images": sources.images / "index.parquet"}
    configs = {"model": model.config, "points": model.points, "training": training, **settings}
    origin = provenance(configs, files, execution.seed, str(device))
    state = Resume(execution.resume, decisive(origin))
    with joined(device) as processes, sigterm_noted(alone=processes.count == 1) as stopped:
        history = train(
            model, samples, inputs, training,
            seed=execution.seed, device=device, resume=state, label=label, workers=execution.workers,
            processes=processes, stopped=stopped,
        )  # fmt: skip
        if processes.first:
            write_text(history.to_csv(index=False, float_format="%.6g"), execution.out / "metrics.csv")
            write_json(origin, execution.out / "provenance.json")
            model_file = execution.out / "model.safetensors"
            save_model(model.cpu(), model_file, words=len(words), vocabulary=words.digest(), provenance=origin)
            state.clear()
