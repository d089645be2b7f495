"""The state from which a stopped training resumes."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from partialres.training.resume import Resume

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
    """A saved state, its file and the file's bytes."""
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
    """An object whose unpickling creates a file."""

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
    assert (tmp_path / "created").exists()  # plain unpickling does run the code
