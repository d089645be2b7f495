"""Models on disk, and the state that a stopped training goes on from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from partialres.config import TrainConfig
from partialres.files import DataError
from partialres.training.checkpoint import (
    Resume,
    digest,
    load_model,
    load_weights,
    provenance,
    read_header,
    save_model,
)
from tests.tiny import TINY, equal_states


def save(model, path, vocabulary="words", words=None):
    words = model.language.embedding.num_embeddings if words is None else words
    save_model(model, path, words=words, vocabulary=vocabulary, provenance={"seed": 3})
    return path


def test_a_model_comes_back_with_its_weights_config_and_points(tiny_model, tmp_path):
    model = tiny_model(points=5, pmca=False)
    back = load_model(save(model, tmp_path / "model.safetensors"), "words")
    assert equal_states(model, back) and back.points == 5 and back.config == model.config
    assert not back.training
    header = read_header(tmp_path / "model.safetensors")
    assert header["vocabulary"] == "words" and json.loads(header["provenance"]) == {"seed": 3}
    assert json.loads(header["model"])["bins"] == TINY.bins


def test_a_model_is_the_same_bytes_in_every_process(tiny_model, tmp_path):
    here = save(tiny_model(), tmp_path / "here.safetensors")
    code = (
        "import sys; from pathlib import Path; from partialres.training.checkpoint import load_model, save_model;"
        "model = load_model(Path(sys.argv[1])); words = model.language.embedding.num_embeddings;"
        "save_model(model, Path(sys.argv[2]), words=words, vocabulary='words', provenance={'seed': 3})"
    )
    there = tmp_path / "there.safetensors"
    subprocess.run([sys.executable, "-c", code, here, there], check=True, cwd=Path(__file__).parents[2])
    assert there.read_bytes() == here.read_bytes()


def test_a_model_of_another_vocabulary_is_refused(tiny_model, tmp_path):
    path = save(tiny_model(), tmp_path / "model.safetensors")
    for load in (lambda: load_model(path, "others"), lambda: load_weights(tiny_model(), path, "others")):
        with pytest.raises(DataError, match=r"model\.safetensors: trained with another vocabulary \(words, not others"):
            load()


def test_what_is_not_one_of_our_models_is_named(tmp_path):
    (tmp_path / "text.safetensors").write_text("no model")
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    for name in ("text", "other", "absent"):
        with pytest.raises(DataError, match=rf"{name}\.safetensors"):
            read_header(tmp_path / f"{name}.safetensors")


def test_a_model_cut_short_is_refused(tiny_model, tmp_path):
    path = save(tiny_model(), tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"model\.safetensors: cannot be read"):
        load_model(path)


def test_step_2_starts_from_all_of_step_1_but_the_position_table_and_pmca(tiny_model, tmp_path):
    box = tiny_model(points=2, seed=1, cctf=False, pmca=False)
    path = save(box, tmp_path / "rec.safetensors")
    model = tiny_model(points=6, seed=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fresh = load_weights(model, path, "words")
    assert "positions.weight" in fresh and all(name.startswith(("positions.", "decoder.0.prior.")) for name in fresh)
    given = box.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] if name in fresh else given[name]), name


def test_a_position_table_of_the_same_length_is_kept(tiny_model, tmp_path):
    path = save(tiny_model(points=6, seed=1), tmp_path / "res.safetensors")
    model = tiny_model(points=6, seed=2)
    assert load_weights(model, path, "words") == []
    assert equal_states(model, load_model(path))


def test_an_extended_position_table_knows_which_places_are_x_and_which_are_y(tiny_model, tmp_path):
    box = tiny_model(points=2, seed=1)
    path = save(box, tmp_path / "rec.safetensors")
    model = tiny_model(points=4, seed=2)
    initial, short = model.positions.weight.detach().clone(), box.positions.weight.detach()
    assert "positions.weight" not in load_weights(model, path, "words", "extend")
    expected = torch.cat([short[:2], *[initial[place : place + 2] + short[2:4] for place in (2, 4, 6)], short[4:]])
    assert torch.equal(model.positions.weight.detach(), expected)


def test_a_model_without_pmca_starts_from_one_with_it(tiny_model, tmp_path):
    path = save(tiny_model(seed=1), tmp_path / "ours.safetensors")
    assert load_weights(tiny_model(seed=2, pmca=False), path, "words") == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"bins": 40}, "coordinates.weight"),
        ({"width": 32}, "coordinates.weight"),
        ({"width": 32, "pmca": False}, "coordinates.weight"),
        ({"encoder_layers": 2}, "encoder.1"),
        ({"decoder_layers": 2}, "decoder.1"),
        ({"feedforward": 24}, "feedforward"),
        ({"word": 12}, "language"),
    ],
)
def test_a_model_of_other_sizes_is_refused_by_the_names_that_do_not_fit(tiny_model, tmp_path, changes, named):
    path = save(tiny_model(), tmp_path / "rec.safetensors")
    for model, source in ((tiny_model(**changes), path), (tiny_model(), save(tiny_model(**changes), tmp_path / "b"))):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(DataError, match="does not fit the model") as caught:
            load_weights(model, source, "words")
        assert named in str(caught.value)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


STATE = {"model": {"weight": torch.arange(500.0)}, "history": [{"epoch": 0, "loss": 1.5}], "steps": 3}


def test_a_state_comes_back_under_its_key_and_under_no_other(tmp_path):
    state = Resume(tmp_path, {"seed": 0})
    assert state.load() is None
    state.save(STATE)
    back = Resume(tmp_path, {"seed": 0}).load()
    assert torch.equal(back["model"]["weight"], STATE["model"]["weight"]) and back["history"] == STATE["history"]
    assert Resume(tmp_path, {"seed": 1}).load() is None
    state.clear()
    assert Resume(tmp_path, {"seed": 0}).load() is None and not list(tmp_path.iterdir())
    state.clear()


def test_without_a_folder_nothing_is_kept():
    state = Resume(None, {})
    state.save(STATE)
    state.clear()
    assert state.load() is None


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved state, its file and the bytes of it."""
    state = Resume(tmp_path_factory.mktemp("resume"), {})
    state.save(STATE)
    return state, state.path.read_bytes()


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=9), st.booleans())
def test_a_damaged_state_is_no_state(saved, place, noise, cut):
    state, whole = saved
    place %= len(whole)
    damaged = whole[:place] if cut else whole[:place] + noise + whole[place + len(noise) :]
    state.path.write_bytes(damaged)
    assert (state.load() is None) == (damaged != whole)


def test_training_says_that_it_starts_anew(saved, capsys):
    state, whole = saved
    state.path.write_bytes(whole[: len(whole) // 2])
    assert state.load() is None
    assert "starting anew" in capsys.readouterr().err


class Foreign:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_state_that_would_run_code_is_refused(tmp_path, capsys):
    state = Resume(tmp_path / "states", {})
    state.save({"model": Foreign(tmp_path / "created")})
    assert state.load() is None and not (tmp_path / "created").exists()
    assert "starting anew" in capsys.readouterr().err
    torch.load(state.path, weights_only=False)
    assert (tmp_path / "created").exists()  # so the danger was real


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


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": TINY}) == digest({"b": TINY, "a": 1}) != digest({"a": 2, "b": TINY})
