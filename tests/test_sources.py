"""The code that a command runs, found by reading it."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

import partialres
from partialres import sources, stages  # stages here, so that no class is made while calls are noted
from partialres.cli import main
from tests.tiny import TINY

PACKAGE = Path(partialres.__file__).parent
# Called before a command, or while its options are parsed.
OF_OPTIONS = {
    ("partialres.allocator", "keep_freed_memory"), ("partialres.config", "fill"), ("partialres.config", "_convert")
}  # fmt: skip


def modules(command: str) -> set[str]:
    return {module.removeprefix("partialres.") for module, _ in sources.reached(PACKAGE, command)}


@pytest.fixture
def package(tmp_path):
    """A copy of the package that may be changed; a fresh one for every digest, as parsed files are remembered."""
    number = iter(range(100))

    def changed(module: str = "__init__", old: str = "", new: str = "") -> Path:
        folder = tmp_path / str(next(number))
        shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        path = folder / module
        path = path if path.suffix else path.with_suffix(".py")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1) if old else text + new)
        return folder

    return changed


def test_commands_reach_the_modules_that_they_use_and_no_others():
    assert {"pseudo", "config", "geometry.contour"} <= modules("select")
    assert not {"metrics", "evaluation", "stages", "model.pointer", "training.loop"} & modules("select")
    assert modules("split") == {"cli", "data.splits", "files"}
    assert {stages.__name__.removeprefix("partialres."), "training.ema", "geometry.boxes"} <= modules("train-rec")
    assert not {"metrics", "evaluation", "pseudo", "training.pretrain"} & modules("train-rec")
    assert {"metrics", "evaluation"} <= modules("evaluate")
    assert not {name for name in modules("tables main") if name.startswith(("model", "training"))}


def test_every_command_is_found():
    commands = {
        f"{name} {inner}" if hasattr(command, "commands") else name
        for name, command in main.commands.items()
        for inner in getattr(command, "commands", [""])
    }
    assert all(sources.digest(PACKAGE, command) for command in commands)


def test_a_command_that_there_is_not_is_refused():
    with pytest.raises(KeyError, match="no-such"):
        sources.digest(PACKAGE, "no-such")


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("pseudo", '"""', '"""Other words. '),
        ("pseudo", "", "# a comment\n"),
        ("pseudo", "", "\n\ndef unused() -> int:\n    return 1\n"),
        ("stages", "", "\n\ndef other_stage() -> None:\n    pass\n"),
        ("metrics", "", "\n\nassert True\n"),
        ("config", "", "\n\nclass OtherConfig:\n    pass\n"),
    ],
)
def test_what_cannot_change_a_result_keeps_the_digest(package, module, old, new):
    assert sources.digest(package(module, old, new), "select") == sources.digest(PACKAGE, "select")


@pytest.mark.parametrize(
    ("command", "module", "old", "new"),
    [
        ("select", "geometry/contour", "", "\n\nassert True\n"),
        ("select", "pseudo", "def select(", "def unlike(): ...\n\n\n@unlike\ndef select("),
        ("tables main", "report/published.csv", "", "\n"),
        ("train-rec", "training/ema", "", "\n\nassert True\n"),
    ],
)
def test_what_can_change_a_result_changes_the_digest(package, command, module, old, new):
    assert sources.digest(package(module, old, new), command) != sources.digest(PACKAGE, command)


def test_everything_that_a_command_calls_is_reached(data, tmp_path):
    """The same by running: no function of the package is called that reading did not find."""
    model = json.dumps({field.name: getattr(TINY, field.name) for field in fields(TINY)})
    training = ["--training", '{"epochs": 1, "batch": 16, "warmup_epochs": 0}']
    here = data.folder
    rest = ["--vocabulary", here / "vocabulary.json", "--images", here / "images"]
    rec, res = tmp_path / "rec", tmp_path / "res"
    commands = [
        ("prepare", data.raw, "--image-folder", data.pictures, "--out", tmp_path / "prepared"),
        ("cache-images", here / "refs.parquet", "--image-folder", data.pictures, "--size", 64, "--out", tmp_path / "i"),
        ("split", here / "refs.parquet", "--ratio", 50, "--out", tmp_path / "split.parquet"),
        ("train-rec", here / "refs.parquet", "--model", model, *training, "--out", rec, *rest),
        ("train-res", here / "split.parquet", "--init", rec / "model.safetensors", "--points", 4, *training,
         "--out", res, *rest),
        ("predict", here / "split.parquet", "--model", res / "model.safetensors", "--out", tmp_path / "points.parquet",
         *rest),
        ("select", tmp_path / "points.parquet", here / "split.parquet", "--num-points", 4, "--threshold", 2, "--out",
         tmp_path / "selected.parquet"),
        ("evaluate", here / "refs.parquet", "--model", res / "model.safetensors", "--out", tmp_path / "val", *rest),
    ]  # fmt: skip
    for name, *arguments in commands:
        called: set[tuple[str, str]] = set()

        def note(frame, event, _, called=called):
            module = frame.f_globals.get("__name__", "")
            written = frame.f_code.co_filename.endswith(".py")  # not made by dataclasses
            if event == "call" and written and module.startswith("partialres.") and ".cli" not in module:
                called.add((module, frame.f_code.co_qualname.split(".")[0]))

        sys.setprofile(note)
        try:
            answer = CliRunner().invoke(main, [name, *map(str, arguments)])
        finally:
            sys.setprofile(None)
        assert answer.exit_code == 0, answer.output
        own = {(module, top) for module, top in called if not top.startswith("<")} - OF_OPTIONS
        assert own <= sources.reached(PACKAGE, name), name
        assert len(own) > 1
