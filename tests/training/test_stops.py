"""Trainings that are killed, asked to end, or cannot save go on to the bytes of one that nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from partialres.model.visual import Visual
from partialres.steps.backbone import pretrain_backbone
from partialres.training import loop, pretraining
from partialres.training.ema import Ema
from partialres.training.loop import train
from partialres.training.resume import Resume, sigterm_noted
from tests.commands import done, run, sources
from tests.tiny import SHORT, TINY, equal_states
from tests.training.test_pretraining import CONFIG

POINTS = 4
LONG = SHORT.replace(epochs=16, batch=32)


def arguments(data, folder: Path) -> list[str]:
    sections = ["--model", TINY.model_dump_json(), "--training", LONG.model_dump_json(), "--device", "cpu"]
    places = ["--resume", folder / "states", "--out", folder / "out"]
    return [str(each) for each in ("train-rec", data.folder / "refs.parquet", *sections, *sources(data), *places)]


def begun(data, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "partialres", *arguments(data, folder)],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_four_kills_at_random_steps_change_no_byte_of_the_model(data, tmp_path):
    done(*arguments(data, tmp_path / "whole"))
    random, states = np.random.default_rng(0), tmp_path / "killed/states"
    kills = 0
    for _ in range(20):
        process, before = begun(data, tmp_path / "killed"), newest(states)
        while process.poll() is None and newest(states) == before:
            time.sleep(0.01)
        time.sleep(float(random.uniform(0, 0.3)))
        if process.poll() is None and kills < 4:
            kills += 1
            process.kill()
        if process.wait() == 0:
            break
    assert kills == 4
    first, second = (tmp_path / name / "out/model.safetensors" for name in ("whole", "killed"))
    assert first.read_bytes() == second.read_bytes()
    assert not list(states.iterdir()), "no state and nothing half-written is left"


def newest(states: Path) -> int:
    return max((path.stat().st_mtime_ns for path in states.glob("[!.]*.pt")), default=0)


@pytest.fixture
def fit(data, tiny_model):
    def fit(resume: Path | None, epochs: int = 3):
        model = tiny_model(POINTS, dropout=0.3)
        with sigterm_noted(alone=True) as stopped:
            train(
                model, data.contours(POINTS), data.inputs, SHORT.replace(epochs=epochs, batch=8), seed=3,
                device=torch.device("cpu"), resume=Resume(resume, {}), label="test", stopped=stopped,
            )  # fmt: skip
        return model

    return fit


@pytest.mark.parametrize("step", [1, 4, 5, 7, 15])
def test_sigterm_ends_training_after_the_step_and_the_next_goes_on(fit, tmp_path, monkeypatch, capsys, step):
    whole, update, calls = fit(None), Ema.update, []

    def counted(ema: Ema) -> None:
        calls.append(ema)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        update(ema)

    monkeypatch.setattr(Ema, "update", counted)
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path)
    said = capsys.readouterr().err
    assert ended.value.code == 143 and said.count("stopped by SIGTERM after step") == 1 and len(calls) == step
    assert equal_states(whole, fit(tmp_path)) and len(calls) == 15, "no step is done twice"


def test_a_state_that_cannot_be_saved_is_a_warning(fit, tmp_path, monkeypatch, capsys):
    whole = fit(None)
    for error in (OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")):

        def full(*_, error=error):
            raise error

        monkeypatch.setattr(torch, "save", full)
        assert equal_states(whole, fit(tmp_path))
        assert "no state was saved" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_what_a_killed_save_left_is_removed_and_other_trainings_files_are_not(tmp_path):
    state, other = Resume(tmp_path, {"seed": 0}), Resume(tmp_path, {"seed": 1})
    left = [path.with_name(f".{path.stem}.abc.pt") for path in (state.path, other.path)]
    for path in left:
        path.write_bytes(b"half")
    assert state.load() is None and [path.exists() for path in left] == [False, True]


def test_pretraining_goes_on_to_the_same_weights(data, tmp_path, monkeypatch, capsys):
    images = sorted(set(data.refs.loc[data.refs["split"] == "train", "image_id"]))
    scenes = pretraining.read_scenes(data.raw / "instances.json", images, data.inputs)

    def pretrained(resume: Resume | None) -> Visual:
        torch.manual_seed(0)
        visual = Visual(TINY)
        pretraining.pretrain(visual, scenes, data.inputs, CONFIG.replace(epochs=3), 0, resume)
        return visual

    whole, save = pretrained(None), Resume.save

    def killed(state: Resume, content: dict) -> None:
        save(state, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(Resume, "save", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pretrained(Resume(tmp_path, {}))
    monkeypatch.undo()
    assert equal_states(whole, pretrained(Resume(tmp_path, {})))
    assert "resuming after epoch 2" in capsys.readouterr().err


def test_pretraining_writes_a_row_after_each_epoch_and_leaves_no_state(data, tmp_path, monkeypatch):
    def pretrained() -> None:
        files = data.raw / "instances.json", data.folder / "refs.parquet", data.folder / "images"
        pretrain_backbone(*files, TINY, CONFIG.replace(epochs=3), 0, tmp_path / "out", tmp_path / "states")

    save, saved = Resume.save, []

    def killed_second(state: Resume, content: dict) -> None:
        save(state, content)
        saved.append(state)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Resume, "save", killed_second)
    with pytest.raises(KeyboardInterrupt):
        pretrained()
    assert pd.read_csv(tmp_path / "out/metrics.csv")["epoch"].tolist() == [0]
    pretrained()
    assert pd.read_csv(tmp_path / "out/metrics.csv")["epoch"].tolist() == [0, 1, 2]
    assert (tmp_path / "out/visual.safetensors").exists() and not list((tmp_path / "states").iterdir())


def test_sigterm_ends_any_command_with_a_line_and_no_half_written_file(data, tmp_path, monkeypatch):
    def preempted(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr("pandas.DataFrame.to_parquet", preempted)
    answer = run("split", data.folder / "refs.parquet", "--ratio", 10, "--out", tmp_path / "split.parquet")
    assert answer.exit_code == 143 and "split: stopped by SIGTERM" in answer.output and not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and loop
