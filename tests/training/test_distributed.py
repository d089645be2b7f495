"""Two processes on the CPU, started by torchrun as on GPUs, compared with one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from partialres.checkpoints.model_file import save_model
from partialres.config import ConfigError
from partialres.files import read_json, read_table
from partialres.model.pointer import PointModel
from partialres.training.distributed import Processes
from partialres.training.loop import train
from partialres.training.resume import Resume
from tests import commands
from tests.tiny import SHORT, SIDE, TINY

ROOT = Path(__file__).parents[2]
POINTS = 4
MODEL = TINY.replace(dropout=0.0)  # each process draws its own
# 4 steps per epoch. Adam divides by the gradient's size: with a small epsilon, it would magnify rounding errors.
TRAINING = SHORT.replace(epochs=5, batch=14, checkpoint_epochs=2, epsilon=1e-3)


def in_two(*arguments):
    """Run a command in two processes."""
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    run = subprocess.run(
        [str(item) for item in [sys.executable, *several, "-m", "partialres", *arguments]],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Train and evaluate step 2 in one process and in two; the folder has a subfolder for each."""
    folder = tmp_path_factory.mktemp("distributed")
    torch.manual_seed(0)
    first = PointModel(MODEL.step_1(), len(data.vocabulary), 2)
    save_model(first, folder / "rec.safetensors", words=data.vocabulary, size=SIDE, provenance={})
    sources = [*commands.sources(data), "--device", "cpu", "--threads", 1]
    for processes, run in ((1, commands.done), (2, in_two)):
        out = folder / str(processes)
        run(
            "train-res", data.folder / "split.parquet", "--init", folder / "rec.safetensors",
            "--points", POINTS, "--model", MODEL.model_dump_json(), "--training", TRAINING.model_dump_json(),
            "--resume", folder / "resume", "--out", out, *sources,
        )  # fmt: skip
        run(
            "evaluate", data.folder / "refs.parquet", "--model", folder / "1/model.safetensors",
            "--split", "train", "--split", "val", "--batch", 8, "--out", out, *sources,
        )  # fmt: skip
    return folder


def test_two_processes_take_the_steps_of_one(trained):
    alone, shared = (pd.read_csv(trained / name / "metrics.csv") for name in ("1", "2"))
    assert alone["step"].iloc[-1] == 20
    np.testing.assert_allclose(shared["loss"], alone["loss"], atol=1e-5)
    torch.testing.assert_close(commands.weights(trained / "2"), commands.weights(trained / "1"), atol=1e-4, rtol=1e-4)


def test_two_processes_score_every_expression_once_and_to_the_same_digit(trained, data):
    alone, shared = (read_table(trained / name / "train/predictions.parquet") for name in ("1", "2"))
    assert len(shared) == data.refs.loc[data.refs["split"] == "train", "expressions"].map(len).sum()
    assert shared[["ref_id", "expression"]].equals(alone[["ref_id", "expression"]])
    assert (trained / "2/val/predictions.parquet").read_bytes() == (trained / "1/val/predictions.parquet").read_bytes()
    assert read_json(trained / "2/train/metrics.json") == read_json(trained / "1/train/metrics.json")


def test_only_the_first_process_keeps_a_state_and_none_is_left(trained):
    assert list((trained / "resume").iterdir()) == []


def test_the_shares_of_a_batch_are_runs_of_it_and_together_the_batch():
    shares = [Processes(rank, 3).share(np.arange(7)).tolist() for rank in range(3)]
    assert shares == [[0, 1, 2], [3, 4], [5, 6]]


def test_a_batch_that_is_too_small_for_the_processes_is_refused(data, tiny_model):
    with pytest.raises(ConfigError, match="batches of 1 refs cannot be shared by 2 processes"):
        train(
            tiny_model(), data.contours(4, number=4), data.inputs, SHORT.replace(batch=1), seed=0,
            device=torch.device("cpu"), resume=Resume(None, {}), label="x", processes=Processes(0, 2),
        )  # fmt: skip
