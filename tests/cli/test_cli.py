"""The command line: what it offers, and how it answers mistakes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

import partialres
from partialres.cli import main
from partialres.cli.options import Section
from partialres.experiments import Plan
from tests.commands import done, run

ROOT = Path(__file__).parents[2]


def commands(group=main, path=()):
    """Yield every command and command group, with the words that call it."""
    yield path, group
    for name, command in sorted(getattr(group, "commands", {}).items()):
        yield from commands(command, (*path, name))


@pytest.mark.parametrize(("path", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in commands()])
def test_every_command_tells_what_it_does_and_what_each_option_is_for(path, command):
    for option in ("--help", "-h"):
        answer = run(*path, option)
        assert answer.exit_code == 0 and answer.output.startswith("Usage:")
    assert command.help
    plain = {"--out", "--seed", "--threads", "--help"}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help or plain & set(parameter.opts), f"{' '.join(path)}: {parameter.name} has no help"


def test_every_command_that_the_workflow_calls_is_there_and_all_are_listed():
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    called = set(re.findall(r"(?:-m partialres|on_gpus \{resources\.gpu\}) ([a-z-]+)", rules))
    assert len(called) > 10 and called <= set(main.commands)
    listed = run("--help").output
    assert [name for name in main.commands if name not in listed] == []


def test_the_version_is_the_packages_also_where_it_is_not_installed():
    answer = subprocess.run(
        [sys.executable, "-m", "partialres", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert partialres.__version__ in answer.stdout


def refused(answer, *words):
    """Whether a command failed with a message that contains these words, and without a traceback."""
    assert answer.exit_code not in (0, None) and "Traceback" not in answer.output
    missing = [word for word in words if str(word) not in answer.output]
    assert not missing, answer.output
    return True


def train_res(data, tmp_path, **options):
    given = {
        "--init": data.folder / "refs.parquet", "--points": 4, "--model": "{}",
        "--vocabulary": data.folder / "vocabulary.json", "--images": data.folder / "images",
        "--training": "{}", "--out": tmp_path / "out",
    } | {f"--{name}": value for name, value in options.items()}  # fmt: skip
    return run("train-res", data.folder / "split.parquet", *[each for pair in given.items() for each in pair])


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ('{"epoch": 3}', ["--training", "TrainConfig.epoch: unknown key", "epochs"]),
        ('{"epochs": "ten"}', ["TrainConfig.epochs", "'ten'", "int"]),
        ('{"epochs": 0}', ["epochs", "greater than or equal to 1"]),
        ("{epochs: [", ["--training"]),
        ("absent.yaml", ["absent.yaml"]),
        ("{}\n{}", ["--training"]),
    ],
)
def test_a_section_that_cannot_be_used_is_refused_by_its_key(data, tmp_path, section, words):
    assert refused(train_res(data, tmp_path, training=section), *words)
    assert not (tmp_path / "out").exists()


def test_a_section_is_json_or_a_file_of_json_or_yaml(data, tmp_path):
    (tmp_path / "train.yaml").write_text("epochs: 3\nlearning_rate: 5e-4\n")
    (tmp_path / "wrong.yaml").write_text("epochs: 3\nunknown: 1\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "empty.yaml").write_text("")
    assert refused(train_res(data, tmp_path, training=tmp_path / "wrong.yaml"), "TrainConfig.unknown: unknown key")
    assert refused(train_res(data, tmp_path, training=tmp_path / "list.yaml"), "TrainConfig: [1]", "valid dictionary")
    for good in (tmp_path / "train.yaml", tmp_path / "empty.yaml", '  {"epochs": 3}'):  # then the next one is found
        assert refused(train_res(data, tmp_path, training=good), "refs.parquet: cannot be read as a model")


def test_an_option_out_of_range_or_a_file_that_is_not_there_is_named(data, tmp_path):
    assert refused(train_res(data, tmp_path, points=2), "--points")
    assert refused(train_res(data, tmp_path, init=tmp_path / "absent"), "--init", "absent")
    refs = data.folder / "refs.parquet"
    assert refused(run("split", refs, "--ratio", 0, "--out", tmp_path / "x"), "--ratio")
    assert refused(run("split", refs, "--ratio", 101, "--out", tmp_path / "x"), "--ratio")
    assert refused(
        run("select", refs, refs, "--num-points", 4, "--threshold", 3, "--out", tmp_path / "x"), "--threshold"
    )


def test_errors_of_data_are_messages_that_name_the_file(data, tmp_path):
    (tmp_path / "broken.parquet").write_text("no table")
    broken = tmp_path / "broken.parquet"
    out = ["--out", tmp_path / "out"]
    assert refused(run("split", broken, "--ratio", 5, *out), "broken.parquet")
    assert refused(run("select", broken, broken, "--num-points", 4, *out), "broken.parquet")
    assert refused(
        run("prepare", tmp_path, "--split-by", "unc", "--image-folder", tmp_path, *out), "refs(unc).p: no such file"
    )
    pictures = ["--image-folder", data.pictures]
    assert refused(run("cache-images", broken, *pictures, *out), "broken.parquet")
    assert refused(run("cache-images", data.folder / "refs.parquet", "--image-folder", tmp_path, *out), ".jpg")
    (tmp_path / "metrics.json").write_text("{")
    assert refused(run("tables", "main", tmp_path / "metrics.json", *out), "metrics.json")
    assert refused(run("figures", "ratio-curve", tmp_path / "metrics.json", *out), "metrics.json: not a file of a run")
    assert refused(run("tables", "failures", broken, broken, *out, "--figure", tmp_path / "a.png"), "broken.parquet")
    assert refused(run("tables", "data", broken, *out), "broken.parquet")


def test_what_nobody_foresaw_keeps_its_traceback(monkeypatch, data, tmp_path):
    def bug(*arguments):
        raise RuntimeError("bug")

    monkeypatch.setattr("partialres.data.splits.split", bug)
    with pytest.raises(RuntimeError, match="bug"):
        run("split", data.folder / "refs.parquet", "--ratio", 5, "--out", tmp_path / "x")


def test_the_first_steps_write_what_the_next_ones_read(tmp_path):
    pictures, folder = tmp_path / "raw/images/train2014", tmp_path / "refshapes"
    done("refshapes", "--image-count", 30, "--side", 64, "--out", tmp_path / "raw")
    answer = done(
        "prepare", tmp_path / "raw/refshapes", "--split-by", "unc", "--image-folder", pictures, "--out", folder
    )
    assert " refs, " in answer.output
    done("cache-images", folder / "refs.parquet", "--image-folder", pictures, "--size", 32, "--out", folder / "images")
    answer = done("split", folder / "refs.parquet", "--ratio", 10, "--out", folder / "split.parquet")
    assert "training refs keep their masks" in answer.output
    assert json.loads((folder / "vocabulary.json").read_text())["words"][:2] == ["<pad>", "<unk>"]


def test_a_section_that_a_rule_hands_over_as_json_comes_back_the_same():
    plan = Plan(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    settings = plan.settings(next(iter(plan.datasets)), "ours", 1)
    for section in (settings.model, settings.pretraining, settings.rec, settings.res, settings.retrain):
        assert Section(type(section)).convert(section.model_dump_json(), None, None) == section
