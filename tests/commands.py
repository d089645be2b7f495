"""Run commands of the package in the test's own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
from click.testing import CliRunner, Result
from torch import Tensor

from partialres.cli import main
from tests.tiny import Prepared, equal_tensors


def run(*arguments: Any) -> Result:
    """Run a command; exceptions that it does not handle are raised."""
    answer = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if answer.exception and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer


def done(*arguments: Any) -> Result:
    """Run a command that must succeed."""
    answer = run(*arguments)
    assert answer.exit_code == 0, answer.output
    return answer


def sources(data: Prepared) -> list[Any]:
    """The options that name the vocabulary and the images."""
    return ["--vocabulary", data.folder / "vocabulary.json", "--images", data.folder / "images"]


def evaluate(data: Prepared, model: Path, out: Path, *options: Any, split: str = "val", call: Any = done) -> Result:
    """Evaluate the model in a folder on a split; predictions.parquet and metrics.json go to out/<split>."""
    fixed = ["--model", model / "model.safetensors", "--split", split, "--out", out]
    return call("evaluate", data.folder / "refs.parquet", *fixed, *sources(data), *options)


def weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of the model in a folder."""
    return safetensors.torch.load_file(folder / "model.safetensors")


def equal(first: Path, second: Path) -> bool:
    """Whether the models in two folders have the same weights, bit by bit."""
    return equal_tensors(weights(first), weights(second))
