"""The digest of a command's code: which modules it covers, as found from their imports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import partialres
from partialres import code_digest
from partialres.cli import main
from tests.tiny import TINY

PACKAGE = Path(partialres.__file__).parent


def modules(command: str) -> set[str]:
    return {module.removeprefix("partialres.") for module in code_digest.closure(command)}


def test_commands_reach_the_modules_that_they_use_and_no_others():
    assert {"steps.pseudo", "geometry.contour", "metrics"} <= modules("select")
    assert not {name for name in modules("select") if name.startswith(("model", "training", "evaluation"))}
    assert modules("split") - {"data"} == {"data.splits", "files"}
    assert {"steps.rec", "training.ema", "geometry.boxes"} <= modules("train-rec")
    assert not {"metrics", "evaluation", "steps.res", "steps.pseudo"} & modules("train-rec")
    assert {"metrics", "evaluation"} <= modules("evaluate")
    assert not {name for name in modules("tables main") if name.startswith(("model", "training"))}


def test_every_command_has_a_digest_and_others_are_refused():
    commands = [
        f"{name} {inner}".strip()
        for name, command in main.commands.items()
        for inner in getattr(command, "commands", [""])
    ]
    assert all(code_digest.closure(command) and code_digest.digest(command) for command in commands)
    with pytest.raises(KeyError, match="no-such"):
        code_digest.digest("no-such")


@pytest.fixture
def changed_digest(tmp_path):
    """(command, module, old text, new text) -> the command's digest in a copy of the package with that change."""

    def digest(command: str, module: str, old: str, new: str) -> str:
        folder = tmp_path / "partialres"
        shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        path = folder / module
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1) if old else text + new)
        call = f"from partialres import code_digest; print(code_digest.digest({command!r}))"
        run = subprocess.run([sys.executable, "-c", call], cwd=tmp_path, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    return digest


@pytest.mark.parametrize(
    ("module", "old", "new", "same"),
    [
        ("steps/pseudo.py", '"""', '"""Other words. ', True),
        ("steps/pseudo.py", "", "# a comment\n", True),
        ("evaluation.py", "", "\n\nassert True\n", True),
        ("config.py", "", "\n\nclass OtherConfig:\n    pass\n", True),
        ("cli/steps.py", "", "\n\nassert True\n", True),
        ("geometry/contour.py", "", "\n\nassert True\n", False),
        ("steps/pseudo.py", "", "\n\nassert True\n", False),
    ],
)
def test_the_digest_changes_with_the_code_of_imported_modules_alone(changed_digest, module, old, new, same):
    assert (changed_digest("select", module, old, new) == code_digest.digest("select")) == same


def test_a_data_file_that_a_module_names_counts(changed_digest):
    assert changed_digest("tables main", "report/published.csv", "", "\n") != code_digest.digest("tables main")


def test_everything_that_a_command_calls_is_in_the_modules_that_it_imports(data, tmp_path):
    """Checks the same by running: a command calls no function of a module that its imports do not lead to."""
    model = TINY.model_dump_json()
    training = ["--training", json.dumps({"epochs": 1, "batch": 16, "warmup_epochs": 0})]
    here = data.folder
    rest = ["--vocabulary", here / "vocabulary.json", "--images", here / "images"]
    rec, res = tmp_path / "rec", tmp_path / "res"
    commands = [
        ("prepare", data.raw, "--split-by", "unc", "--image-folder", data.pictures, "--out", tmp_path / "prepared"),
        ("cache-images", here / "refs.parquet", "--image-folder", data.pictures, "--size", 64, "--out", tmp_path / "i"),
        ("split", here / "refs.parquet", "--ratio", 50, "--out", tmp_path / "split.parquet"),
        ("train-rec", here / "refs.parquet", "--model", model, *training, "--out", rec, *rest),
        ("train-res", here / "split.parquet", "--init", rec / "model.safetensors", "--points", 4,
         "--model", model, *training,
         "--out", res, *rest),
        ("predict", here / "split.parquet", "--model", res / "model.safetensors", "--out", tmp_path / "points.parquet",
         *rest),
        ("select", tmp_path / "points.parquet", here / "split.parquet", "--num-points", 4, "--threshold", 2, "--out",
         tmp_path / "selected.parquet"),
        ("evaluate", here / "refs.parquet", "--model", res / "model.safetensors", "--out", tmp_path, *rest),
    ]  # fmt: skip
    for name, *arguments in commands:
        called: set[str] = set()

        def note(frame, event, _, called=called):
            module = frame.f_globals.get("__name__", "")
            if event == "call" and module.startswith("partialres.") and ".cli" not in module:
                called.add(module)

        sys.setprofile(note)
        try:
            answer = CliRunner().invoke(main, [name, *map(str, arguments)])
        finally:
            sys.setprofile(None)
        assert answer.exit_code == 0, answer.output
        # Every command also calls config, which parses its options, and model/cpu.py, which sets up its threads.
        assert called - {*code_digest.NOT_COUNTED, "partialres.model.cpu"} <= code_digest.closure(name), name
        assert len(called) > 1
