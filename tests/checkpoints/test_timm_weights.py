"""timm's weights: loaded from a file to the bit, fetched from a stand-in for the hub, and what can be wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from partialres.config import ModelConfig
from partialres.files import DataError
from partialres.model.timm_backbone import TimmBackbone, import_timm
from partialres.model.visual import Visual
from partialres.steps.backbone import load_visual
from tests.backbones import SMALL, needs_timm
from tests.server import serving
from tests.tiny import equal_tensors

pytestmark = needs_timm
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = ModelConfig(backbone=SMALL, frozen="but_last_stage", fusion=4, language=2)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A file with the weights of the whole network, classifier included, as timm publishes them."""
    path = tmp_path_factory.mktemp("published") / "model.safetensors"
    torch.manual_seed(5)
    save_file(import_timm().create_model(SMALL.removeprefix("timm/")).state_dict(), path)
    return path


def test_every_weight_of_the_file_arrives(published):
    visual = Visual(MODEL)
    load_visual(visual, published)
    torch.manual_seed(5)
    expected = import_timm().create_model(SMALL.removeprefix("timm/")).state_dict()
    given = visual.backbone.network.state_dict()
    assert equal_tensors(given, {name: expected[name] for name in given}) and len(given) == len(expected) - 2


def test_weights_of_another_network_are_refused(published):
    visual = Visual(MODEL.replace(backbone="timm/test_convnext"))
    with pytest.raises(DataError, match=r"its weights are not those of timm/test_convnext"):
        load_visual(visual, published)


def test_a_neck_left_random_and_frozen_is_refused(published):
    with pytest.raises(DataError, match="no weights for the neck"):
        load_visual(Visual(MODEL.replace(frozen="all")), published)


def test_darknets_weights_are_refused(tmp_path):
    (tmp_path / "small.weights").touch()
    with pytest.raises(DataError, match="DarkNet's weights do not fit timm/test_resnet"):
        load_visual(Visual(MODEL), tmp_path / "small.weights")


def test_our_own_file_comes_back_to_the_bit(tmp_path):
    torch.manual_seed(1)
    first, second = Visual(MODEL), Visual(MODEL)
    save_file(first.state_dict(), tmp_path / "visual.safetensors")
    load_visual(second, tmp_path / "visual.safetensors")
    assert first.digest() == second.digest()
    assert isinstance(second.backbone, TimmBackbone)


class Hub(BaseHTTPRequestHandler):
    """Answers like the hub for one repository's main branch."""

    content = b""

    def do_HEAD(self) -> None:
        known = "/test_resnet." in self.path and "/resolve/main/" in self.path
        self.send_response(200 if known else 404)
        if known:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{sha256(self.content).hexdigest()}"')
        else:
            self.send_header("X-Error-Code", "RevisionNotFound")
        self.send_header("Content-Length", str(len(self.content) if known else 0))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def hub(published):
    Hub.content = published.read_bytes()
    with serving(Hub) as address:
        yield address


def fetch(endpoint: str, out: Path, *options: str) -> subprocess.CompletedProcess:
    """Run the command with another address of the hub, which its client reads as it is imported."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-m", "partialres", "download-backbone", SMALL, "--out", out, *options],
        env=plain | {"HF_ENDPOINT": endpoint, "HF_HOME": str(out.parent / "home"), "NO_PROXY": "127.0.0.1"},
        capture_output=True, text=True,
    )  # fmt: skip


def test_weights_are_fetched_with_their_origin_and_the_same_again(hub, published, tmp_path):
    out = tmp_path / "weights/test_resnet.safetensors"
    record = out.with_name(f"{out.name}.json")
    for _ in range(2):
        answer = fetch(hub, out)
        assert answer.returncode == 0, answer.stderr
        assert out.read_bytes() == published.read_bytes()
        origin = json.loads(record.read_text())
        assert origin["commit"] == COMMIT and origin["sha256"] == sha256(Hub.content).hexdigest()
        names = {path.name for path in out.parent.iterdir()} - {"home"}
        assert names == {out.name, record.name}
        out.unlink()


def test_weights_that_are_not_those_of_the_record_are_refused_with_what_differs(hub, tmp_path):
    out = tmp_path / "test_resnet.safetensors"
    record = out.with_name(f"{out.name}.json")
    earlier = {"repository": "timm/test_resnet.r160_in1k", "commit": "f" * 40, "sha256": "e" * 64}
    record.write_text(json.dumps(earlier))
    answer = fetch(hub, out)
    assert answer.returncode == 1 and not out.exists() and json.loads(record.read_text()) == earlier
    (line,) = [line for line in answer.stderr.splitlines() if line.startswith("Error:")]
    assert f"{record}: the weights at 'main' differ: commit was {'f' * 40}, is {COMMIT}; sha256 was" in line
    assert "repository was" not in line
    assert "set downloads.revision to the earlier commit, or delete this record" in line


def test_an_unknown_revision_is_named(hub, tmp_path):
    answer = fetch(hub, tmp_path / "a.safetensors", "--revision", "feedbeef")
    assert answer.returncode == 1 and "no file at 'feedbeef' of timm/test_resnet" in answer.stderr
    assert not (tmp_path / "a.safetensors").exists()


def test_no_network_is_one_line_that_says_what_to_do(tmp_path):
    answer = fetch("http://127.0.0.1:9", tmp_path / "a.safetensors")
    assert answer.returncode == 1 and answer.stderr.count("Error:") == 1, answer.stderr
    (line,) = [line for line in answer.stderr.splitlines() if line.startswith("Error:")]
    assert "run again with a network, or put model.safetensors of timm/test_resnet" in line
