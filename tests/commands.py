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
    """Run a command; what it did not foresee is raised."""
    answer = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if answer.exception and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer


def done(*arguments: Any) -> Result:
    """Run a command that must end well."""
    answer = run(*arguments)
    assert answer.exit_code == 0, answer.output
    return answer


def sources(data: Prepared) -> list[Any]:
    """The options of where words and images come from."""
    return ["--vocabulary", data.folder / "vocabulary.json", "--images", data.folder / "images"]


def evaluate(data: Prepared, model: Path, out: Path, *options: Any, split: str = "val", call: Any = done) -> Result:
    """Score the model of a folder."""
    fixed = ["--model", model / "model.safetensors", "--split", split, "--out", out]
    return call("evaluate", data.folder / "refs.parquet", *fixed, *sources(data), *options)


def weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of a folder's model."""
    return safetensors.torch.load_file(folder / "model.safetensors")


def equal(first: Path, second: Path) -> bool:
    """Whether the models of two folders hold the same weights to the bit."""
    return equal_tensors(weights(first), weights(second))
