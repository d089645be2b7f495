"""Provenance is the same for equal runs, and differs if anything in the run does."""

import json
import subprocess

import torch

import partialres
from partialres.config import TrainConfig
from partialres.provenance import digest, provenance
from tests.tiny import TINY


def test_provenance_names_what_made_a_result_and_is_the_same_each_time(tmp_path):
    (tmp_path / "split.parquet").write_bytes(b"abc")
    inputs = {"split": tmp_path / "split.parquet"}
    first = provenance({"training": TrainConfig(), "points": 12}, inputs, 7, "cpu")
    assert first == provenance({"training": TrainConfig(), "points": 12}, inputs, 7, "cpu")
    assert first["seed"] == 7 and first["device"] == "cpu" and first["versions"]["torch"] == torch.__version__
    assert first["config"]["training"]["batch"] == 128 and first["config"]["points"] == 12
    assert json.loads(json.dumps(first))["commit"]
    other = provenance({"training": TrainConfig(epochs=3), "points": 12}, inputs, 7, "cpu")
    (tmp_path / "split.parquet").write_bytes(b"abd")
    changed = provenance({"training": TrainConfig(), "points": 12}, inputs, 7, "cpu")
    assert first["config_digest"] != other["config_digest"] and first["inputs"] != changed["inputs"]


def test_the_commit_of_a_repository_around_an_installed_package_is_not_the_packages(tmp_path, monkeypatch):
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message=theirs"]):
        subprocess.run([*git, *command], check=True)
    installed = tmp_path / ".venv/lib/site-packages/partialres"
    installed.mkdir(parents=True)
    monkeypatch.setattr(partialres, "__file__", str(installed / "__init__.py"))
    assert provenance({}, {}, 0, "cpu")["commit"] == partialres.__version__


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": TINY}) == digest({"b": TINY, "a": 1}) != digest({"a": 2, "b": TINY})
